"""What models of event sequences share: a vector after each event, trained to find the item that comes next.

A model reads the events up to a position, and how long it is until the next request, and makes of them a
vector; the score of an item is the inner product with the embedding that the model also reads: of its id
and, by choice, the mean of those of its side features. Every position of a sequence is trained in the same
causal pass: a user is one sequence, not a sample per prefix.

Shapes: B rows, N events end to end, D width, I catalogue, K sampled negatives.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from recray.batch import FeatureTables, Jagged, QueryBatch, SequenceBatch
from recray.config import ConfigError
from recray.losses import drawn_scores, drawn_softmax, full_softmax, gbce
from recray.models.id_tables import Tables
from recray.models.side_features import SideFeatures, unknown_last
from recray.schema import DataError, Feature


@dataclass(frozen=True, kw_only=True)
class NextItemLoss:
    """How the vectors are trained."""

    kind: Literal["cross_entropy", "sampled_softmax", "gbce"] = "cross_entropy"
    """cross_entropy: over all items. Where there are many, sampled_softmax: the same, estimated by some that
    are drawn; gbce: binary cross-entropy against some."""
    negatives: int = 256
    """Items that are drawn for a batch."""
    popular: float = 0.5
    """Of sampled_softmax: the share of draws that go by how often items occur; the others are even."""
    calibration: float = 0.75
    """Of gbce: 0 is plain binary cross-entropy, 1 corrects its overconfidence in full."""

    def __post_init__(self) -> None:
        if self.negatives < 1:
            raise ConfigError(f"negatives must be at least 1, got {self.negatives}")
        for name in ("popular", "calibration"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in 0..1, got {getattr(self, name)}")

    @property
    def drawn(self) -> int:
        """Items that a batch has to bring."""
        return 0 if self.kind == "cross_entropy" else self.negatives

    @property
    def drawn_popular(self) -> float:
        """The share of them that goes by how often items occur: gbce is made for even draws."""
        return self.popular if self.kind == "sampled_softmax" else 0.0


class Events(NamedTuple):
    """What users did, oldest first, and how long nothing followed."""

    items: Jagged  # item ids
    waits_N: Tensor  # float32 seconds from each event to the next one, or to the request after the last


class NextItemModel(nn.Module, ABC):
    """A ``VectorRetriever`` that reads the history; a model adds ``encode``. See ``recray.contract``.

    Args:
        max_items: events that a query is answered from, the latest ones.
        features: of items, that it reads beside their ids.
    """

    reads_history = True

    def __init__(
        self,
        num_items: int,
        dim: int,
        max_items: int,
        loss: NextItemLoss,
        features: tuple[Feature, ...] = (),
        tables: Tables = Tables(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        if min(dim, max_items) < 1:
            raise ConfigError(f"dim and max_items must be at least 1, got {dim} and {max_items}")
        self.items = tables.make("items", num_items, dim, 0.02)
        self.items.initialise()
        self.max_items, self._loss = max_items, loss
        self.side = SideFeatures(num_items, features, dim) if features else None
        if self.side:
            self.side.initialise(0.02)

    def set_side_features(self, tables: FeatureTables) -> None:
        """Fills those of the items in; they are part of the state dict from then on."""
        if self.side:
            self.side.set_rows(tables.item)

    def forget_items(self, item_ids: Tensor) -> None:
        """Leaves to these items what their side features say."""
        self.items.forget(item_ids)

    def hold(self, queries: QueryBatch) -> None:
        """Fetches what queries are answered from: all items."""
        self.items.hold(self.items.all_ids())

    def embed(self, item_ids_N: Tensor) -> Tensor:
        """item_ND: as they are read, and scored."""
        vectors_ND: Tensor = self.items(item_ids_N)
        if self.side is None:
            return vectors_ND
        return vectors_ND + torch.stack(self.side.of(item_ids_N)).mean(dim=0)

    def _all_items(self) -> Tensor:
        return self.items.all_rows() if self.side is None else self.embed(self.items.all_ids())

    @abstractmethod
    def encode(self, events: Events) -> Tensor:
        """hidden_ND: after each event, from it and those before it in its row."""

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        is_read_N, is_target_N = batch.is_read_N(), batch.is_target_N()
        waits_N = batch.times_N.diff(append=batch.times_N[-1:])[is_read_N].float()
        hidden_ND = self.encode(Events(batch.items.keep(is_read_N), waits_N))
        before_target_N = is_target_N.roll(-1)[is_read_N]
        targets_N = batch.items.values_N[is_target_N]
        return {"loss": self._next_item_loss(hidden_ND[before_target_N], targets_N, batch)}

    def _next_item_loss(self, hidden_ND: Tensor, targets_N: Tensor, batch: SequenceBatch) -> Tensor:
        weights_N = batch.target_weights()
        if self._loss.kind == "cross_entropy":
            item_ID, targets_N = self._scored_against(targets_N)
            return full_softmax(hidden_ND, item_ID, targets_N, weights_N=weights_N)
        assert batch.negatives is not None, "the batches draw them"
        ids_K, logq_K, num_items = batch.negatives
        target_ND, drawn_KD = self.embed(torch.cat([targets_N, ids_K])).tensor_split((len(targets_N),))
        scores = drawn_scores(hidden_ND, target_ND, drawn_KD, targets_N, ids_K)
        if self._loss.kind == "gbce":
            return gbce(scores, num_items, calibration=self._loss.calibration, weights_N=weights_N)
        return drawn_softmax(scores, logq_K, weights_N=weights_N)

    def _scored_against(self, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        """(item_ID, the targets among them): with side features, without the items that were forgotten,
        whose features would learn that nobody wants them."""
        item_ID = self._all_items()
        if self.side is None:
            return item_ID, targets_N
        is_learnt_I = self.items.all_rows().detach().any(dim=1)
        return item_ID[is_learnt_I], is_learnt_I.cumsum(0)[targets_N] - 1

    @torch.inference_mode()
    def item_vectors(self) -> Tensor:
        """item_ID."""
        return self._all_items().detach()

    @torch.inference_mode()
    def query_vectors(self, queries: QueryBatch) -> Tensor:
        """query_BD: after the last event, at the request time; zero for an empty history.

        Raises:
            DataError: times that decrease, an event after the request, or an item outside the catalogue.
        """
        events = self._events(queries)
        lengths_B = events.items.lengths_B()
        order_B = lengths_B.argsort(stable=True)[
            int((lengths_B == 0).sum()) :
        ]  # like with like: less padding
        query_BD = torch.zeros(len(queries.user_ids_B), self.items.embedding_dim, device=self.items.device)
        if len(order_B):
            items = events.items.take(order_B)
            waits_N = events.waits_N[events.items.positions_of(order_B)]
            hidden_ND = self.encode(Events(items, waits_N))
            query_BD[order_B] = hidden_ND[items.offsets_B[1:] - 1].float()
        return query_BD

    @torch.inference_mode()
    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI: inner products."""
        item_ID = self.item_vectors()
        return unknown_last(self.query_vectors(queries) @ item_ID.T, item_ID)

    def _events(self, queries: QueryBatch) -> Events:
        """The latest events of each query."""
        history, times_N = queries.history, queries.history_times_N
        rows_N = history.rows_N()
        waits_N = times_N.diff(append=times_N[-1:])
        last_B = history.offsets_B[1:][history.lengths_B() > 0] - 1
        waits_N[last_B] = (queries.request_times_B[rows_N] - times_N)[last_B]
        _check(queries, rows_N, waits_N, self.items.num_embeddings)
        kept_N = history.newest_N(self.max_items)
        return Events(history.keep(kept_N), waits_N[kept_N].float())


def _check(queries: QueryBatch, rows_N: Tensor, waits_N: Tensor, num_items: int) -> None:
    history = queries.history
    outside_N = (history.values_N < 0) | (history.values_N >= num_items)
    bad_N = outside_N | (waits_N < 0)
    if not bad_N.any():
        return
    at = int(bad_N.nonzero()[0])
    row = int(rows_N[at])
    where = f"query {row} (user {int(queries.user_ids_B[row])}), event {at - int(history.offsets_B[row])}"
    if outside_N[at]:
        raise DataError(f"{where}: item {int(history.values_N[at])} is not in the catalogue of {num_items}")
    time, request = int(queries.history_times_N[at]), int(queries.request_times_B[row])
    if at == int(history.offsets_B[row + 1]) - 1:
        raise DataError(f"{where}: at {time}, after the request at {request}; leave out what comes later")
    later = int(queries.history_times_N[at + 1])
    raise DataError(f"{where}: at {time}, before it in time is the next one at {later}; sort by time")
