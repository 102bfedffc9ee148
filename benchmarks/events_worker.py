"""A program that writes an event log until it ends or is killed, and says what was acknowledged.

``python -m benchmarks.events_worker FOLDER``: a line of JSON, at once, for everything that the log has. An
hour goes by every three rounds. What each number stands for is ``event_of`` and ``answer_of``, so that it is
known what every row must be.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np

from recray.event_log.records import Drawn, Event, Exposure
from recray.event_log.tables import Answer, encoded
from recray.event_log.writer import LogWriter

AT = 1_700_000_000.0
OF_ROUND = 8  # numbers; each stands for an answer and an event that follows it
ROUND_S = 1_200.0


def user_of(number: int) -> str:
    return f"user-{number % 5}-of-the-log"


LEAVES = user_of(3)


def event_of(number: int) -> Event:
    at = AT + number
    request = f"request-{number}"
    return Event(user_of(number), f"item-{number % 3}", 1.0, at, f"event-{number}", "click", request, at)


def answer_of(number: int) -> Answer:
    items = tuple(Drawn(f"item-{place}", 0.5**place, "two_tower", 0.25) for place in range(3))
    features_KF = np.arange(6, dtype=np.float32).reshape(3, 2) + number
    exposure = Exposure(
        f"request-{number}",
        AT + number,
        user_of(number),
        int(AT),
        3,
        items,
        {"ranker": "shop@1"},
        feature_names=("price", "age"),
        features_KF=features_KF,
    )
    return encoded(exposure)


def say(**what: object) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())


def write_round(
    log: LogWriter, numbers: Sequence[int], pool: ThreadPoolExecutor, beside: Callable[[], object]
) -> None:
    """From several threads at once, and something else beside it."""

    def write(number: int) -> None:
        log.expose([answer_of(number)])
        say(answer=number)
        log.record([event_of(number)])
        say(event=number)

    other = pool.submit(beside)
    for _ in pool.map(write, numbers):  # what fails, fails here
        pass
    other.result()


def forget(log: LogWriter) -> None:
    say(leaving=LEAVES)
    log.forget(LEAVES)
    say(left=LEAVES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--compacting", action="store_true", help="without a pause")
    parser.add_argument("--forgetting", action="store_true", help="one user, after two thirds of the rounds")
    options = parser.parse_args()
    now, leaves_at = [time.time()], options.rounds * 2 // 3 if options.forgetting else options.rounds
    with patch("time.time", lambda: now[0]), ThreadPoolExecutor(4) as pool:
        log = LogWriter(options.folder, compact_every_s=1e-3 if options.compacting else 3_600.0)
        for turn in range(options.rounds):
            first = options.first + turn * OF_ROUND
            numbers = range(first, first + OF_ROUND)
            beside = partial(forget, log) if turn == leaves_at else log.compact if turn % 2 else int
            is_here = [n for n in numbers if turn < leaves_at or user_of(n) != LEAVES]
            write_round(log, is_here, pool, beside)
            now[0] += ROUND_S
        log.close()


if __name__ == "__main__":
    main()
