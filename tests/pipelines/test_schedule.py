"""Done on a grid of times; what was missed is done once."""

from pathlib import Path

import pytest

from recray.pipelines.schedule import last_done, run_every


class _Enough(Exception):
    pass


def times_done(state: Path, began: float, until: float, takes: float = 0.0) -> list[float]:
    """Of something every 100 seconds, by a clock that only sleeping and working move."""
    now, done = [began], []

    def work() -> None:
        done.append(now[0])
        now[0] += takes

    def sleep(duration_s: float) -> None:
        now[0] += duration_s
        if now[0] >= until:
            raise _Enough

    with pytest.raises(_Enough):
        run_every(100.0, state, work, clock=lambda: now[0], sleep=sleep)
    return done


def test_what_was_missed_is_done_once_and_on_the_old_grid(tmp_path: Path) -> None:
    state = tmp_path / "retrain" / "schedule.json"
    assert times_done(state, 1_000, 1_250) == [1_000, 1_100, 1_200]
    assert times_done(state, 1_770, 1_850) == [1_770, 1_800]
    assert last_done(state) == 1_800


def test_work_that_takes_long_moves_nothing(tmp_path: Path) -> None:
    assert times_done(tmp_path / "s.json", 0, 350, takes=30) == [0, 100, 200, 300]


def test_what_kills_the_process_is_not_tried_at_once_again(tmp_path: Path) -> None:
    def dies() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_every(100.0, tmp_path / "s.json", dies, clock=lambda: 50.0)
    assert times_done(tmp_path / "s.json", 60, 190) == [150]
