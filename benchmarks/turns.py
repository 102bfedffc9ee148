"""Timing two sides of a ratio in turns, so that what else the machine does falls on both."""

import statistics
import time
from collections.abc import Callable

TURN_S = 0.5


def taking_turns(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of a call of each side in each round, after a round that is not counted.

    A turn is as many calls as fill half a second, so that neither side always starts with the other's caches.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            began, calls, elapsed_s = time.perf_counter(), 0, 0.0
            while elapsed_s < TURN_S:
                side()
                calls, elapsed_s = calls + 1, time.perf_counter() - began
            if number:
                times[name].append(1e3 * elapsed_s / calls)
    return times


def ratio(times: dict[str, list[float]], slow: str, fast: str) -> float:
    """How many times faster: the median over rounds."""
    pairs = zip(times[slow], times[fast], strict=True)
    return round(statistics.median(a / b for a, b in pairs), 2)


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    """Milliseconds of each side, ``<name>_ms``."""
    return {f"{name}_ms": round(statistics.median(values), 2) for name, values in times.items()}
