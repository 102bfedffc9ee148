"""How busy others keep the machine while something is timed: a figure that was taken beside other work is no
figure. Two of the README's were once five times too good, because their peer ran beside something else."""

import functools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil

BEFORE_S, EVERY_S = 2.0, 0.5
QUIET_CORES = 0.2  # that others may use, on average


class Load:
    """Processor time of processes that are neither this one nor its descendants, in cores."""

    def __init__(self) -> None:
        self.before, self._during = 0.0, list[float]()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Load":
        self.before = fmean(self._samples(BEFORE_S))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def during(self) -> float:
        return fmean(self._during) if self._during else self.before

    @property
    def is_quiet(self) -> bool:
        return max(self.before, self.during) <= QUIET_CORES

    def finish(self, result: dict[str, Any], to: Path | None = None) -> None:
        """Says how busy the machine was, keeps the result if it was quiet, and prints it as the last line."""
        said = {
            "cores": psutil.cpu_count(),
            "others_before": round(self.before, 2),
            "others_during": round(self.during, 2),
            "quiet": self.is_quiet,
        }
        result = {**result, "load": said}
        if to is not None and self.is_quiet:
            to.parent.mkdir(exist_ok=True)
            to.write_text(json.dumps(result, indent=1) + "\n")
        elif to is not None:
            print(f"not kept in {to.name}: others used {max(self.before, self.during):.2f} cores meanwhile")
        print(json.dumps(result))

    def _watch(self) -> None:
        while not self._done.is_set():
            self._during += self._samples(EVERY_S)

    def _samples(self, seconds: float) -> list[float]:
        began, all_before, ours_before = time.monotonic(), _all_s(), _ours_s()
        self._done.wait(seconds)
        ours = max(0.0, _ours_s() - ours_before)
        return [max(0.0, _all_s() - all_before - ours) / (time.monotonic() - began)]


def watched(work: Callable[[Load], None]) -> Callable[[], None]:
    """A benchmark's main function, which is told of the load."""

    @functools.wraps(work)
    def main() -> None:
        with Load() as load:
            work(load)

    return main


def _all_s() -> float:
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "guest", 0.0)
    return float(sum(times) - idle)


def _ours_s() -> float:
    """Of what ended too, as far as its parent has noticed."""
    total = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
