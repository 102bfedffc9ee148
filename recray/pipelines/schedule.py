"""Something that is done again and again: when it was last done stands in a file."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from recray.folders import write_whole

log = logging.getLogger(__name__)
LOOK_EVERY_S = 60.0  # a machine that slept is noticed


def due(last: float | None, every_s: float, now: float) -> bool:
    """Whether it is time: at once the first time, and once however often it was missed."""
    return last is None or now - last >= every_s


def run_every(
    every_s: float,
    state: Path,
    work: Callable[[], object],
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Does it whenever it is due, until somebody stops the process; begun anew, it goes on by the file.

    It is written down that it is done before it is: what kills the process is not tried without end.
    """
    state.parent.mkdir(parents=True, exist_ok=True)
    while True:
        now, last = clock(), last_done(state)
        if due(last, every_s, now):
            # By the grid of the first time, so that what takes long does not move it.
            done = now if last is None else last + (now - last) // every_s * every_s
            write_whole(state, json.dumps({"last": done}).encode())
            work()
        else:
            assert last is not None
            sleep(min(LOOK_EVERY_S, last + every_s - now))


def last_done(state: Path) -> float | None:
    """Unix seconds; None: never."""
    return float(json.loads(state.read_text())["last"]) if state.is_file() else None
