"""Milliseconds per stage."""

import time

import pytest

from recray.serve.clock import StageClock


def test_laps_add_up_and_stages_repeat() -> None:
    clock = StageClock()
    time.sleep(0.002)
    clock.lap("retrieve")
    clock.lap("filter")
    time.sleep(0.002)
    clock.lap("retrieve")
    timings_ms = clock.stop()
    assert list(timings_ms) == ["retrieve", "filter", "total"]
    assert timings_ms["retrieve"] >= 4.0
    assert timings_ms["total"] >= timings_ms["retrieve"] + timings_ms["filter"] - 0.002


def test_time_elsewhere_is_split_into_its_stages_and_the_hops() -> None:
    clock = StageClock()
    time.sleep(0.005)
    clock.lap_elsewhere({"features": 1.0, "rank": 2.0})
    clock.lap_elsewhere({"rank": 0.0})
    timings_ms = clock.stop()
    assert [timings_ms["features"], timings_ms["rank"]] == [1.0, 2.0]
    assert timings_ms["hops"] >= 2.0
    assert sum(timings_ms.values()) - timings_ms["total"] == pytest.approx(timings_ms["total"], abs=0.05)
