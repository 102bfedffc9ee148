"""A rule: named items stand at named places of the list."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recray.arrays import Int64s
from recray.config import ConfigError
from recray.features.candidates import Candidates
from recray.features.look_ups import LookUps
from recray.features.ranking.context import as_text
from recray.features.request import is_field
from recray.serve.barred import Barred
from recray.serve.query import MAX_K, Query
from recray.serve.rules.allowed import rows_of
from recray.serve.seen import Seen
from recray.serve.state import PINNED, RequestState
from recray.serve.versions import OpenedVersion

IF = " if "


class Pin(NamedTuple):
    """An item at a place, counted from 1, for requests whose context says so."""

    place: int
    item_id: str
    field: str | None = None
    value: str = ""

    @staticmethod
    def parse(text: str) -> "Pin":
        """``1=i7``, or ``1=i7 if market=de``.

        Raises:
            ConfigError: it is neither.
        """
        pin, has_condition, condition = text.partition(IF)
        place, found, item_id = pin.partition("=")
        field, is_equal, value = condition.partition("=")
        is_place = place.isascii() and place.isdigit() and 1 <= int(place) <= MAX_K
        if not (found and item_id and is_place) or (
            has_condition and not (is_field(field) and is_equal and value)
        ):
            raise ConfigError(
                f"pinned: items holds pins like 1=ID or '1=ID if market=de', places 1 to {MAX_K}, "
                f"got {text!r}"
            )
        return Pin(int(place), item_id, field if has_condition else None, value)

    def holds(self, query: Query) -> bool:
        return self.field is None or (
            self.field in query.context and as_text(query.context[self.field]) == self.value
        )


@dataclass(frozen=True, kw_only=True)
class PinnedConfig:
    """Named items stand at named places, but those that cannot be had, are not allowed or are excluded.

    What is pinned counts in no other rule. Of two pins for one place, the first that holds is taken.
    """

    items: tuple[str, ...] = ()
    """`1=ID`: this item at the top; `3=ID if market=de`: third, where the request's context says so."""
    even_seen: bool = False
    """Also to users who have seen the item."""

    def __post_init__(self) -> None:
        for text in self.items:
            Pin.parse(text)

    def pins(self, version: OpenedVersion, barred: Barred) -> "Pins | None":
        """None where nothing is pinned."""
        if not self.items:
            return None
        pins = [Pin.parse(text) for text in self.items]
        rows = rows_of(version, "pinned: items", [pin.item_id for pin in pins])
        known = [(pin, rows[pin.item_id]) for pin in pins if pin.item_id in rows]
        return Pins(known, version.event_log, barred, Seen(keeps=self.even_seen))


class Pins:
    """What is pinned of a request: taken out before the other rules act, and put in behind them.

    In between an item that is drawn is drawn from what is not pinned, so that its chance is exact, and that
    of a pin is 1.
    """

    def __init__(
        self, pins: Sequence[tuple[Pin, int]], log: LookUps | None, barred: Barred, seen: Seen
    ) -> None:
        self._pins, self._log, self._barred, self._seen = pins, log, barred, seen

    def of(self, query: Query) -> dict[int, int]:
        """Items by their places, counted from 1."""
        holding = [(pin.place, row) for pin, row in self._pins if pin.holds(query)]
        if not holding:
            return {}
        is_barred_I = self._barred.of(query.context).mask_I
        removed = set(self._seen.removed(query, self._log).tolist())
        found: dict[int, int] = {}
        for place, row in holding:
            is_free = place <= query.k and place not in found and row not in found.values()
            if is_free and not is_barred_I[row] and row not in removed:
                found[place] = row
        return dict(sorted(found.items()))

    def take_out(self, state: RequestState) -> RequestState:
        """Before the other rules."""
        pinned = list(self.of(state.query).values())
        return state.keep(~np.isin(state.item_ids_S, pinned)) if pinned else state

    def put_in(self, state: RequestState) -> RequestState:
        """Behind the other rules. Books ``pinned``. A list too short for a place ends with its item."""
        pinned = self.of(state.query)
        if not pinned:
            return state
        state = _with(state, np.array(list(pinned.values()), np.int64))
        order, chances = state.order_S.tolist(), state.propensities_S
        drawn = None if chances is None else chances.tolist()
        for place, row in pinned.items():
            candidate = int(np.flatnonzero(state.candidates.item_ids_K == row)[0])
            order.insert(place - 1, candidate)
            if drawn is not None:
                drawn.insert(place - 1, 1.0)
        state.clock.lap("pinned")
        return state._replace(
            order_S=np.array(order, np.int64), propensities_S=None if drawn is None else np.array(drawn)
        )


def _with(state: RequestState, rows: Int64s) -> RequestState:
    """These items are candidates, marked as pinned; those that were none are unranked."""
    item_ids_K, scores_K, sources_K = state.candidates
    new = rows[~np.isin(rows, item_ids_K)]
    nothing = np.full(len(new), np.nan, np.float32)
    candidates = Candidates(item_ids_K, scores_K, sources_K).then(
        Candidates(new, nothing, np.zeros(len(new), np.uint8))
    )
    is_pinned_K = np.isin(candidates.item_ids_K, rows)
    sources_K = candidates.sources_K | np.where(is_pinned_K, PINNED, 0).astype(np.uint8)
    return state._replace(
        candidates=candidates._replace(sources_K=sources_K), scores_K=np.append(state.scores_K, nothing)
    )
