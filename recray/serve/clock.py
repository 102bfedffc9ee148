"""Milliseconds per stage of one request."""

from time import perf_counter_ns


class StageClock:
    """Started with the request; ``lap`` ends a stage. A stage that runs again adds up."""

    __slots__ = ("_last_ns", "_start_ns", "timings_ms")

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}
        self._start_ns = self._last_ns = perf_counter_ns()

    def lap(self, stage: str) -> None:
        """Books the time since the last lap on ``stage``."""
        now_ns = perf_counter_ns()
        self.timings_ms[stage] = self.timings_ms.get(stage, 0.0) + (now_ns - self._last_ns) / 1e6
        self._last_ns = now_ns

    def lap_elsewhere(self, timings_ms: dict[str, float]) -> None:
        """Books stages that another process timed since the last lap; the rest of the time is ``hops``."""
        inside_ms = sum(timings_ms.values())
        for stage, elapsed_ms in timings_ms.items():
            self.timings_ms[stage] = self.timings_ms.get(stage, 0.0) + elapsed_ms
        self.lap("hops")
        self.timings_ms["hops"] -= inside_ms

    def elapsed_ms(self) -> float:
        """Since the start."""
        return (perf_counter_ns() - self._start_ns) / 1e6

    def stop(self) -> dict[str, float]:
        """Every stage and ``total``, rounded to a microsecond."""
        self.timings_ms["total"] = self.elapsed_ms()
        return {stage: round(elapsed_ms, 3) for stage, elapsed_ms in self.timings_ms.items()}
