"""One vector for each id: what a retriever knows users and items by.

*dense*: a parameter, whole in every worker; the optimizer moves all of its rows in every step. *sharded*:
each worker holds a share of the rows (``ops.embedding_bags``), and a step moves those alone that a batch
names: its time does not grow with the table. Their weights have the same names, so that what was trained
with the one is served, or gone on with, by the other.

Shapes: N ids, P rows of the table, J rows that are held, D width.
"""

import zlib
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self, TypeAlias

import torch
from torch import Tensor, nn

from recray.models.side_features import forget
from recray.ops.embedding_bags import EmbeddingConfig, EmbeddingRows, EmbeddingTable, Placement
from recray.schema import DataError

WEIGHT = "weight"  # what nn.Embedding calls it


@dataclass(frozen=True, kw_only=True)
class TablesConfig:
    """How vectors of ids are held and updated."""

    kind: Literal["dense", "sharded"] = "dense"
    """dense: whole in every worker, updated by the run's optimizer. sharded: cut over the workers, and only
    rows that a batch names are updated, by row-wise Adagrad."""
    embedding: EmbeddingConfig = field(default_factory=lambda: EmbeddingConfig(lr=0.05))
    """Of sharded tables."""


@dataclass(frozen=True)
class Tables:
    """Makes a model's tables, as much of them as this worker holds."""

    config: TablesConfig = field(default_factory=TablesConfig)
    placement: Placement = field(default_factory=Placement)
    seed: int = 0

    def make(self, name: str, rows: int, dim: int, std: float) -> "IdTable":
        """First weights are normal; of sharded tables a function of seed, name, row and column alone."""
        if self.config.kind == "dense":
            return DenseTable(rows, dim, std)
        seed = zlib.crc32(f"{self.seed}/{name}".encode())
        return ShardedTable(rows, dim, std, self.config.embedding, self.placement, seed)


class DenseTable(nn.Embedding):
    """ids_N -> rows [N, D]."""

    def __init__(self, rows: int, dim: int, std: float) -> None:
        super().__init__(rows, dim)
        self.std = std

    @property
    def device(self) -> torch.device:
        return self.weight.device

    def initialise(self) -> None:
        nn.init.normal_(self.weight, std=self.std)

    def all_ids(self) -> Tensor:
        """0 to before P."""
        return torch.arange(self.num_embeddings, device=self.device)

    def all_rows(self) -> Tensor:
        """weight_PD."""
        return self.weight

    def hold(self, ids_N: Tensor) -> None:
        """Every row is here."""

    def forget(self, ids_N: Tensor) -> None:
        """Zeros in the place of weights that no event has taught anything."""
        forget(self, ids_N)


class _Held(NamedTuple):
    ids_J: Tensor  # in their order
    rows_JD: Tensor


class ShardedTable(EmbeddingRows):
    """ids_N -> rows [N, D]: all workers ask at the same time, but for rows that were fetched to be held."""

    def __init__(
        self, rows: int, dim: int, std: float, config: EmbeddingConfig, placement: Placement, seed: int
    ) -> None:
        table = EmbeddingTable(name=WEIGHT, rows=rows, dim=dim, features=(WEIGHT,), std=std)
        super().__init__([table], config, placement, seed=seed)
        self.num_embeddings, self.embedding_dim = rows, dim
        self._held: _Held | None = None

    @property
    def device(self) -> torch.device:
        return self.placement.device

    def initialise(self) -> None:
        """It was made with its first weights."""

    def forward(self, ids_N: Tensor) -> Tensor:
        """row_ND.

        Raises:
            DataError: an id outside the table, or none of those that are held.
        """
        if self._held is None:
            return super().forward(ids_N)
        ids_J, rows_JD = self._held
        places_N = torch.searchsorted(ids_J, ids_N).clamp(max=len(ids_J) - 1)
        if (missing_N := ids_J[places_N] != ids_N).any():
            raise DataError(f"row {int(ids_N[missing_N][0])} was not fetched before it was asked for")
        return rows_JD[places_N]

    def all_ids(self) -> Tensor:
        """0 to before P."""
        return torch.arange(self.num_embeddings, device=self.device)

    def all_rows(self) -> Tensor:
        """weight_PD: of several workers, all at the same time, unless all rows are held."""
        if self._held is not None and len(self._held.ids_J) == self.num_embeddings:
            return self._held.rows_JD
        rows_PD: Tensor = self(self.all_ids())
        return rows_PD

    @torch.no_grad()
    def hold(self, ids_N: Tensor) -> None:
        """Fetches these rows, all workers at the same time; until training goes on they are asked alone."""
        self._held = None
        ids_J = ids_N.unique()
        self._held = _Held(ids_J, self(ids_J))

    def train(self, mode: bool = True) -> Self:
        self._held = None
        return super().train(mode)

    @torch.no_grad()
    def forget(self, ids_N: Tensor) -> None:
        """Zeros in the place of weights that no event has taught anything."""
        for piece in self._tables.weights()[WEIGHT].pieces:
            first, ids = piece.offsets[0], ids_N.to(self.device)
            here_N = (ids >= first) & (ids < first + len(piece.tensor))
            piece.tensor[ids[here_N] - first] = 0.0


IdTable: TypeAlias = DenseTable | ShardedTable
