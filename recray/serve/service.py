"""What the gateway talks to: something that answers requests with one version at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from recray.config import ConfigError
from recray.ops.ann import set_num_threads
from recray.serve import answers
from recray.serve.follower import Follower, Loaded
from recray.serve.generator import GeneratorConfig
from recray.serve.pipeline import Pipeline, ServedBundles
from recray.serve.requests import RecommendRequest
from recray.store import Store, StoreError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """What is served, and how it keeps up with the store."""

    application: str
    """Bundle to serve: a ranker (brings its retriever along) or a retriever alone."""
    name: str = "production"
    """Version name to follow: production, candidate or shadow."""
    store: str = ""
    """Folder of the store; empty: the store under RECRAY_HOME."""
    poll_s: float = 1.0
    """Seconds between two looks at where the name points."""
    diversity: float = 0.0
    """0: the ranker's order; up to 1: spread similar items out (maximal marginal relevance)."""
    also: str = ""
    """Bundle of a decoder over the same catalogue, one more source of candidates; its production version."""
    also_items: int = 50
    """Items that it proposes for each request."""
    cold_share: float = 0.0
    """Share of a decoder's items that is kept for items without training events."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.diversity <= 1.0:
            raise ConfigError(f"diversity must be between 0 and 1, got {self.diversity}")
        if self.poll_s <= 0:
            raise ConfigError(f"poll_s must be positive, got {self.poll_s}")
        self.generator()

    def open_store(self) -> Store:
        return Store(Path(self.store) if self.store else None)

    def generator(self) -> GeneratorConfig:
        """
        Raises:
            ConfigError: ``also_items`` or ``cold_share`` is out of range.
        """
        return GeneratorConfig(items=self.also_items, cold_share=self.cold_share)


class Service(Protocol):
    """The placements of the stages, alike to the gateway. Answers lack their request id."""

    async def recommend(self, request: RecommendRequest) -> answers.Recommendations:
        """Raises ``RequestError`` for a request that this version cannot answer."""

    async def similar(self, item_id: str, k: int) -> answers.SimilarItems:
        """Raises ``RequestError`` for an unknown item."""

    def health(self) -> answers.Health: ...

    def versions(self) -> dict[str, Any]: ...


class Following:
    """Health and versions of whatever follows the store."""

    def __init__(self, config: ServiceConfig, follower: Follower[Any]) -> None:
        self._config, self._follower = config, follower

    def health(self) -> answers.Health:
        problem, current = self._follower.problem, self._follower.current
        return {
            "status": "degraded" if problem else "ok",
            "serving": current.bundles.versions(),
            "loaded_at": current.loaded_at,
            "problem": problem,
        }

    def stop(self) -> None:
        """Stops looking at the store; what is loaded can still answer."""
        self._follower.stop()

    def versions(self) -> dict[str, Any]:
        """What is served and what the store holds."""
        application = self._config.application
        shown: dict[str, Any] = {
            "application": application,
            "follows": self._config.name,
            "serving": self._follower.current.bundles.versions(),
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
                "requires": {role: answers.version(r) for role, r in m.requires.items()},
            }
            for m in manifests
        ]
        return shown


class FusedService(Following):
    """Every stage in this process: no hop between them."""

    def __init__(self, config: ServiceConfig) -> None:
        # A replica answers one request at a time: threads per search would only fight each other.
        set_num_threads(1)
        follower = follow(config, lambda bundles: Pipeline(bundles, config.diversity, config.generator()))
        super().__init__(config, follower)
        self._pipelines: Follower[Pipeline] = follower
        follower.start()

    async def recommend(self, request: RecommendRequest) -> answers.Recommendations:
        return self.pinned().content.recommend(request)

    async def similar(self, item_id: str, k: int) -> answers.SimilarItems:
        return self.pinned().content.similar(item_id, k)

    def pinned(self) -> Loaded[Pipeline]:
        """The version for one request, taken once."""
        return self._pipelines.current


def follow(config: ServiceConfig, load: Callable[[ServedBundles], T]) -> Follower[T]:
    """A follower of the configured name, its first version loaded."""
    return Follower(
        config.open_store(),
        config.application,
        load,
        name=config.name,
        also=config.also,
        poll_s=config.poll_s,
    )
