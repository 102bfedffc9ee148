"""What a run takes: time, memory, processor, money. One sample a report, by the worker that reports."""

import resource
import sys
import time
from pathlib import Path

import torch

from recray.track import history


class Usage:
    """Measures from its making on; goes on from what an interrupted run noted before.

    Args:
        folder: of the run, in which its reports are.
        price_per_hour: dollars for all machines of the run together; 0: not known.
    """

    def __init__(self, folder: Path, device: torch.device, price_per_hour: float = 0.0) -> None:
        earlier = history.read(folder)
        self._before_s = earlier[-1].get("wall_s", 0.0) if earlier else 0.0
        self._began_s = self._last_s = time.monotonic()
        self._cpu_s = time.process_time()
        self._device, self._price = device, price_per_hour
        self._trained: tuple[int, float] = (0, 0.0)

    def trained(self, samples: int, seconds: float) -> None:
        """What ``Context.trained`` says before a report."""
        self._trained = (samples, seconds)

    def take(self) -> dict[str, float]:
        """What is added to a report.

        ``time`` (unix seconds), ``wall_s`` (since the run began, interruptions left out), ``samples_per_s``
        (while training, over all workers), of this worker ``cpu_percent`` (100 is one core, since the last
        report), ``peak_memory_gb`` and, on a GPU, ``gpu_percent`` and ``gpu_peak_memory_gb``; ``dollars``
        so far where the price is known.
        """
        now_s, cpu_s = time.monotonic(), time.process_time()
        wall_s = self._before_s + now_s - self._began_s
        found = {
            "time": round(time.time(), 3),
            "wall_s": round(wall_s, 3),
            "cpu_percent": round(100 * (cpu_s - self._cpu_s) / max(now_s - self._last_s, 1e-9), 1),
            "peak_memory_gb": round(_peak_memory_bytes() / 1e9, 3),
        }
        self._last_s, self._cpu_s = now_s, cpu_s
        samples, seconds = self._trained
        if samples:
            found["samples_per_s"] = round(samples / max(seconds, 1e-9), 1)
        if self._price:
            found["dollars"] = round(self._price * wall_s / 3600, 6)
        return found | _gpu(self._device)


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _gpu(device: torch.device) -> dict[str, float]:
    if device.type != "cuda":
        return {}
    found = {"gpu_peak_memory_gb": round(torch.cuda.max_memory_allocated(device) / 1e9, 3)}
    try:
        found["gpu_percent"] = float(torch.cuda.utilization(device))
    except (ImportError, RuntimeError):  # NVIDIA's nvidia-ml-py is not there, or not the driver's
        return found
    return found
