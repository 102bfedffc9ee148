"""One alarm, one clear, no storm; a day's chance is shared by its looks."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from recray.monitor.alarms import DAY_CHANCE, AlarmState, after_telling, looked, message
from recray.monitor.drift_files import read_latest, read_state, write_state
from recray.monitor.drift_report import Checked, FeatureDrift
from recray.schema import DataError

HOUR_S = 3600.0


def feature(name: str, p_value: float, *, alarm: bool = False) -> FeatureDrift:
    test = Checked(test="ks", statistic=0.1, threshold=0.05 if alarm else 0.2, p_value=p_value, alarm=alarm)
    return FeatureDrift(
        name=name, group="features", kind="numeric", tests=(test,), alarm=alarm, sentence=f"{name} moved"
    )


def after(
    state: AlarmState, at: float, features: Sequence[FeatureDrift], version: str = "shop@1"
) -> AlarmState:
    return looked(state, tuple(features), at, version).state


def test_a_day_has_one_chance_however_often_somebody_looks() -> None:
    for every_s in (10.0, HOUR_S, 24 * HOUR_S):
        state, spent, now = AlarmState(looked_at=0.0), 0.0, 0.0
        while now < 24 * HOUR_S:
            now += every_s
            spent += state.chance(now)
            state = after(state, now, ())
        assert spent == pytest.approx(DAY_CHANCE)
    assert AlarmState(looked_at=0.0).chance(100 * 24 * HOUR_S) == DAY_CHANCE


def test_an_alarm_stands_until_two_calm_looks_in_a_row() -> None:
    state, told = AlarmState(), []
    for hour, p_value in enumerate([0.0, 0.9, 0.1, 0.0, 0.5, 0.3, 0.9]):
        change = looked(state, (feature("price", p_value, alarm=p_value == 0.0),), hour * HOUR_S, "shop@1")
        state = change.state
        told.append((len(change.raised), len(change.cleared), len(state.standing)))
    assert told == [(1, 0, 1), (0, 0, 1), (0, 0, 1), (0, 0, 1), (0, 0, 1), (0, 1, 0), (0, 0, 0)]


def test_what_cannot_be_judged_stays_as_it_is() -> None:
    state = after(AlarmState(), 0.0, [feature("price", 0.0, alarm=True)])
    gone = FeatureDrift(name="price", group="features", kind="numeric", note="nothing that was shown has it")
    for hour in range(1, 5):
        state = after(state, hour * HOUR_S, [gone])
    assert [alarm.name for alarm in state.standing] == ["price"]


def test_an_alarm_ends_with_its_version() -> None:
    """What is not watched any more would stand for good otherwise, and `--when-drift` train without end."""
    state = after(AlarmState(), 0.0, [feature("price", 0.0, alarm=True), feature("age", 0.0, alarm=True)])
    state = after_telling(after(state, HOUR_S, [feature("age", 0.9)]), HOUR_S)
    change = looked(state, (feature("price", 0.0, alarm=True),), 9 * HOUR_S, "shop@2")
    assert [(alarm.name, alarm.version, alarm.cleared) for alarm in change.cleared] == [
        ("price", "shop@1", 9 * HOUR_S),
        ("age", "shop@1", 9 * HOUR_S),
    ]
    assert [(alarm.name, alarm.version) for alarm in change.state.standing] == [("price", "shop@2")]
    assert change.state.calm == {}
    said = message(change.state, "shop", 9 * HOUR_S)
    assert said is not None
    assert said[0] == "shop: drift, 1 raised and 2 cleared"
    assert "+ price moved" in said[1]
    assert "- age: it was of shop@1, now shop@2" in said[1]


def test_twenty_alarms_are_one_message() -> None:
    names = [f"f{n}" for n in range(20)]
    state = after(AlarmState(), 0.0, [feature(name, 0.0, alarm=True) for name in names])
    said = message(state, "shop", HOUR_S)
    assert said is not None
    assert said[0] == "shop: drift, 20 raised"
    assert all(f"+ {name} moved" in said[1] for name in names)
    state = after_telling(state, HOUR_S)
    assert message(state, "shop", 9 * HOUR_S) is None
    state = after(state, 9 * HOUR_S, [feature("one more", 0.0, alarm=True)])
    assert message(state, "shop", 1.5 * HOUR_S) is None  # a moment after the last one
    again = message(state, "shop", 9 * HOUR_S)
    assert again is not None
    assert again[0] == "shop: drift, 1 raised"


def test_a_clock_that_was_ahead_silences_nobody() -> None:
    """Set back by a year, it would have been a year until people are told again."""
    state = after_telling(AlarmState(), 365 * 24 * HOUR_S)
    state = after(state, HOUR_S, [feature("price", 0.0, alarm=True)])
    assert message(state, "shop", HOUR_S) is not None


def test_what_came_and_went_untold_is_no_message() -> None:
    state = after(AlarmState(), 0.0, [feature("price", 0.0, alarm=True)])
    for hour in (1, 2):
        state = after(state, hour * HOUR_S, [feature("price", 0.9)])
    assert state.standing == ()
    assert message(state, "shop", 3 * HOUR_S) is None


def test_the_state_is_kept(tmp_path: Path) -> None:
    assert read_state(tmp_path) == AlarmState()
    state = after_telling(after(AlarmState(), 0.0, [feature("price", 0.0, alarm=True)]), 5.0)
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    (tmp_path / "state.json").write_text(json.dumps({"standing": 3}))
    with pytest.raises(DataError, match="delete it, alarms are then raised anew"):
        read_state(tmp_path)
    assert read_latest(tmp_path) is None
    (tmp_path / "latest.json").write_text("{}")
    with pytest.raises(DataError, match="is no report"):
        read_latest(tmp_path)
