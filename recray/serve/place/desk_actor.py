"""The desk of an application as one Ray actor, which all replicas of all its deployments find by name."""

import contextlib
from pathlib import Path
from typing import Any

import ray

from recray.serve.place.config import ServiceConfig
from recray.serve.place.hub_actor import ANSWER_WITHIN_S
from recray.serve.traffic.analysis import Analysis
from recray.serve.traffic.exposures import Batch, Desk
from recray.store import Store

NAMESPACE = "recray-desks"


class RunningAnalysis(Analysis):
    """Judges from the moment at which it is made."""

    def __init__(self, root: str, application: str) -> None:
        super().__init__(Store(Path(root)), application)
        self.start()


class ActorDesk:
    """A desk in an actor, which Ray starts again where it dies; it goes on from the evidence in the store."""

    def __init__(self, config: ServiceConfig) -> None:
        # Whoever comes first starts it.
        named = {"name": config.application, "namespace": NAMESPACE, "get_if_exists": True}
        options = ray.remote(RunningAnalysis).options(
            **named, lifetime="detached", num_cpus=0, max_restarts=-1
        )
        self._actor: Any = options.remote(str(config.open_store().root), config.application)

    def take(self, batch: Batch) -> None:
        ray.get(self._actor.take.remote(batch), timeout=ANSWER_WITHIN_S)

    def numbers(self) -> dict[str, Any]:
        numbers: dict[str, Any] = ray.get(self._actor.numbers.remote(), timeout=ANSWER_WITHIN_S)
        return numbers


def desk_of(config: ServiceConfig) -> Desk | None:
    """Experiments are on what production serves."""
    return ActorDesk(config) if config.name == "production" else None


def end_desks() -> None:
    """Ends those of this cluster, when they have written down what they know."""
    for named in ray.util.list_named_actors(all_namespaces=True):
        if named["namespace"] == NAMESPACE:
            desk = ray.get_actor(named["name"], NAMESPACE)
            with contextlib.suppress(Exception):  # whatever keeps it from that, it ends
                ray.get(desk.save.remote(), timeout=ANSWER_WITHIN_S)
            ray.kill(desk)
