"""What every service does that follows the store: health, versions, and the follower itself."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from recray.monitor.drift_files import LATEST, drift_dir
from recray.serve.follower import Follower
from recray.serve.http import answers
from recray.serve.place.config import ServiceConfig
from recray.serve.traffic.arms import Arms
from recray.serve.version import version
from recray.serve.versions import ServedBundles
from recray.store import StoreError

T = TypeVar("T")


class FollowingService:
    """Health and versions of whatever follows the store."""

    def __init__(self, config: ServiceConfig, follower: Follower[Any]) -> None:
        self._config, self._follower = config, follower

    def known_until(self) -> int | None:
        """Unix seconds at which the events end that are looked into; None where there are none."""
        return None

    def problem(self) -> str | None:
        """What keeps it from serving the newest there is."""
        return self._follower.problem

    def health(self) -> answers.Health:
        problem, not_ready, loaded = self.problem(), self.not_ready(), self._follower.loaded
        until = self.known_until() if loaded else None
        newest = None if until is None else datetime.fromtimestamp(until - 1, UTC).isoformat()
        return {
            "status": "unavailable" if not_ready else "degraded" if problem else "ok",
            "serving": loaded.bundles.versions() if loaded else {},
            "loaded_at": loaded.loaded_at if loaded else None,
            "problem": not_ready or problem,
            "known_until": newest,
            "age_s": None if until is None else max(0, int(time.time()) - until),
            "log": self.log(),
        }

    def log(self) -> answers.TakenDown | None:
        """Of what is shown and told; None where it is not taken down."""
        return None

    def not_ready(self) -> str | None:
        """Why this process should not be asked; None where it can answer and follows the store."""
        return self._follower.not_ready()

    def stop(self) -> None:
        """Stops looking at the store; what is loaded can still answer."""
        self._follower.stop()

    def drift(self) -> bytes | None:
        """The latest report of ``recray drift``, which is a process of its own; None: there is none."""
        file = drift_dir(self._config.open_store().root, self._config.application) / LATEST
        return file.read_bytes() if file.is_file() else None

    def versions(self) -> dict[str, Any]:
        """What is served and what the store holds."""
        application, loaded = self._config.application, self._follower.loaded
        shown: dict[str, Any] = {
            "application": application,
            "follows": self._config.name,
            "serving": loaded.bundles.versions() if loaded else {},
        }
        try:
            store = self._config.open_store()
            manifests = store.versions(application)
            shown["names"] = store.names(application)
        except (StoreError, OSError) as error:
            # The store may be out of reach for a while; what is loaded goes on serving.
            return {**shown, "names": {}, "versions": [], "problem": str(error)}
        shown["versions"] = [
            {
                "version": m.version,
                "digest": m.digest,
                "model": m.model,
                "created_at": m.created_at,
                "metrics": m.metrics,
                "requires": {role: version(r) for role, r in m.requires.items()},
            }
            for m in manifests
        ]
        return shown


def follow(
    config: ServiceConfig, load: Callable[[ServedBundles], T], arms: Arms[T] | None = None
) -> Follower[T]:
    """A follower of the configured name, its first version loaded.

    Args:
        arms: versions that are loaded for experiments: one of them that is promoted is not loaded again.
    """
    return Follower(
        config.open_store(),
        config.application,
        load,
        name=config.name,
        second_source=config.second_source,
        beside=arms.find if arms else lambda wanted: None,
        poll_s=config.poll_s,
    )
