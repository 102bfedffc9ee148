"""What a model promises. Protocols, no base class: a model is any module with these methods.

Every retriever is built as ``Model(config, schema)`` and keeps all it needs to serve in its state
dict, so that a bundle (config, schema, weights) rebuilds it without its training data.
"""

from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from recray.arrays import Float32s, Int64s
from recray.batch import FeatureTables, Generated, Jagged, QueryBatch

Batch = TypeVar("Batch", contravariant=True)


@runtime_checkable
class Retriever(Protocol):
    """Scores the whole catalogue for each query."""

    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI, float32, higher is better; seen items are scored like any other."""


@runtime_checkable
class VectorRetriever(Retriever, Protocol):
    """A retriever whose scores are inner products, so that an index can search them."""

    def query_vectors(self, queries: QueryBatch) -> Tensor:
        """query_BD, float32."""

    def item_vectors(self) -> Tensor:
        """item_ID, float32."""


@runtime_checkable
class HoldsRows(Protocol):
    """Has tables that may be cut over workers, who ask for rows together and not each when it likes."""

    def hold(self, queries: QueryBatch) -> None:
        """Fetches what these queries and those without a user are answered from, until training goes on; all
        workers at the same time."""


def reads_history(model: object) -> bool:
    """Whether a retriever knows its users by what they did before the request, not by their id.

    Such a model has ``reads_history = True``: its query vectors cannot be computed ahead.
    """
    return bool(getattr(model, "reads_history", False))


@runtime_checkable
class Generative(Retriever, Protocol):
    """A retriever that writes its answers code by code instead of scoring all items."""

    def generate(
        self, queries: QueryBatch, k: int, *, beams: int | None = None, exclude: Jagged | None = None
    ) -> Generated:
        """The k best items that beam search finds, without those excluded."""


@runtime_checkable
class ReadsSideFeatures(Protocol):
    """Knows users and items by their side columns too."""

    def set_side_features(self, tables: FeatureTables) -> None:
        """Fills them in; they are part of the state dict from then on."""


@runtime_checkable
class ForgetsItems(Protocol):
    """Has weights for each item's id, which are drawn at random where no event taught them anything."""

    def forget_items(self, item_ids: Tensor) -> None:
        """These items are known by their side features alone from now on: they get the vector that these
        give and, where an item has none, a vector of zeros and the lowest score."""


@runtime_checkable
class Learner(Protocol[Batch]):
    """Learns by gradient from batches of its type."""

    def loss(self, batch: Batch, /) -> dict[str, Tensor]:
        """Scalars to log; the key ``"loss"`` is the one to minimise."""


@runtime_checkable
class DrawsForAll(Protocol):
    """A learner that draws for the whole global batch what it draws at random (dropout), and takes its share:
    every worker's generator starts a step alike.
    """

    draws_for_all: bool


@runtime_checkable
class WholeLearner(Protocol):
    """Learns from all interactions at once, without the training loop: by counting, or by solving."""

    def learn(self, user_ids_N: Tensor, item_ids_N: Tensor, weights_N: Tensor | None = None) -> None:
        """Replaces all state by what these interactions (int64, oldest first) say.

        Args:
            weights_N: float, 0 or more, how much each counts; only proportions matter. None: all alike.
        """


@runtime_checkable
class FusedOptimizer(Protocol):
    """A module whose weights are no parameters: it updates them itself, during the backward pass."""

    def scale_learning_rate(self, factor: float) -> None:
        """Later updates use its own learning rate times ``factor``."""

    def optimizer_state(self) -> dict[str, Any]:
        """Tensors, or ``ops.sharded.Sharded``, that can be saved, and loaded into in place."""


class Scorer(Protocol):
    """Orders the K candidates of a query by explicit features."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Of the F columns."""

    def score(self, features_KF: Float32s, item_ids_K: Int64s, /) -> Float32s:
        """scores_K, higher is better, comparable within one call."""

    def explain(self, features_KF: Float32s, item_ids_K: Int64s, /) -> Float32s:
        """contributions_KF: how much each feature moved each score."""

    def save(self, path: Path, /) -> None:
        """Writes one file that holds all of it."""
