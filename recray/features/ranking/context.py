"""When the request is made, and what it says of itself."""

from dataclasses import dataclass

import numpy as np

from recray.features.past import DAY_S
from recray.features.ranking.feature import Group, RankingFeature, Value
from recray.features.ranking.known import Known, KnownOfQuery
from recray.features.request import Context, is_field

CONTEXT = Group[Known]("context")
SAID = "context."  # what such features' names begin with
_LARGEST = float(np.finfo(np.float32).max)


@CONTEXT.feature("hours")
def hour_of_day(known: Known) -> Value:
    """Hour of the request, UTC, 0 to 23."""
    return known.time % DAY_S // 3600


@CONTEXT.feature("days")
def day_of_week(known: Known) -> Value:
    """Day of the request, UTC, Monday 0 to Sunday 6."""
    return (known.time // DAY_S + 3) % 7


@dataclass(frozen=True)
class Field:
    """What a ranker goes by of a request's context; missing where the request does not say it."""

    name: str
    value: str | None  # None: the field's own number

    def of(self, context: Context) -> float:
        """NaN where missing."""
        if (said := context.get(self.name)) is None:
            return np.nan
        if self.value is not None:
            return float(as_text(said) == self.value)
        return float(said) if not isinstance(said, str) and abs(said) <= _LARGEST else np.nan


def field_of(name: str) -> Field | None:
    """Of a feature's name, ``context.market=de`` or ``context.basket``; None: it is no such feature's."""
    if not name.startswith(SAID):
        return None
    field, is_flag, value = name.removeprefix(SAID).partition("=")
    if not is_field(field) or bool(is_flag) != bool(value) or set(value) & set("[]<"):
        return None  # XGBoost refuses these letters in names
    return Field(field, value if is_flag else None)


class OfContext(dict[str, RankingFeature[KnownOfQuery]]):
    """The features of fields of a context, each made when its name is asked for."""

    def __missing__(self, name: str) -> RankingFeature[KnownOfQuery]:
        if (field := field_of(name)) is None:
            raise KeyError(name)
        unit, text = ("as given", NUMBER) if field.value is None else ("flag", FLAG)
        return RankingFeature(name, "context", unit, text, lambda known: field.of(known.query.context))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and field_of(name) is not None


NUMBER = "The number in that field of the request's context; missing where it says none."
FLAG = "1 where that field of the request's context has that value, 0 where another one, else missing."


def as_text(value: bool | float | str) -> str:
    """Of a context's field, as values are compared with it: ``true``, ``7`` (also of 7.0), ``de``."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
