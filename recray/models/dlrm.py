"""DLRM: clicks, or the order of a session, from dense columns and sharded embedding tables.

Naumov et al., Deep Learning Recommendation Model for Personalization and Recommendation Systems, 2019,
https://arxiv.org/abs/1906.00091. A bottom MLP makes one vector of the dense columns, every category
becomes the vector of its table, the vectors interact (by inner products, in the paper), and a top MLP
scores what comes out. The cross network in place of the inner products is Wang et al., DCN V2, WWW 2021,
https://arxiv.org/abs/2008.13535, equations 1 and 2. Widths and first weights are those of the paper's
code for Criteo Kaggle.

Shapes: B batch, D embedding dim, F dense columns, E edges of bins, V vectors that interact, W width of an
MLP.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from recray.arrays import Float32s
from recray.batch import KeyedJagged, RankingBatch
from recray.config import ConfigError, nearest
from recray.losses import bce, lambdarank
from recray.ops.embedding_bags import EmbeddingBags, EmbeddingConfig, EmbeddingTable, Placement
from recray.schema import RowSchema, SparseFeature

Scaling = Literal["log1p", "minmax", "standard", "none"]


@dataclass(frozen=True, kw_only=True)
class DLRMConfig:
    """The network, and what it learns."""

    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    embedding_dim: int = 16
    """Size of the vectors that interact."""
    bottom: tuple[int, ...] = (512, 256, 64)
    """Hidden widths of the MLP over the dense columns; its last layer has embedding_dim."""
    top: tuple[int, ...] = (512, 256)
    """Hidden widths of the MLP that scores."""
    interaction: Literal["dot", "concat", "dcnv2"] = "dot"
    """dot: all inner products of two vectors. concat: none. dcnv2: a low-rank cross network."""
    cross_layers: int = 3
    """Layers of the cross network."""
    cross_rank: int = 64
    """Rank of the cross network's matrices."""
    linear: bool = False
    """Add to the score a linear map of the scaled columns and of the categories' vectors, which learns from
    few rows what a logistic regression would (the wide part of https://arxiv.org/abs/1606.07792)."""
    dropout: float = 0.0
    """Share of the top MLP's inputs and hidden units that is zeroed while training."""
    unknown: float = 0.0
    """Share of the ids that is replaced by 0 while training: what is unknown then has a trained vector, and
    the others fit less closely."""
    ignore: tuple[str, ...] = ()
    """Categories that the model does not look at."""
    dense: Scaling = "log1p"
    """How dense columns are scaled, by what the training part holds. log1p: log(1 + x - min). minmax: to
    0 .. 1. standard: deviations z from the mean, as sign(z) log(1 + |z|)."""
    bins: int = 0
    """Cut each dense column at so many quantiles of the training part into a number per bin, in place of one
    scaled number (``PiecewiseLinear``); 0: scale it."""
    loss: Literal["bce", "lambdarank"] = "bce"
    """bce: is a row a click. lambdarank: the order within sessions."""
    ndcg_at: int | None = 10
    """lambdarank optimises NDCG of lists of this length; None: of whole sessions."""
    positive_grade: float = 1.0
    """bce takes rows with at least this label for clicks."""

    def __post_init__(self) -> None:
        for name in ("embedding_dim", "cross_layers", "cross_rank"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if min((*self.bottom, *self.top), default=1) < 1:
            raise ConfigError(f"widths must be at least 1, got bottom {self.bottom} and top {self.top}")
        if self.bins < 0:
            raise ConfigError(f"bins must not be negative, got {self.bins}")
        for name in ("dropout", "unknown"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.ndcg_at is not None and self.ndcg_at < 1:
            raise ConfigError(f"ndcg_at must be at least 1, or None, got {self.ndcg_at}")


class DenseScaler(nn.Module):
    """Dense columns as recorded -> a few units wide (``DLRMConfig.dense``); missing values become 0.

    What lies outside the range that was fitted is cut to it by minmax, and below it by log1p.
    """

    stats_4F: Tensor

    def __init__(self, num_columns: int, method: Scaling) -> None:
        super().__init__()
        self.method = method
        # Smallest, largest, mean, standard deviation.
        self.register_buffer("stats_4F", torch.tensor([0.0, 1.0, 0.0, 1.0])[:, None].repeat(1, num_columns))

    @property
    def mean_F(self) -> Tensor:
        """Of each column in the training part."""
        return self.stats_4F[2]

    def forward(self, dense_BF: Tensor) -> Tensor:
        low_F, high_F, mean_F, std_F = self.stats_4F
        if self.method == "log1p":
            dense_BF = (dense_BF - low_F).clamp(min=0).log1p()
        elif self.method == "minmax":
            dense_BF = ((dense_BF - low_F) / _positive(high_F - low_F)).clamp(0, 1)
        elif self.method == "standard":
            deviation_BF = (dense_BF - mean_F) / _positive(std_F)
            dense_BF = deviation_BF.sign() * deviation_BF.abs().log1p()
        return dense_BF.nan_to_num(0.0)


class PiecewiseLinear(nn.Module):
    """Dense columns as recorded -> how far each value is through each bin of its column, 0 to 1.

    Gorishniy et al., On Embeddings for Numerical Features in Tabular Deep Learning, NeurIPS 2022,
    https://arxiv.org/abs/2203.05556, equation 1, with values outside of all bins cut. What is missing, and
    bins without width, are 0.
    """

    edges_FE: Tensor

    def __init__(self, num_columns: int, bins: int) -> None:
        super().__init__()
        self.register_buffer("edges_FE", torch.linspace(0, 1, bins + 1).repeat(num_columns, 1))

    def fit(self, dense_NF: Float32s) -> None:
        """Takes the quantiles of each column for its edges."""
        shares_E = np.linspace(0, 1, self.edges_FE.shape[1])
        for f, column_N in enumerate(dense_NF.T):
            there = column_N[~np.isnan(column_N)]
            edges_E = np.quantile(there, shares_E) if len(there) else np.zeros_like(shares_E)
            self.edges_FE[f] = torch.from_numpy(edges_E)

    def forward(self, dense_BF: Tensor) -> Tensor:
        low_FE, width_FE = self.edges_FE[:, :-1], self.edges_FE.diff(dim=1)
        through_BFE = ((dense_BF[:, :, None] - low_FE) / _positive(width_FE)).clamp(0, 1)
        return (through_BFE * (width_FE > 0)).nan_to_num(0.0).flatten(1)


def _positive(scale_F: Tensor) -> Tensor:
    """1 for what does not vary."""
    return scale_F.where(scale_F > 0, 1.0)


class DotInteraction(nn.Module):
    """vectors_BVD -> the inner product of every two of them; the bottom MLP's, the first, goes along."""

    pairs_2P: Tensor

    def __init__(self, num_vectors: int, dim: int, with_first: bool) -> None:
        super().__init__()
        self.register_buffer("pairs_2P", torch.triu_indices(num_vectors, num_vectors, 1), persistent=False)
        self.with_first = with_first
        self.out_width = math.comb(num_vectors, 2) + dim * with_first

    def forward(self, vectors_BVD: Tensor) -> Tensor:
        products_BVV = vectors_BVD @ vectors_BVD.mT
        products_BP = products_BVV[:, self.pairs_2P[0], self.pairs_2P[1]]
        return torch.cat([vectors_BVD[:, 0], products_BP], dim=1) if self.with_first else products_BP


class CrossNetwork(nn.Module):
    """vectors_BVD -> x_BW side by side, crossed: ``x_(l+1) = x_0 * (W_l (V_l x_l) + b_l) + x_l``."""

    def __init__(self, num_vectors: int, dim: int, num_layers: int, rank: int) -> None:
        super().__init__()
        self.out_width = num_vectors * dim
        self.narrow = nn.ModuleList(nn.Linear(self.out_width, rank, bias=False) for _ in range(num_layers))
        self.widen = nn.ModuleList(nn.Linear(rank, self.out_width) for _ in range(num_layers))

    def forward(self, vectors_BVD: Tensor) -> Tensor:
        first_BW = x_BW = vectors_BVD.flatten(1)
        for narrow, widen in zip(self.narrow, self.widen, strict=True):
            x_BW = first_BW * widen(narrow(x_BW)) + x_BW
        return x_BW


class Concatenation(nn.Module):
    """vectors_BVD side by side."""

    def __init__(self, num_vectors: int, dim: int) -> None:
        super().__init__()
        self.out_width = num_vectors * dim

    def forward(self, vectors_BVD: Tensor) -> Tensor:
        return vectors_BVD.flatten(1)


def _mlp(widths: Sequence[int], *, dropout: float = 0.0, last_relu: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(widths):
        layers += [nn.Dropout(dropout)] if dropout else []
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*(layers if last_relu else layers[:-1]))


def _looked_at(schema: RowSchema, ignore: Sequence[str]) -> list[SparseFeature]:
    names = [feature.name for feature in schema.sparse]
    for name in ignore:
        if name not in names:
            raise ConfigError(f"ignore: no category {name!r} in the data{nearest(name, names)}")
    return [feature for feature in schema.sparse if feature.name not in ignore]


def _without(ids: KeyedJagged, ignore: Sequence[str]) -> KeyedJagged:
    kept = [f for f, key in enumerate(ids.keys) if key not in ignore]
    values = torch.split(ids.values_N, ids.lengths_FB.sum(1).tolist())
    empty = ids.values_N[:0]
    return KeyedJagged(
        tuple(ids.keys[f] for f in kept), torch.cat([empty, *(values[f] for f in kept)]), ids.lengths_FB[kept]
    )


class DLRM(nn.Module):
    """Learns from and scores a ``RankingBatch``.

    ``parameters()`` are the dense ones. The tables (``embeddings``) update themselves while gradients flow
    back; they are a pure function of the seed, however they are cut over workers.

    Raises:
        ConfigError: the schema has no columns, or lambdarank is asked for rows without sessions.
    """

    def __init__(
        self,
        config: DLRMConfig,
        schema: RowSchema,
        placement: Placement = Placement(),  # noqa: B008 - frozen
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if config.loss == "lambdarank" and not schema.sessions:
            raise ConfigError('loss "lambdarank" orders the rows of a session: this data has no sessions')
        self.config, dim = config, config.embedding_dim
        sparse = _looked_at(schema, config.ignore)
        self.features = tuple(feature.name for feature in sparse)
        if not schema.dense and not sparse:
            raise ConfigError("neither dense nor sparse columns are left: there is nothing to learn from")
        self.scaler = DenseScaler(len(schema.dense), config.dense)
        self.pieces = PiecewiseLinear(len(schema.dense), config.bins) if config.bins else None
        num_dense = len(schema.dense) * max(config.bins, 1)
        widths = (num_dense, *config.bottom, dim)
        self.bottom = _mlp(widths, last_relu=True) if schema.dense else None
        tables = [
            # The mean of one is the one: spare its division.
            EmbeddingTable(
                name=f.name,
                rows=f.size,
                dim=dim,
                features=(f.name,),
                pooling="mean" if f.multi_hot else "sum",
            )
            for f in sparse
        ]
        self.embeddings = EmbeddingBags(tables, config.embedding, placement, seed=seed) if tables else None
        self.interaction = self._interaction(len(tables) + bool(schema.dense))
        self.top = _mlp((self.interaction.out_width, *config.top, 1), dropout=config.dropout, last_relu=False)
        num_linear = num_dense + len(tables) * dim
        self.linear = nn.Linear(num_linear, 1, bias=False) if config.linear else None
        self._initialise(torch.Generator().manual_seed(seed))

    def _interaction(self, num_vectors: int) -> DotInteraction | CrossNetwork | Concatenation:
        config, dim = self.config, self.config.embedding_dim
        if config.interaction == "dot":
            return DotInteraction(num_vectors, dim, with_first=self.bottom is not None)
        if config.interaction == "dcnv2":
            return CrossNetwork(num_vectors, dim, config.cross_layers, config.cross_rank)
        return Concatenation(num_vectors, dim)

    def _initialise(self, generator: torch.Generator) -> None:
        """Normal: weights with variance 2 / (inputs + outputs), biases with 1 / outputs."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                std = math.sqrt(2 / (layer.in_features + layer.out_features))
                nn.init.normal_(layer.weight, std=std, generator=generator)
                if layer.bias is not None:
                    nn.init.normal_(layer.bias, std=math.sqrt(1 / layer.out_features), generator=generator)

    def set_dense_stats(self, low_F: Tensor, high_F: Tensor, mean_F: Tensor, std_F: Tensor) -> None:
        """What the training part holds of each dense column; kept with the weights."""
        self.scaler.stats_4F.copy_(torch.stack([low_F, high_F, mean_F, std_F]))

    def set_dense_rows(self, dense_NF: Float32s) -> None:
        """Tells the bins, where there are any, what the training part is like; kept with the weights."""
        if self.pieces is not None:
            self.pieces.fit(dense_NF)

    def score(self, batch: RankingBatch) -> Tensor:
        """logits_B, float32: of a click, or comparable within a session."""
        vectors, dense_BF = [], (self.scaler if self.pieces is None else self.pieces)(batch.dense_BF)
        if self.bottom is not None:
            vectors.append(self.bottom(dense_BF))
        if self.embeddings is not None:
            pooled = self.embeddings(self._seen(batch.sparse))
            vectors += [pooled[name] for name in self.features]
        crossed_BW = self.interaction(torch.stack([v.to(vectors[0].dtype) for v in vectors], dim=1))
        logits_B: Tensor = self.top(crossed_BW).squeeze(1).float()
        if self.linear is not None:
            of_ids = vectors[self.bottom is not None :]
            logits_B = logits_B + self.linear(torch.cat([dense_BF, *of_ids], dim=1)).squeeze(1).float()
        return logits_B

    def _seen(self, ids: KeyedJagged) -> KeyedJagged:
        if self.config.ignore:
            ids = _without(ids, self.config.ignore)
        if not self.training or not self.config.unknown:
            return ids
        unknown_N = torch.rand(ids.values_N.shape, device=ids.values_N.device) < self.config.unknown
        return ids._replace(values_N=ids.values_N.masked_fill(unknown_N, 0))

    def loss(self, batch: RankingBatch) -> dict[str, Tensor]:
        """``{"loss": ...}``: a mean over sessions, or over rows where there are none; 0 of an empty batch."""
        logits_B = self.score(batch)
        if len(logits_B) == 0:
            return {"loss": logits_B.sum()}
        if self.config.loss == "lambdarank":
            assert batch.offsets_S is not None
            return {"loss": lambdarank(logits_B, batch.labels_B, batch.offsets_S, k=self.config.ndcg_at)}
        clicks_B = (batch.labels_B >= self.config.positive_grade).to(logits_B.dtype)
        return {"loss": bce(logits_B, clicks_B) * (len(logits_B) / batch.size)}


MODEL = DLRM
