"""Every option of a served application, declared once: for jobs, Serve's config files and the measurement."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from recray.config import ConfigError
from recray.event_log.sinks import open_sink
from recray.paths import events_dir
from recray.serve.stages.listed import StagesConfig
from recray.serve.versions import ServedBundles, first_that_opens
from recray.store import Store


@dataclass(frozen=True, kw_only=True)
class ServiceConfig(StagesConfig):
    """What is served, and how it keeps up with the store."""

    application: str
    """Bundle to serve: a ranker (brings its retriever along); a retriever, decoder or DLRM alone."""
    name: str = "production"
    """Version name to follow: production, candidate or shadow."""
    store: str = ""
    """Folder of the store; empty: the store under RECRAY_HOME."""
    shown: tuple[str, ...] = ()
    """Columns of the items that answers show beside the title; none: category and price, where there are."""
    budget_ms: int = 0
    """Milliseconds for an answer: stages that can be done without are left out when it is spent; 0: none."""
    stage_within_s: float = 2.0
    """Spread, of requests without a budget: seconds after which a deployment that has not answered is left
    alone, until it answers again."""
    cache_s: float = 0.0
    """Seconds for which an answer may be given again to the same question, unless something was told that it
    would miss; 0: each is made anew."""
    record: bool = True
    """Take down what production shows and what users do with it (docs/events.md)."""
    keep_events_days: int = 0
    """Days after which what was taken down is deleted, and what was told of an item counts no more where a
    server begins anew; 0: it is kept."""
    send_events_to: tuple[str, ...] = ()
    """Where it goes as well: redis://HOST:PORT/DB (streams), delta:FOLDER (tables)."""
    poll_s: float = 1.0
    """Seconds between two looks at where the name points."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("budget_ms", "cache_s", "keep_events_days"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must not be negative or without end, got {getattr(self, name)}")
        for where in self.send_events_to:
            open_sink(where, self.application)  # what cannot be is said now
        for name in ("poll_s", "stage_within_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")

    @property
    def log_folder(self) -> Path | None:
        """Of what is shown and done, beside the store; None: it is not taken down."""
        if not self.record or self.name != "production":
            return None
        return log_folder(self.open_store(), self.application)

    def open_store(self) -> Store:
        return Store(Path(self.store) if self.store else None)

    def open_served(self) -> ServedBundles:
        """The bundles of the version that the name points at now, or of its last one that can be opened.

        Raises:
            ConfigError: none is in the store, or its kind has no use for an option that is set.
        """
        bundles = first_that_opens(self.open_store(), self.application, self.name, self.second_source)
        useless = [*self.changed(), *(["shown"] if self.shown else [])]
        if bundles.scorer and useless:
            raise ConfigError(
                f"{', '.join(useless)}: of no use to {bundles.reference}, which scores rows and recommends "
                "nothing: leave that out"
            )
        return bundles


def log_folder(store: Store, application: str) -> Path:
    """Where what an application shows and is told is taken down."""
    return events_dir(store.root) / application


TWO_REPLICAS_FROM_CORES = 4


def default_replicas() -> int:
    """Two where there are cores for them: if one is lost, the other answers."""
    return 2 if (os.cpu_count() or 1) >= TWO_REPLICAS_FROM_CORES else 1


@dataclass(frozen=True, kw_only=True)
class PlacementConfig:
    """Where the stages run."""

    placement: Literal["fused", "spread"] = "fused"
    """fused: every stage in each replica. spread: ingress, retrieval and ranking as three deployments."""
    replicas: int = field(default_factory=default_replicas)
    """Replicas of the ingress (which is everything where fused): two where this machine has four cores."""
    retrieval_replicas: int = 1
    """Replicas of the retrieval deployment, where spread."""
    ranking_replicas: int = 1
    """Replicas of the ranking deployment, where spread."""
    cpus_per_replica: float = 1.0
    """Logical CPUs that Ray reserves for each replica."""
    max_ongoing_requests: int = 32
    """Requests that one replica works on at a time."""
    max_queued_requests: int = 64
    """Requests that wait for one replica; more are answered with 429 at once. -1: any number waits."""
    retry_after_s: float = 1.0
    """What the 429 tells clients to wait, in seconds."""
    requests_per_client_s: int = 0
    """Requests a second that one address may send on average; more are answered with 429. 0: any number."""
    connections_per_client: int = 0
    """Connections that one address may hold; more are closed. 0: any number."""
    max_surge_percent: int = 0
    """100: an update starts the new replicas before it stops the old ones, for which CPUs must be free."""

    request_log: bool = False
    """A line of JSON for every request, with its id, in Serve's log; costs a twentieth of the request."""

    def __post_init__(self) -> None:
        for name in ("replicas", "retrieval_replicas", "ranking_replicas", "max_ongoing_requests"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_queued_requests < -1:
            raise ConfigError(
                f"max_queued_requests must be at least 0, or -1, got {self.max_queued_requests}"
            )
        limits = ("requests_per_client_s", "connections_per_client")
        for name in ("retry_after_s", "max_surge_percent", *limits):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.cpus_per_replica < 0:
            raise ConfigError(f"cpus_per_replica must not be negative, got {self.cpus_per_replica}")
