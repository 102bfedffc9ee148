"""What became of workers, in words: which died, on which node, and what happens next."""

import logging
import re

import ray.exceptions
import ray.train

from recray.launch.cluster import gone
from recray.redaction import hidden
from recray.track.console import setup_logging

log = logging.getLogger(__name__)
_ADDRESS = re.compile(r"\bip(?:v4)?: ?([\d.]+\d)")  # as Ray names the node of an actor
_PEER = re.compile(r"onnection (?:closed|reset) by peer \[([\d.]+)\]")  # as Gloo says it
_OUT_OF_MEMORY = re.compile(r"OOM|[Oo]ut of memory|running low on memory")
_UNREACHABLE = ray.exceptions.ActorUnavailableError
_DIED = (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError)


class Told(ray.train.UserCallback):  # type: ignore[misc]  # ray carries no types
    """Says what each failure was and that the run goes on; Ray itself would say it in fifty lines."""

    def __init__(self, name: str, most: int) -> None:
        self.name, self.most, self.failures = name, most, 0

    def after_exception(self, run_context: object, worker_exceptions: dict[int, Exception]) -> None:
        setup_logging()
        self.failures += 1
        if self.failures <= self.most:
            log.warning(
                "run %s: %s; it goes on from its last checkpoint (failure %d of %d)",
                *(self.name, hidden(of_workers(worker_exceptions)), self.failures, self.most),
            )


def waited(error: ray.train.ControllerError) -> bool:
    """Whether workers found no room for as long as Ray looks for it at a time."""
    return type(error.controller_failure).__name__ == "WorkerGroupStartupTimeoutError"


def taken(error: ray.train.TrainingFailedError) -> bool:
    """Whether workers were taken away, in contrast to what they did themselves."""
    return any(
        _PEER.search(str(one)) or (isinstance(_cause(one), _DIED) and not _OUT_OF_MEMORY.search(str(one)))
        for one in getattr(error, "worker_failures", {}).values()
    )


def reason(error: Exception) -> str:
    """What ended a run, in one line."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        return of_workers(failures)
    text = str(getattr(error, "controller_failure", error))
    if not (found := _ADDRESS.search(text)):
        return _last(text)
    address = found.group(1)
    return (
        f"a worker was lost with its node {address}" if gone(address) else f"a worker on node {address} died"
    )


def of_workers(failures: dict[int, Exception]) -> str:
    """The death of workers goes before what the others said of it: they only lost their peers."""
    dead = {rank: _cause(error) for rank, error in failures.items() if isinstance(_cause(error), _DIED)}
    if not dead:
        rank, error = next(iter(failures.items()))
        lost = _PEER.search(str(error))
        return f"worker {rank} lost its connection to node {lost.group(1)}" if lost else _last(str(error))
    return "; ".join(_death(rank, error) for rank, error in sorted(dead.items()))


def _cause(error: Exception) -> Exception:
    """What a look at a worker came back with, where Ray Train wraps it."""
    cause: Exception = getattr(error, "health_check_failure", error)
    return cause


def _death(rank: int, error: Exception) -> str:
    found = _ADDRESS.search(str(error))
    address = found.group(1) if found else ""
    at = f"worker {rank} on node {address}" if address else f"worker {rank}"
    if gone(address):
        return f"worker {rank} is lost with its node {address}"
    if isinstance(error, _UNREACHABLE):
        return f"{at} cannot be reached"
    if _OUT_OF_MEMORY.search(str(error)):
        return f"{at} was ended because memory ran out (lower loop.batch_size)"
    return f"{at} was killed"


def _last(text: str) -> str:
    """The last line of a traceback, which is what was said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if re.match(r"[\w.]+(Error|Exception)?: ", line)]
    return (said or lines or ["nothing was said"])[-1]
