"""Embedding tables for ids of many features: one door, two backends with the same numbers.

*torch* is plain PyTorch (``sharded_tables``), *torchrec* is TorchRec with fbgemm (``torchrec_tables``);
both are cut over the workers of a run and update their rows during the backward pass by row-wise
Adagrad. The config names the backend. Tables are no ``nn.Parameter``: a module's ``parameters()`` are
its dense ones, for an optimizer and DistributedDataParallel.

Backward passes exchange gradients between workers, one exchange per forward pass of a module, in the
reverse order of the forward passes: the workers of a run must build the same graph.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recray.batch import Jagged, KeyedJagged
from recray.config import ConfigError, nearest
from recray.ops import embedding_plan
from recray.ops.embedding_plan import EmbeddingConfig, EmbeddingTable, Placement, Shard
from recray.ops.sharded import Sharded
from recray.ops.sharded_tables import ShardedTables
from recray.schema import DataError

__all__ = [
    "EmbeddingBags",
    "EmbeddingConfig",
    "EmbeddingRows",
    "EmbeddingTable",
    "Embeddings",
    "Placement",
    "Sharded",
]


class Tables(Protocol):
    """What a backend does."""

    lr: float
    plan: tuple[Shard, ...]

    def lookup(self, ids: KeyedJagged, *, update: bool) -> dict[str, Tensor]:
        """feature -> sums of bags [B, D], or rows [N, D] where a table is not pooled."""

    def weights(self) -> dict[str, Sharded]:
        """table -> [rows, dim], views."""

    def sums(self) -> dict[str, Sharded]:
        """table -> Adagrad sums [rows, blocks], views."""


class _Embeddings(nn.Module):
    """Tables, their state and the checks of what is looked up."""

    def __init__(
        self,
        tables: Sequence[EmbeddingTable],
        config: EmbeddingConfig = EmbeddingConfig(),  # noqa: B008 - frozen
        placement: Placement = Placement(),  # noqa: B008 - frozen
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        pooled = frozenset(table.name for table in tables if self._is_summed(table))
        embedding_plan.check_tables(tables, config.blocks)
        self.config, self.placement = config, placement
        self.table_of = {feature: table for table in tables for feature in table.features}
        self._tables: Tables = _backend(config)(tables, config, placement, pooled=pooled, seed=seed)

    def _is_summed(self, table: EmbeddingTable) -> bool:
        """Whether the backend sums the table's bags; else it returns every id's row."""
        raise NotImplementedError

    @property
    def plan(self) -> tuple[Shard, ...]:
        """Every part of every table, on all workers."""
        return self._tables.plan

    def describe(self) -> str:
        """The backend, the plan and the bytes per rank, to print."""
        return embedding_plan.describe(self.plan, self.config, self.placement.world_size)

    def scale_learning_rate(self, factor: float) -> None:
        """Updates from now on use ``config.lr * factor``."""
        self._tables.lr = self.config.lr * factor

    def optimizer_state(self) -> dict[str, Tensor | Sharded]:
        """table -> Adagrad sums [rows, column blocks], as views: loading into them loads them."""
        return {name: _whole_or_sharded(sums) for name, sums in self._tables.sums().items()}

    def _lookup(self, ids: KeyedJagged) -> dict[str, Tensor]:
        check_ids(ids, self.table_of, self.placement.device)
        return self._tables.lookup(ids, update=self.training and torch.is_grad_enabled())

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, weights in self._tables.weights().items():
            destination[prefix + name] = _whole_or_sharded(weights)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        tables = self._tables.weights()
        unexpected_keys += [
            k for k in state_dict if k.startswith(prefix) and k.removeprefix(prefix) not in tables
        ]
        for name, weights in tables.items():
            if prefix + name not in state_dict:
                missing_keys.append(prefix + name)
                continue
            try:
                weights.copy_(state_dict[prefix + name])
            except ValueError as error:
                error_msgs.append(f"{prefix}{name}: {error}")


class EmbeddingBags(_Embeddings):
    """Pooled embeddings: the ids that a row has in a feature become one vector.

    Args:
        tables: the same on every worker.
        placement: which worker this is; all make the module at the same point of the run.
        seed: first weights are a function of it, the table's name, the row and the column alone.

    Raises:
        ConfigError: tables, config and workers that do not go together; a backend that is not installed.
    """

    def _is_summed(self, table: EmbeddingTable) -> bool:
        return table.pooling != "max"

    def forward(self, ids: KeyedJagged) -> dict[str, Tensor]:
        """feature -> pooled_BD, float32; zeros for an empty bag.

        Weighted ids: ``sum`` and ``mean`` add weight times row; ``mean`` divides by the number of ids.

        Raises:
            DataError: ids that do not fit the tables, or are not laid out as ``KeyedJagged`` says.
        """
        max_pooled = [f for f, table in self.table_of.items() if table.pooling == "max"]
        if max_pooled and ids.weights_N is not None:
            raise DataError(f"feature {max_pooled[0]!r} is max-pooled, which knows no weights: pass none")
        found = self._lookup(ids)
        return {key: self._pool(key, found[key], ids.lengths_FB[i]) for i, key in enumerate(ids.keys)}

    def _pool(self, feature: str, vectors: Tensor, lengths_B: Tensor) -> Tensor:
        match self.table_of[feature].pooling:
            case "sum":
                return vectors
            case "mean":
                return vectors / lengths_B.clamp(min=1).unsqueeze(1)
            case "max":
                return segment_max(vectors, lengths_B)


class Embeddings(_Embeddings):
    """Un-pooled embeddings, as sequences need them: ``EmbeddingBags`` without regard to a table's pooling."""

    def _is_summed(self, table: EmbeddingTable) -> bool:
        return False

    def forward(self, ids: KeyedJagged) -> dict[str, Jagged]:
        """feature -> one row of its table, float32 [N, D], for each id, in the order of the ids.

        Raises:
            DataError: as ``EmbeddingBags``; or weights, which nothing here would use.
        """
        if ids.weights_N is not None:
            raise DataError("un-pooled embeddings know no weights: pass none")
        found = self._lookup(ids)
        offsets_FB = F.pad(ids.lengths_FB.cumsum(1), (1, 0))
        return {key: Jagged(found[key], offsets_FB[i]) for i, key in enumerate(ids.keys)}


