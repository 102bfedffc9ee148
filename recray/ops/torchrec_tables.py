"""The *torchrec* backend of embedding tables: TorchRec's planner and model parallelism, fbgemm's kernels.

The only home of torchrec and fbgemm. Row-wise Adagrad is fused into fbgemm's backward pass. Pooled
tables are one EmbeddingBagCollection; so are the others, with every id a bag of its own: TorchRec's
EmbeddingCollection fails in its backward pass on a worker that holds none of the tables.
"""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import BoundsCheckMode
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    SplitTableBatchedEmbeddingBagsCodegen as Kernel,
)
from torch import Tensor
from torchrec.distributed.batched_embedding_kernel import BatchedFusedEmbeddingBag
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints, Topology
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import PlannerError
from torchrec.distributed.types import ShardingEnv
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from recray.batch import KeyedJagged
from recray.config import ConfigError
from recray.ops.embedding_plan import (
    EmbeddingConfig,
    EmbeddingTable,
    Placement,
    Shard,
    Strategy,
    fill_initial,
)
from recray.ops.exchange import backend_of, own_group
from recray.ops.sharded import Piece, Sharded

# They warn about internals of TorchRec and its planner that nobody here can change.
for _name in ("torchrec", "torch.fx._symbolic_trace"):
    logging.getLogger(_name).setLevel(logging.ERROR)

WIDTH_MULTIPLE = 4  # fbgemm's kernels take no other widths
STRATEGIES: dict[str, Strategy] = {
    "auto": "table_wise",
    "table_wise": "table_wise",
    "column_wise": "column_wise",
    "row_wise": "row_wise",
}


