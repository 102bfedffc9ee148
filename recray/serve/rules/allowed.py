"""A rule: which items may be served at all, and which to a request of this context."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from recray.arrays import Bools, Int64s
from recray.config import ConfigError, nearest
from recray.features.ranking.context import as_text
from recray.features.request import is_field
from recray.folders import file_sha256
from recray.serve.barred import Allowed, Barred
from recray.serve.versions import OpenedVersion

log = logging.getLogger(__name__)

CONTEXT = "context."


class Condition(NamedTuple):
    """``column=value``, or ``column=context.field``: the value that a request's context has there."""

    column: str
    value: str

    @staticmethod
    def parse(option: str, text: str) -> "Condition":
        """
        Raises:
            ConfigError: it is no condition.
        """
        column, found, value = text.partition("=")
        condition = Condition(column, value)
        if not (found and column and value and (condition.field is None or is_field(condition.field))):
            raise ConfigError(
                f"allowed: {option} holds conditions like genres=drama or market=context.market, got {text!r}"
            )
        return condition

    @property
    def field(self) -> str | None:
        """Of the context; None: the value stands here."""
        return self.value.removeprefix(CONTEXT) if self.value.startswith(CONTEXT) else None


@dataclass(frozen=True, kw_only=True)
class AllowedConfig:
    """Items that are never served, and the only ones that are. First stages know it: lists stay full.

    A condition is `column=value`; of a column of lists, one of them is the value. Numbers and truth values
    are as JSON has them: `year=1999`, `adult=false`. Items of which nothing is said have no value.
    """

    only: tuple[str, ...] = ()
    """Ids of the only items that may be served; none: all."""
    only_file: str = ""
    """A file with more of them, one a line."""
    only_where: tuple[str, ...] = ()
    """Conditions: of each column that is named, one holds. `market=context.market` compares with what the
    request's context says; without the field it is no condition."""
    deny: tuple[str, ...] = ()
    """Ids of items that are never served."""
    deny_file: str = ""
    """A file with more of them, one a line."""
    deny_where: tuple[str, ...] = ()
    """Conditions: items of which one holds are never served."""

    def __post_init__(self) -> None:
        for option in ("only_where", "deny_where"):
            for text in getattr(self, option):
                condition = Condition.parse(option, text)
                if option == "deny_where" and condition.field:
                    raise ConfigError(f"allowed: deny_where cannot read the context ({text}); only_where can")

    def contents(self) -> dict[str, str]:
        """The sha256 of each file, by option: what is answered depends on what stands there.

        Raises:
            ConfigError: it cannot be read.
        """
        named = {"only_file": self.only_file, "deny_file": self.deny_file}
        try:
            return {option: file_sha256(Path(file)) for option, file in named.items() if file}
        except OSError as error:
            raise ConfigError(f"allowed: a file of ids cannot be read: {error}") from None

    def deny_in(self, version: OpenedVersion, barred: Barred) -> None:
        """
        Raises:
            ConfigError: a column or a file is not there, or nothing may be served.
        """
        items = version.catalogue[1]
        denied_I = self._named(version, "deny", self.deny, self.deny_file)
        for text in self.deny_where:
            denied_I |= _holds(items, Condition.parse("deny_where", text))
        if self.only or self.only_file:
            denied_I |= ~self._named(version, "only", self.only, self.only_file)
        conditions = [Condition.parse("only_where", text) for text in self.only_where]
        columns = dict.fromkeys(condition.column for condition in conditions)
        barred.deny(denied_I, tuple(_allowed(items, column, conditions) for column in columns))
        if len(barred.now.denied_ids) == len(items):
            raise ConfigError(
                f"allowed: no item of {version.bundles.retriever.reference} may be served by these rules"
            )

    @property
    def is_on(self) -> bool:
        return self != AllowedConfig()

    def _named(self, version: OpenedVersion, option: str, named: Sequence[str], file: str) -> Bools:
        raw_ids = list(named)
        if file:
            try:
                lines = Path(file).read_text("utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"allowed: {option}_file {file} cannot be read: {error}") from None
            raw_ids += [line.strip() for line in lines if line.strip()]
        mask_I = np.zeros(len(version.catalogue[1]), bool)
        mask_I[list(rows_of(version, f"allowed: {option}", raw_ids).values())] = True
        return mask_I


def rows_of(version: OpenedVersion, what: str, raw_ids: Sequence[str]) -> dict[str, int]:
    """Of the items that the catalogue has: the others may have left it, or are yet to be told of."""
    rows = {raw: version.item_rows[raw] for raw in raw_ids if raw in version.item_rows}
    if missing := [raw for raw in raw_ids if raw not in rows]:
        reference = version.bundles.retriever.reference
        log.warning("%s: %s has no item %r, nor %d more", what, reference, missing[0], len(missing) - 1)
    return rows


def _allowed(items: pl.DataFrame, column: str, conditions: Sequence[Condition]) -> Allowed:
    """By all conditions of a column."""
    own = [condition for condition in conditions if condition.column == column]
    always = [_holds(items, condition) for condition in own if condition.field is None]
    return Allowed(
        tuple(condition.field for condition in own if condition.field is not None),
        _by_value(items, column),
        np.logical_or.reduce(always) if always else None,
    )


def _holds(items: pl.DataFrame, condition: Condition) -> Bools:
    holds_I, by_value = np.zeros(len(items), bool), _by_value(items, condition.column)
    value = condition.value
    if items.schema[condition.column].is_float():
        with suppress(ValueError):  # what is no number holds nowhere
            value = as_text(float(value))
    if value not in by_value:
        log.warning("allowed: no item has %s=%s%s", *condition, nearest(value, by_value))
    holds_I[by_value.get(value, [])] = True
    return holds_I


def _by_value(items: pl.DataFrame, column: str) -> dict[str, Int64s]:
    """The rows of each value of a column, or of each value in its lists."""
    if column not in items.columns:
        raise ConfigError(f"allowed: the items have no column {column!r}{nearest(column, items.columns)}")
    values = items.select(pl.col(column)).with_row_index("row")
    if isinstance(items.schema[column], (pl.List, pl.Array)):
        values = values.explode(column)
    is_float, found = items.schema[column].is_float(), dict[str, list[int]]()
    by_value = values.drop_nulls().group_by(pl.col(column).cast(pl.String)).agg("row")
    for value, rows in by_value.iter_rows():
        found.setdefault(as_text(float(value)) if is_float else value, []).extend(rows)  # -0.0 is 0 too
    return {value: np.array(rows, np.int64) for value, rows in found.items()}