class EmbeddingRows(_Embeddings):
    """One table, of which every id is a row: ``nn.Embedding``, cut over workers."""

    def _is_summed(self, table: EmbeddingTable) -> bool:
        return False

    def forward(self, ids_N: Tensor) -> Tensor:
        """row_ND, float32.

        Raises:
            DataError: an id outside the table.
        """
        (feature,) = self.table_of
        lengths_FB = torch.tensor([[len(ids_N)]], device=ids_N.device)
        return self._lookup(KeyedJagged((feature,), ids_N, lengths_FB))[feature]


def segment_max(values_ND: Tensor, lengths_B: Tensor) -> Tensor:
    """max_BD over each row's vectors; zeros where there are none. The gradient goes to the first largest."""
    offsets_B = F.pad(lengths_B.cumsum(0), (1, 0))
    index_N = torch.arange(len(values_ND), device=values_ND.device)
    return F.embedding_bag(index_N, values_ND, offsets_B, mode="max", include_last_offset=True)


def check_ids(ids: KeyedJagged, table_of: Mapping[str, EmbeddingTable], device: torch.device) -> None:
    """Raises DataError, before any kernel runs, unless ``ids`` fit the tables."""
    for key in ids.keys:
        if key not in table_of:
            raise DataError(f"no table for feature {key!r}{nearest(key, table_of)}")
    if missing := table_of.keys() - set(ids.keys):
        raise DataError(
            f"ids of feature {min(missing)!r} are missing: give it empty bags where there are none"
        )
    if len(ids.keys) != len(table_of):
        raise DataError(f"a feature comes twice among the keys {list(ids.keys)}")
    _check_layout(ids, device)
    rows_F = ids.lengths_FB.new_tensor([table_of[key].rows for key in ids.keys])
    rows_N = rows_F.repeat_interleave(ids.lengths_FB.sum(1), output_size=len(ids.values_N))
    outside_N = (ids.values_N < 0) | (ids.values_N >= rows_N)
    if outside_N.any():
        first = int(outside_N.nonzero()[0])
        feature = int((ids.lengths_FB.sum(1).cumsum(0) <= first).sum())
        key, value = ids.keys[feature], int(ids.values_N[first])
        raise DataError(
            f"feature {key!r} has id {value}, but table {table_of[key].name!r} has rows "
            f"0 to {table_of[key].rows - 1}: map unknown ids to a row of their own, or give it more rows"
        )


def _check_layout(ids: KeyedJagged, device: torch.device) -> None:
    num_values, shape = len(ids.values_N), list(ids.lengths_FB.shape)
    for name, tensor in (("values_N", ids.values_N), ("lengths_FB", ids.lengths_FB)):
        if tensor.dtype != torch.int64:
            raise DataError(f"{name} must be int64, got {tensor.dtype}: convert it with .to(torch.int64)")
    if ids.values_N.device.type != device.type:
        raise DataError(f"ids are on {ids.values_N.device}, the tables on {device}: move the batch there")
    if ids.values_N.dim() != 1 or len(shape) != 2 or shape[0] != len(ids.keys):
        raise DataError(
            f"expected values_N [N] and lengths_FB [{len(ids.keys)}, B], "
            f"got shapes {list(ids.values_N.shape)} and {shape}"
        )
    if ids.lengths_FB.numel() and int(ids.lengths_FB.min()) < 0:
        raise DataError(f"lengths_FB has the negative length {int(ids.lengths_FB.min())}")
    if (total := int(ids.lengths_FB.sum())) != num_values:
        raise DataError(f"lengths_FB sums to {total}, but there are {num_values} values")
    if ids.weights_N is not None:
        if ids.weights_N.shape != ids.values_N.shape or ids.weights_N.dtype != torch.float32:
            raise DataError(
                f"weights_N must be float32 [{num_values}], got {ids.weights_N.dtype} "
                f"{list(ids.weights_N.shape)}"
            )
        if ids.weights_N.requires_grad:
            raise DataError("weights_N must not require a gradient: tables give none")


def _backend(config: EmbeddingConfig) -> Callable[..., Tables]:
    if config.backend == "torch":
        return ShardedTables
    if not all(importlib.util.find_spec(name) for name in ("torchrec", "fbgemm_gpu")):
        raise ConfigError(
            "embedding.backend torchrec is not installed: run `make torchrec`, that is "
            "`pip install fbgemm-gpu-cpu==1.8.0 tensordict torchmetrics pyre-extensions` and "
            "`pip install --no-deps torchrec==1.8.0`; or set embedding.backend to torch"
        )
    from recray.ops.torchrec_tables import TorchRecTables

    return TorchRecTables


def _whole_or_sharded(sharded: Sharded) -> Tensor | Sharded:
    whole = sharded.whole()
    return sharded if whole is None else whole
