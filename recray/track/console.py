"""Progress: a bar on a terminal and in a notebook, a line every two seconds where output is a log."""

import logging
import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

from recray.redaction import hidden

log = logging.getLogger(__name__)
LINE_EVERY_S = 2.0


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return hidden(super().format(record))


def setup_logging(level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """One handler for all of recray: time, message; no secret (``recray.redaction``)."""
    logger = logging.getLogger("recray")
    if not logger.handlers:
        handler = logging.StreamHandler(stream or sys.stderr)
        handler.setFormatter(_Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


class ConsoleProgress:
    """Shows the progress of a training run. Calls take (step, total_steps, epoch, loss, samples_per_s)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._bar: Any = None
        self._last_line_s = time.monotonic()
        self._first: tuple[int, float] | None = (
            None  # (step, time) of the first call: resumed runs start late
        )

    def __call__(self, progress: tuple[int, int, int, float, float]) -> None:
        step, total, epoch, loss, rate = progress
        if sys.stderr.isatty() or "ipykernel" in sys.modules:  # a notebook takes a bar too
            self._draw(step, total, epoch, loss, rate)
        elif time.monotonic() - self._last_line_s >= LINE_EVERY_S or step == total:
            self._last_line_s = time.monotonic()
            left = self._time_left(step, total)
            log.info(
                f"{self.name}: step {step:,}/{total:,} epoch {epoch} loss {loss:.4f} "
                f"{rate:,.0f} samples/s{left}"
            )

    def _draw(self, step: int, total: int, epoch: int, loss: float, rate: float) -> None:
        if self._bar is None:
            self._bar = tqdm(total=total, initial=step, desc=self.name, unit="step", leave=False)
        self._bar.set_postfix_str(f"epoch {epoch} loss {loss:.4f} {rate:,.0f} samples/s")
        self._bar.update(step - self._bar.n)
        if step == total:
            self._bar.close()

    def _time_left(self, step: int, total: int) -> str:
        now = time.monotonic()
        first_step, first_s = self._first = self._first or (step, now)
        if step == first_step:
            return ""
        seconds = (total - step) * (now - first_s) / (step - first_step)
        return f", {tqdm.format_interval(seconds)} left at most"
