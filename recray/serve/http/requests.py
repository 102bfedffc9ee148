"""What a client may ask, and how a wrong request is answered.

Parsing is one pass of pydantic-core over the raw bytes: whatever they hold, the outcome is a
``RecommendRequest`` or a ``RequestError``.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, StringConstraints, ValidationError
from pydantic.types import StrictBool, StrictInt
from pydantic_core import CoreSchema, ErrorDetails, core_schema

from recray.arrays import Int64s
from recray.config import nearest
from recray.features.request import FIELD_LETTERS, FIELD_PATTERN
from recray.serve.query import MAX_HISTORY, MAX_K

MAX_EXPLAINED = 50  # items whose reasons one request may ask for: of trees a millisecond or more each
MAX_BUDGET_MS = 60_000
MAX_CONTEXT = 20  # fields of a request's context
MAX_CONTEXT_TEXT = 200
MAX_BODY_BYTES = 256 * 1024
MAX_ROWS = 1_000
MAX_ROWS_BODY_BYTES = 4 * 1024 * 1024  # a thousand rows of Criteo's 39 columns have half a megabyte
LATEST_TIME = 2**33  # unix seconds, the year 2242: later ones are milliseconds by mistake

RawId = (
    Annotated[str, StringConstraints(min_length=1, max_length=200, strict=True, strip_whitespace=True)]
    | Annotated[StrictInt, Field(ge=-(2**63), lt=2**64)]
)
RawIds = Annotated[list[RawId], Field(max_length=MAX_HISTORY)]
UnixSeconds = Annotated[StrictInt, Field(ge=0, lt=LATEST_TIME)]
FieldName = Annotated[str, StringConstraints(pattern=f"^{FIELD_PATTERN}$", max_length=FIELD_LETTERS)]


class _ContextValue:
    """Text, a finite number, true or false; one message for all of them."""

    @staticmethod
    def __get_pydantic_core_schema__(source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.union_schema(
            [
                core_schema.str_schema(strict=True, max_length=MAX_CONTEXT_TEXT),
                core_schema.bool_schema(strict=True),
                core_schema.int_schema(strict=True, ge=-(2**63), lt=2**63),
                core_schema.float_schema(strict=True, allow_inf_nan=False),
            ],
            custom_error_type="no_value",
            custom_error_message="Input should be text (up to 200 letters), a finite number, true or false",
            mode="left_to_right",
        )


class RecommendRequest(BaseModel):
    """Body of ``POST /recommend``. Ids are those of the raw data, as text or number.

    Blanks around an id are no part of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    user_id: RawId | None = Field(None, description="who asks; absent or unknown: a fallback is used")
    k: Annotated[StrictInt, Field(ge=1, le=MAX_K, description="how many items to return")] = 10
    history: RawIds | None = Field(None, description="items the user had to do with, oldest first")
    history_times: Annotated[list[UnixSeconds], Field(max_length=MAX_HISTORY)] | None = Field(
        None, description="unix seconds of each item of the history; absent: just before the request"
    )
    exclude: RawIds = Field([], description="items that must not come back")
    request_time: UnixSeconds | None = Field(
        None, description="unix seconds; nothing later is used. Absent: now"
    )
    explain: StrictBool = Field(
        False, description=f"add each item's features and what they contributed; up to k={MAX_EXPLAINED}"
    )
    budget_ms: Annotated[StrictInt, Field(ge=1, le=MAX_BUDGET_MS)] | None = Field(
        None, description="for the whole answer; what there is no time for is left out, and said"
    )
    context: Annotated[
        dict[FieldName, Annotated[bool | int | float | str, _ContextValue]], Field(max_length=MAX_CONTEXT)
    ] = Field(
        {},
        description="fields of this request, such as market or device: rules and rankers read them",
    )
    strict: StrictBool = Field(
        False, description="refuse ids in history and exclude that are not known, instead of leaving them out"
    )

    def time(self) -> int:
        """The request time, unix seconds."""
        return int(time.time()) if self.request_time is None else self.request_time

    def times_of_history(self, request_time: int) -> Int64s | None:
        """``history_times``, or None where the client sent none.

        Raises:
            RequestError: 422, there is not one per item, one is before its predecessor, or one is after
                the request.
        """
        times = self.history_times
        if times is None:
            return None
        if len(times) != len(self.history or ()):
            raise _wrong_times(
                f"{len(times)} for a history of {len(self.history or ())} items; send one each"
            )
        for place, (earlier, later) in enumerate(pairwise(times), start=1):
            if later < earlier:
                raise _wrong_times(f"{later} at position {place} is before {earlier}; send oldest first")
        if times and times[-1] > request_time:
            place = next(place for place, one in enumerate(times) if one > request_time)
            raise _wrong_times(f"{times[place]} at position {place} is after the request at {request_time}")
        return np.array(times, np.int64)


