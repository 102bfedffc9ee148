"""The hub of an application as one Ray actor, which all replicas of all its deployments find by name."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from recray.serve.events.hub import Batch, Hub, HubFullError, LocalHub
from recray.serve.events.recorded import recorded
from recray.serve.events.told import Told
from recray.serve.place.config import ServiceConfig

NAMESPACE = "recray-hubs"
REDIS_URL = "RECRAY_REDIS_URL"
ANSWER_WITHIN_S = 10.0


class RunningHub(LocalHub):
    """Knows from the start what the log of the application has."""

    def __init__(self, log_folder: Path | None, keep_days: int) -> None:
        super().__init__()
        if log_folder:
            self.append(recorded(log_folder, keep_days))


class ActorHub:
    """A hub in an actor, which Ray starts again where it dies.

    Args:
        log_folder, keep_days: from which it is told again what it was told before, see ``recorded``; None: it
            begins with nothing.
    """

    def __init__(self, name: str, log_folder: Path | None = None, keep_days: int = 0) -> None:
        # Whoever comes first starts it.
        kept = {"name": name, "namespace": NAMESPACE, "get_if_exists": True, "lifetime": "detached"}
        options = ray.remote(RunningHub).options(**kept, num_cpus=0, max_restarts=-1)
        self._actor: Any = options.remote(log_folder, keep_days)

    def append(self, told: Sequence[Told]) -> int:
        try:
            taken: int = ray.get(self._actor.append.remote(list(told)), timeout=ANSWER_WITHIN_S)
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, HubFullError) else error from None
        return taken

    def after(self, number: int, hub: str) -> Batch:
        batch: Batch = ray.get(self._actor.after.remote(number, hub), timeout=ANSWER_WITHIN_S)
        return batch


def hub_of(config: ServiceConfig) -> Hub:
    """In Redis where ``RECRAY_REDIS_URL`` names one, else in an actor."""
    if url := os.environ.get(REDIS_URL):
        from recray.serve.events.redis_hub import RedisHub

        return RedisHub(url, config.application)
    return ActorHub(config.application, config.log_folder, config.keep_events_days)


def end_hubs() -> None:
    """Ends those of this cluster."""
    for named in ray.util.list_named_actors(all_namespaces=True):
        if named["namespace"] == NAMESPACE:
            ray.kill(ray.get_actor(named["name"], NAMESPACE))