class TorchRecTables:
    """Embedding tables over the workers of a run; as ``sharded_tables.ShardedTables``.

    Raises:
        ConfigError: what TorchRec does not offer.
    """

    def __init__(
        self,
        tables: Sequence[EmbeddingTable],
        config: EmbeddingConfig,
        placement: Placement,
        *,
        pooled: frozenset[str],
        seed: int,
    ) -> None:
        _check(tables, config, placement)
        self.config, self.placement = config, placement
        self.tables = {table.name: table for table in tables}
        # Inside TorchRec tables are called by number: it does not take every name.
        self._numbers = {table.name: str(i) for i, table in enumerate(tables)}
        self._group = _group(placement)
        groups = [[t for t in tables if (t.name in pooled) == wanted] for wanted in (True, False)]
        self._models = [self._shard(group) if group else None for group in groups]
        self._features = [[feature for table in group for feature in table.features] for group in groups]
        models = [model for model in self._models if model is not None]
        self._kernels = [kernel for model in models for kernel in _kernels(model)]
        self.plan = tuple(shard for model in models for shard in self._shards(model))
        for name, sharded in self.weights().items():
            for piece in sharded.pieces:
                fill_initial(piece, self.tables[name], seed)
        self.lr = config.lr

    @property
    def lr(self) -> float:
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = value
        for kernel in self._kernels:
            kernel.emb_module.set_learning_rate(value)

    def _shard(self, tables: Sequence[EmbeddingTable]) -> DistributedModelParallel:
        collection: Any = EmbeddingBagCollection(
            [
                EmbeddingBagConfig(
                    name=self._numbers[table.name],
                    num_embeddings=table.rows,
                    embedding_dim=table.dim,
                    feature_names=list(table.features),
                )
                for table in tables
            ],
            device=torch.device("meta"),
        )
        fused = {
            "optimizer": EmbOptimType.EXACT_ROWWISE_ADAGRAD,
            "learning_rate": self.config.lr,
            "eps": self.config.eps,
            "bounds_check_mode": BoundsCheckMode.NONE,  # ids are checked before
        }
        sharders: list[Any] = [EmbeddingBagCollectionSharder(fused_params=fused)]
        strategy, blocks = STRATEGIES[self.config.sharding], self.config.blocks
        constraints = {
            self._numbers[t.name]: ParameterConstraints(
                sharding_types=[strategy],
                compute_kernels=["fused"],
                min_partition=t.dim // blocks if strategy == "column_wise" else None,
            )
            for t in tables
        }
        world_size, device = self.placement.world_size, self.placement.device
        topology = Topology(
            world_size=world_size,
            compute_device=device.type,
            local_world_size=int(os.environ.get("LOCAL_WORLD_SIZE", world_size)),
        )
        planner = EmbeddingShardingPlanner(
            topology=topology,
            constraints=constraints,
            storage_reservation=FixedPercentageStorageReservation(percentage=0.15),
        )
        try:
            plan = planner.collective_plan(collection, sharders, self._group)
        except PlannerError as error:
            raise ConfigError(f"TorchRec finds no plan for embedding.sharding {strategy}: {error}") from error
        env = ShardingEnv.from_process_group(self._group)
        return DistributedModelParallel(
            collection, env, device, plan, sharders, init_data_parallel=False, init_parameters=False
        )

    def _shards(self, model: DistributedModelParallel) -> list[Shard]:
        names = {number: name for name, number in self._numbers.items()}
        shards = []
        for module_plan in model.plan.plan.values():
            for number, parameter in module_plan.items():
                for part, rank in zip(parameter.sharding_spec.shards, parameter.ranks, strict=True):
                    (row, column), (rows, columns) = part.shard_offsets, part.shard_sizes
                    spans = (row, row + rows), (column, column + columns)
                    shards.append(Shard(names[number], rank, parameter.sharding_type, *spans))
        return shards

    def weights(self) -> dict[str, Sharded]:
        """table -> [rows, dim], views of what is here."""
        return self._views(
            {t.name: t.dim for t in self.tables.values()}, lambda k: k.split_embedding_weights()
        )

    def sums(self) -> dict[str, Sharded]:
        """table -> Adagrad sums [rows, column blocks], views of what is here."""
        columns = dict.fromkeys(self.tables, self.config.blocks)
        return self._views(columns, lambda k: [s.unsqueeze(1) for (s,) in k.split_optimizer_states()])

    def _views(
        self, columns: dict[str, int], read: Callable[[Kernel], Iterable[Tensor]]
    ) -> dict[str, Sharded]:
        pieces: dict[str, tuple[Piece, ...]] = dict.fromkeys(self._numbers.values(), ())
        names = list(self.tables)
        for kernel in self._kernels:
            for part, tensor in zip(kernel.config.embedding_tables, read(kernel.emb_module), strict=True):
                name = names[int(part.name)]
                row, column = part.local_metadata.shard_offsets
                offsets = (row, column * columns[name] // self.tables[name].dim)
                pieces[part.name] += (Piece(tensor, offsets),)
        return {
            name: Sharded(torch.Size((table.rows, columns[name])), pieces[self._numbers[name]])
            for name, table in self.tables.items()
        }

    def lookup(self, ids: KeyedJagged, *, update: bool) -> dict[str, Tensor]:
        """feature -> sums of its bags [B, D]; or the rows of its ids [N, D], where they are not pooled."""
        batch = KeyedJaggedTensor(
            list(ids.keys),
            ids.values_N,
            lengths=ids.lengths_FB.reshape(-1),
            weights=ids.weights_N,
            stride=ids.num_rows(),
        )
        pooled, rows = self._models
        found: dict[str, Tensor] = {}
        with torch.set_grad_enabled(update):
            # Vectors go by their keys: KeyedTensor.values() has them in the order of the plan.
            if pooled is not None:
                found |= pooled(_in_order(batch, self._features[0])).wait().to_dict()
            if rows is not None:
                one_each, counts = _one_each(_in_order(batch, self._features[1]))
                vectors = rows(one_each).wait().to_dict()
                found |= {key: vectors[key][:n] for key, n in zip(self._features[1], counts, strict=True)}
        return found


def _check(tables: Sequence[EmbeddingTable], config: EmbeddingConfig, placement: Placement) -> None:
    if config.sharding == "row_wise" and placement.device.type == "cpu":
        raise ConfigError(
            "TorchRec offers no row_wise sharding on CPUs: set embedding.backend to torch, "
            "or embedding.sharding to table_wise or column_wise"
        )
    for table in tables:
        if (width := table.dim // config.blocks) % WIDTH_MULTIPLE:
            raise ConfigError(
                f"fbgemm takes widths that are multiples of {WIDTH_MULTIPLE}, but table {table.name!r} of "
                f"dim {table.dim} has blocks of {width} columns: change dim or embedding.backend"
            )


def _group(placement: Placement) -> dist.ProcessGroup:
    """TorchRec wants a process group, be it of one process."""
    if placement.world_size > 1:
        return own_group(placement)
    if not dist.is_initialized():
        dist.init_process_group(
            "gloo",
            store=dist.HashStore(),  # type: ignore[attr-defined]
            rank=0,
            world_size=1,
        )
    group: dist.ProcessGroup = dist.new_group(
        [dist.get_rank()], backend=backend_of(placement), use_local_synchronization=True
    )
    return group


def _kernels(model: DistributedModelParallel) -> list[BatchedFusedEmbeddingBag]:
    """The fbgemm modules of this rank, which TorchRec keeps out of ``modules()``."""
    modules = (module for lookup in model.module._lookups for module in lookup.modules())
    return [module for module in modules if isinstance(module, BatchedFusedEmbeddingBag)]


def _in_order(batch: KeyedJaggedTensor, keys: list[str]) -> KeyedJaggedTensor:
    """TorchRec keeps the order of the first batch's keys for ever: every batch gets the same."""
    found: list[str] = batch.keys()
    return batch if found == keys else batch.permute([found.index(key) for key in keys])


def _one_each(batch: KeyedJaggedTensor) -> tuple[KeyedJaggedTensor, list[int]]:
    """A batch in which every id is a bag, with empty bags behind; and the number of ids of each feature."""
    counts: list[int] = batch.length_per_key()
    width = max(counts)
    numbers = torch.arange(width, device=batch.values().device)
    lengths = numbers < torch.tensor(counts, device=numbers.device).unsqueeze(1)
    keys = batch.keys()
    return KeyedJaggedTensor(keys, batch.values(), lengths=lengths.long().view(-1), stride=width), counts