class _Value:
    """What a column can hold; one message, where a plain union would have one for each of its types."""

    @staticmethod
    def __get_pydantic_core_schema__(source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.union_schema(
            [
                core_schema.str_schema(strict=True),
                core_schema.int_schema(strict=True),
                core_schema.float_schema(strict=True, allow_inf_nan=False),
                core_schema.bool_schema(strict=True),
                core_schema.none_schema(),
            ],
            custom_error_type="no_value",
            custom_error_message="Input should be text, a finite number, true, false or null",
            mode="left_to_right",
        )


Row = dict[Annotated[str, StringConstraints(max_length=200)], Annotated[object, _Value]]


class ScoreRequest(BaseModel):
    """Body of ``POST /score``: rows as they stood in the table, by name of the column, without the label.

    What a row leaves out, null and empty text are missing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: Annotated[list[Row], Field(min_length=1, max_length=MAX_ROWS)]


@dataclass
class RequestError(Exception):
    """A request that gets no answer: the status and the reason to read."""

    status: int  # 4xx, or 503
    reason: str  # for programs, e.g. "unknown_item"
    message: str  # for people: what was wrong, and what to send instead
    headers: dict[str, str] = field(default_factory=dict)  # of the answer, such as retry-after

    def to_json(self, request_id: str) -> dict[str, Any]:
        return {"error": self.reason, "message": self.message, "request_id": request_id}

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.message}"


def _wrong_times(what: str) -> RequestError:
    return RequestError(422, "invalid_request", f"history_times: {what}")


R = TypeVar("R", bound=BaseModel)
_MAX_REPORTED = 5
OF_OBJECTS = ("rows", "events")  # fields that are lists of objects


def parse(body: bytes, kind: type[R]) -> R:
    """The request of a kind in a JSON body.

    Raises:
        RequestError: 400 where it is not JSON in UTF-8, 422 where a field is wrong.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _explain(error, kind.model_fields) from None


def _explain(error: ValidationError, fields: Iterable[str]) -> RequestError:
    # Inputs are left out of the message: they may be large, or not even text.
    problems = error.errors(include_url=False, include_input=False)
    if problems[0]["type"] == "json_invalid":
        return RequestError(400, "malformed_json", problems[0]["msg"])
    by_field: dict[str, list[ErrorDetails]] = {}
    for problem in problems:
        by_field.setdefault(_field(problem["loc"]), []).append(problem)
    named = [f"{field}: {_message(found)}" for field, found in list(by_field.items())[:_MAX_REPORTED]]
    if problems[0]["type"] == "extra_forbidden" and len(problems[0]["loc"]) == 1:
        named[0] += nearest(str(problems[0]["loc"][0]), fields)
    return RequestError(422, "invalid_request", "; ".join(named))


_INPUT = "Input should be "


def _message(problems: Sequence[ErrorDetails]) -> str:
    """What is wrong with one field. A union has a problem for each of its types: that of the type which the
    value has says most; where it has none of them, they are named."""
    first = next((one for one in problems if not one["type"].endswith("_type")), None)
    if first is None:
        wanted = dict.fromkeys(one["msg"].removeprefix(_INPUT) for one in problems)
        return _INPUT + " or ".join(wanted)
    if first.get("ctx", {}).get("lt") == LATEST_TIME:
        return f"{_INPUT}unix seconds: divide milliseconds by 1000"
    return first["msg"]


def _field(location: tuple[int | str, ...]) -> str:
    """``("history", 3, "constrained-str")`` -> ``"history[3]"``, ``("rows", 3, "price")`` ->
    ``"rows[3].price"``; names are cut to 40 characters."""
    if not location:
        return "body"
    index = f"[{location[1]}]" if len(location) > 1 and isinstance(location[1], int) else ""
    names = [location[0], *(location[2:3] if location[0] in OF_OBJECTS else ())]
    field, *column = (f"{str(name)[:40]!a}"[1:-1] for name in names)
    return ".".join([field + index, *column])
