"""Stages that may be left out: in time, late, and broken."""

import sys
import time
from typing import Any

import numpy as np
import pytest

from recray.serve.clock import StageClock
from recray.serve.query import Query
from recray.serve.stages.guard import Guarded
from recray.serve.stages.rank import Rank
from recray.serve.state import RequestState, Skipped
from tests.serve.world import NOW


class Slow:
    def __init__(self, seconds: float) -> None:
        self.seconds, self.calls = seconds, 0

    def __call__(self, state: RequestState) -> RequestState:
        self.calls += 1
        time.sleep(self.seconds)
        return state._replace(known_until=7)


def broken(state: RequestState) -> RequestState:
    raise ZeroDivisionError("no such luck")


def asked(budget_ms: float | None = None, *, lenient: bool = True) -> RequestState:
    query = Query(-1, None, np.empty(0, np.int64), NOW, k=3, budget_ms=budget_ms, lenient=lenient)
    return RequestState(query, StageClock())


def test_without_a_budget_a_stage_takes_what_it_takes() -> None:
    stage = Slow(0.01)
    guarded = Guarded("rank", stage)
    for _ in range(5):
        assert guarded(asked()).known_until == 7
    assert stage.calls == 5


def test_what_there_is_no_time_for_is_left_out_and_tried_again_by_and_by() -> None:
    stage = Slow(0.02)
    guarded = Guarded("rank", stage)
    guarded(asked(lenient=False))  # of the version's own trial nothing is learnt
    for _ in range(40):
        guarded(asked())
    before = stage.calls
    late = guarded(asked(budget_ms=5))
    assert late.skipped == (Skipped("rank", "late"),)
    assert late.known_until is None
    assert stage.calls == before
    assert guarded(asked(budget_ms=500)).skipped == ()
    for _ in range(100):
        guarded(asked(budget_ms=5))
    assert stage.calls > before + 1


def test_no_request_waits_for_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the seconds that it took the first one the stage would be left out of the next ones."""
    monkeypatch.delitem(sys.modules, "recray.ops.look_up_loops", raising=False)
    nothing: Any = None
    Rank(nothing, nothing)
    assert "recray.ops.look_up_loops" in sys.modules


def test_a_budget_that_is_spent_already_leaves_it_out() -> None:
    state = asked(budget_ms=1)
    time.sleep(0.002)
    assert Guarded("explain", Slow(0.0))(state).skipped == (Skipped("explain", "late"),)


def test_a_broken_stage_is_left_out_of_an_answer_and_never_of_a_measurement(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("ERROR", logger="recray")
    assert Guarded("rank", broken)(asked()).skipped == (Skipped("rank", "failed"),)
    assert "no such luck" in caplog.text
    with pytest.raises(ZeroDivisionError):
        Guarded("rank", broken)(asked(lenient=False))
