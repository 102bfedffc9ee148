"""The log of a node as one Ray actor, which all replicas there find by name; it comes back where it dies."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from recray.config import ConfigError
from recray.event_log.live import HeldError
from recray.event_log.records import Event, Fact, Recorded, Sent, Telling
from recray.event_log.sinks import open_sink
from recray.event_log.tables import Answer
from recray.event_log.writer import LogBusyError, LogFailedError, LogNumbers, LogWriter
from recray.serve.place.config import ServiceConfig
from recray.serve.traffic.recorder import Keeper

NAMESPACE = "recray-logs"
ANSWER_WITHIN_S = 10.0
FORGOTTEN_WITHIN_S = 600.0
AT_ONCE = 64  # calls that share commits
MOST_OF_ONE_HOST = 100

T = TypeVar("T")


class RunningLog(LogWriter):
    """Of this machine, or of the second, third... server on it."""

    def __init__(self, folder: str, keep_days: int, send_to: Sequence[str]) -> None:
        host, sinks = socket.gethostname(), [open_sink(where, Path(folder).name) for where in send_to]
        for node in (host, *(f"{host}-{number}" for number in range(2, MOST_OF_ONE_HOST))):
            with suppress(HeldError):
                super().__init__(Path(folder), node, keep_days=keep_days, sinks=sinks)
                return
        raise ConfigError(f"{MOST_OF_ONE_HOST} servers of {Path(folder).name} run on {host}: stop some")


class ActorLog:
    """A log in an actor on this node, which Ray starts again where it dies."""

    def __init__(self, config: ServiceConfig) -> None:
        self._application, node = config.application, ray.get_runtime_context().get_node_id()
        # Whoever comes first starts it.
        named = {"name": f"{config.application}@{node}", "namespace": NAMESPACE, "get_if_exists": True}
        here = NodeAffinitySchedulingStrategy(node, soft=False)
        options = ray.remote(RunningLog).options(
            **named,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            max_concurrency=AT_ONCE,
            scheduling_strategy=here,
        )
        self._actor: Any = options.remote(
            str(config.log_folder), config.keep_events_days, config.send_events_to
        )

    def record(self, events: Sequence[Event], facts: Sequence[Fact] = ()) -> Recorded:
        return _answered(self._actor.record.remote(list(events), list(facts)), Recorded)

    def record_each(self, tellings: Sequence[Telling]) -> list[Recorded | LogBusyError | LogFailedError]:
        return _answered(self._actor.record_each.remote(list(tellings)), list)

    def expose(self, answers: Sequence[Answer], sent: Sent | None = None) -> None:
        _answered(self._actor.expose.remote(list(answers), sent), NoneType)

    def forget(self, user_id: str) -> None:
        """At all nodes of the cluster."""
        for name in _names():
            if name.rpartition("@")[0] == self._application:
                forgotten = ray.get_actor(name, NAMESPACE).forget.remote(user_id)
                _answered(forgotten, NoneType, FORGOTTEN_WITHIN_S)

    def numbers(self) -> LogNumbers:
        return _answered(self._actor.numbers.remote(), LogNumbers)


def _answered(answer: ray.ObjectRef[T], kind: type[T], within_s: float = ANSWER_WITHIN_S) -> T:
    """What the actor answers, or raises."""
    try:
        answered: T = ray.get(answer, timeout=within_s)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise cause if isinstance(cause, LogBusyError | LogFailedError) else error from None
    return answered


def log_of(config: ServiceConfig) -> Keeper | None:
    """What production shows is taken down."""
    return ActorLog(config) if config.log_folder else None


def end_logs() -> None:
    """Ends those of this cluster, when what was handed over is written."""
    for name in _names():
        actor = ray.get_actor(name, NAMESPACE)
        with suppress(Exception):  # whatever keeps it from that, it ends
            ray.get(actor.close.remote(), timeout=ANSWER_WITHIN_S)
        ray.kill(actor)


def _names() -> list[str]:
    """Of the logs of this cluster: APPLICATION@NODE."""
    named = ray.util.list_named_actors(all_namespaces=True)
    return [one["name"] for one in named if one["namespace"] == NAMESPACE]
