"""LightGCN: vectors of users and items, averaged with those of their neighbours. Without layers: BPR-MF.

He et al., LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation, SIGIR 2020,
https://arxiv.org/abs/2002.02126, over the pairs that are learnt from, N_u the items of user u:

    e_u^(k+1) = Σ_{i in N_u} e_i^(k) / (√|N_u| √|N_i|),  and so for items   (equation 3)
    e = (e^(0) + ... + e^(K)) / (K + 1)                                     (equation 4)
    loss = mean over pairs (u, i) and drawn items j of
           -log s(e_u·e_i - e_u·e_j) + ½ l2 (|e_u^(0)|² + |e_i^(0)|² + |e_j^(0)|²)   (equation 15)

e^(0) is all that is learnt. K = 0 is the matrix factorisation of Rendle et al., BPR: Bayesian Personalized
Ranking from Implicit Feedback, UAI 2009, https://arxiv.org/abs/1205.2618. Every step goes over the whole
graph.

Shapes: B pairs, K drawn items of a pair, D embedding dim, U users, I items, R receivers, S senders, N pairs
of the graph.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recray.autograd import AutogradContext
from recray.batch import PairBatch
from recray.config import ConfigError
from recray.losses import bpr, weighted_mean
from recray.models.kept_vectors import KeptVectors
from recray.models.side_features import forget
from recray.models.user_item import taken_matrix
from recray.schema import FeatureSchema


@dataclass(frozen=True, kw_only=True)
class LightGCNConfig:
    """The layers and the loss."""

    embedding_dim: int = 64
    """Size of the vectors of users and items."""
    layers: int = 3
    """K: how far neighbours are; 0: BPR-MF."""
    l2: float = 1e-4
    """Of the vectors of a pair and its drawn items, before any layer."""

    def __post_init__(self) -> None:
        if self.embedding_dim < 1 or self.layers < 0 or self.l2 < 0:
            raise ConfigError(
                "embedding_dim must be at least 1, layers and l2 not negative, got "
                f"{self.embedding_dim}, {self.layers} and {self.l2}"
            )


class Rows(nn.Module):
    """A sparse matrix by rows: what each receiver hears of whom. It moves with the model that has it, once:
    copied at each step, a large graph would take longer than the step. No part of a state dict."""

    senders_N: Tensor  # int64
    starts_R: Tensor  # int64, R + 1 entries
    weights_N: Tensor  # float32

    def __init__(self, matrix: sp.csr_array) -> None:
        super().__init__()
        for name, values in (("senders_N", matrix.indices), ("starts_R", matrix.indptr)):
            self.register_buffer(name, torch.from_numpy(values.astype(np.int64)), persistent=False)
        self.register_buffer("weights_N", torch.from_numpy(matrix.data), persistent=False)

    def of(self, sender_SD: Tensor) -> Tensor:
        """receiver_RD: weighted sums."""
        return F.embedding_bag(
            self.senders_N,
            sender_SD,
            self.starts_R,
            mode="sum",
            per_sample_weights=self.weights_N.to(sender_SD.dtype),
            include_last_offset=True,
        )


class _SpreadContext(AutogradContext):
    back: Rows


class _Spread(torch.autograd.Function):
    """The product with a matrix; its gradient is that with the transposed one, which is at hand."""

    @staticmethod
    def forward(ctx: _SpreadContext, sender_SD: Tensor, there: Rows, back: Rows) -> Tensor:
        ctx.back = back
        return there.of(sender_SD)

    @staticmethod
    def backward(ctx: _SpreadContext, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back.of(grad_outputs[0].contiguous()), None, None


class LightGCN(KeptVectors):
    """A ``VectorRetriever`` and ``Learner``; see ``recray.contract``. Needs drawn negatives.

    It learns over the graph of ``set_graph`` and serves what ``refresh`` has put into its state dict.
    """

    def __init__(self, config: LightGCNConfig, schema: FeatureSchema) -> None:
        super().__init__(schema, config.embedding_dim)
        self.config = config
        self.users = nn.Embedding(schema.num_users, config.embedding_dim)
        self.items = nn.Embedding(schema.num_items, config.embedding_dim)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.1)
        nobody = torch.zeros(0, dtype=torch.int64)
        self.set_graph(nobody, nobody)

    def set_graph(self, user_ids_N: Tensor, item_ids_N: Tensor) -> None:
        """The pairs that vectors spread over, repeats counted once; no part of the state dict.

        Raises:
            DataError: an item id outside the catalogue or a negative user id.
        """
        taken = taken_matrix(user_ids_N, item_ids_N, len(self.items.weight)).astype(np.float32)
        taken.resize((len(self.users.weight), len(self.items.weight)))
        of_users_U, of_items_I = np.diff(taken.indptr), np.bincount(taken.indices, minlength=taken.shape[1])
        lengths_N = np.repeat(of_users_U, of_users_U) * of_items_I[taken.indices]
        taken.data = (lengths_N**-0.5).astype(np.float32)
        device = self.users.weight.device
        self._to_users, self._to_items = Rows(taken).to(device), Rows(taken.T.tocsr()).to(device)

    def forget_items(self, item_ids: Tensor) -> None:
        """What was learnt of these items as negatives alone."""
        forget(self.items, item_ids)
        self.item_ID[item_ids] = 0.0

    def loss(self, batch: PairBatch) -> dict[str, Tensor]:
        """BPR and the l2 of what the pairs start from.

        Raises:
            ConfigError: the batch has no negatives.
        """
        if batch.negative_ids_BK is None:
            raise ConfigError(
                "LightGCN learns from negatives: batches need negative_ids_BK (PairBatches(negatives=1))"
            )
        user_UD, item_ID = self._vectors()
        user_BD = user_UD[batch.user_ids_B]
        positive_B = (user_BD * item_ID[batch.item_ids_B]).sum(dim=1)
        negative_BK = torch.einsum("bd,bkd->bk", user_BD, item_ID[batch.negative_ids_BK])
        weights = batch.weight_B, batch.weight_sum
        loss = bpr(positive_B, negative_BK, *weights)
        user_B, item_B = _squares(self.users(batch.user_ids_B)), _squares(self.items(batch.item_ids_B))
        squares_B = user_B + item_B + _squares(self.items(batch.negative_ids_BK)).mean(dim=1)
        return {"loss": loss + 0.5 * self.config.l2 * weighted_mean(squares_B, *weights)}

    def _vectors(self) -> tuple[Tensor, Tensor]:
        """(user_UD, item_ID): means over the layers."""
        to_users, to_items = self._to_users, self._to_items
        user_UD = user_sum_UD = self.users.weight
        item_ID = item_sum_ID = self.items.weight
        for _ in range(self.config.layers):
            heard_UD: Tensor = _Spread.apply(item_ID, to_users, to_items)  # type: ignore[no-untyped-call]
            item_ID = _Spread.apply(user_UD, to_items, to_users)  # type: ignore[no-untyped-call]
            user_UD = heard_UD
            user_sum_UD, item_sum_ID = user_sum_UD + user_UD, item_sum_ID + item_ID
        return user_sum_UD / (self.config.layers + 1), item_sum_ID / (self.config.layers + 1)

    @torch.no_grad()
    def refresh(self) -> None:
        """Computes every user's and item's vector, and keeps them for serving."""
        user_UD, item_ID = self._vectors()
        self.user_UD.copy_(user_UD)
        self.item_ID.copy_(item_ID)


def _squares(vectors: Tensor) -> Tensor:
    return vectors.square().sum(dim=-1)


MODEL = LightGCN
