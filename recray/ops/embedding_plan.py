"""Embedding tables: what they are, which worker holds which part of them, and their first weights.

Owns what both backends must agree upon. The lookups are in ``sharded_tables`` and ``torchrec_tables``.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from recray.config import ELASTIC, ConfigError
from recray.ops.sharded import Piece

Strategy = Literal["table_wise", "column_wise", "row_wise"]
FLOAT_BYTES = 4
INIT_ROWS = 16_384  # rows that one random stream fills
SLACK = 1.1  # a rank is full when it holds this many times its fair share of the bytes
WORTH_CUTTING_BYTES = 16 * 2**20  # imbalance below this costs less than the traffic of cutting a table


@dataclass(frozen=True, kw_only=True)
class EmbeddingTable:
    """An embedding table and the features that look up rows of it."""

    name: str
    rows: int
    dim: int
    features: tuple[str, ...]
    """Features whose ids are rows of this table; several share it."""
    pooling: Literal["sum", "mean", "max"] = "sum"
    """How the rows of one bag become one vector; an empty bag is zeros."""
    std: float | None = None
    """Of first weights, which are normal then; None: uniform, as DLRM starts."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
    """How embedding tables are held, cut over workers and updated."""

    backend: Literal["torch", "torchrec"] = field(default="torch", metadata={ELASTIC: True})
    """torch: plain PyTorch. torchrec: TorchRec with fbgemm (`make torchrec`). The numbers are the same."""
    sharding: Literal["auto", "table_wise", "column_wise", "row_wise"] = field(
        default="auto", metadata={ELASTIC: True}
    )
    """auto: whole tables in balance; the torch backend cuts those too large for it by rows."""
    column_blocks: int = 2
    """column_wise cuts each table into so many, on any number of workers; each has its own Adagrad sums."""
    lr: float = 0.02
    """Learning rate of row-wise Adagrad."""
    eps: float = 1e-8
    """Added to the root of the Adagrad sums."""

    def __post_init__(self) -> None:
        if self.column_blocks < 1:
            raise ConfigError(f"embedding.column_blocks must be at least 1, got {self.column_blocks}")
        if self.lr < 0 or self.eps < 0:
            raise ConfigError("embedding.lr and embedding.eps must not be negative")

    def pinned(self) -> dict[str, int]:
        """What a resumed run cannot change, though it may change the strategy."""
        return {"blocks": self.blocks}

    @property
    def blocks(self) -> int:
        """Adagrad sums per row: columns that share a sum are never cut apart."""
        return self.column_blocks if self.sharding == "column_wise" else 1


@dataclass(frozen=True)
class Placement:
    """Which of the workers this process is."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - a device is immutable


@dataclass(frozen=True)
class Shard:
    """A part of a table on one worker: ``rows`` and ``columns`` from the first to before the last."""

    table: str
    rank: int
    strategy: Strategy
    rows: tuple[int, int]
    columns: tuple[int, int]
    blocks: int = 1
    """Column blocks in it."""

    @property
    def num_rows(self) -> int:
        return self.rows[1] - self.rows[0]

    @property
    def width(self) -> int:
        return self.columns[1] - self.columns[0]

    @property
    def size_bytes(self) -> int:
        """Of the weights and the optimizer's sums."""
        return self.num_rows * (self.width + self.blocks) * FLOAT_BYTES


def check_tables(tables: Sequence[EmbeddingTable], blocks: int) -> None:
    """Raises ConfigError where tables make no sense."""
    for kind, names in (
        ("table", [t.name for t in tables]),
        ("feature", [f for t in tables for f in t.features]),
    ):
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise ConfigError(f"{kind} names must differ, {repeated[0]!r} comes twice")
    for table in tables:
        if not 0 < table.rows < 2**31 or table.dim < 1:
            raise ConfigError(f"table {table.name!r} must have 1 to 2^31 - 1 rows and a dim, got {table}")
        if table.dim % blocks:
            raise ConfigError(
                f"table {table.name!r} has dim {table.dim}: embedding.column_blocks {blocks} must divide it"
            )


def plan_shards(
    tables: Sequence[EmbeddingTable], config: EmbeddingConfig, world_size: int
) -> tuple[Shard, ...]:
    """Where the torch backend puts every part of every table; the same on all ranks."""
    if config.sharding == "row_wise":
        return tuple(shard for table in tables for shard in _by_rows(table, world_size))
    if config.sharding == "auto":
        return _auto(tables, world_size)
    return _whole_blocks(tables, config.blocks, world_size, config.sharding, [0] * world_size)


def _by_rows(table: EmbeddingTable, world_size: int) -> list[Shard]:
    step = math.ceil(table.rows / world_size)
    cuts = [(start, min(start + step, table.rows)) for start in range(0, table.rows, step)]
    return [Shard(table.name, rank, "row_wise", rows, (0, table.dim)) for rank, rows in enumerate(cuts)]


def _auto(tables: Sequence[EmbeddingTable], world_size: int) -> tuple[Shard, ...]:
    """Whole tables; while a rank stays too full, one more of the largest is cut by rows."""
    largest_first = sorted(tables, key=lambda t: t.rows * (t.dim + 1), reverse=True)
    for num_cut in range(len(tables) + 1):
        cut = [shard for table in largest_first[:num_cut] for shard in _by_rows(table, world_size)]
        load = bytes_per_rank(cut, world_size)
        plan = (*cut, *_whole_blocks(largest_first[num_cut:], 1, world_size, "table_wise", load))
        load = bytes_per_rank(plan, world_size)
        fair = sum(load) / world_size
        if max(load) <= max(SLACK * fair, fair + WORTH_CUTTING_BYTES):
            break
    return plan


def _whole_blocks(
    tables: Sequence[EmbeddingTable], blocks: int, world_size: int, strategy: Strategy, load: list[int]
) -> tuple[Shard, ...]:
    """Blocks of columns, the largest first, each to the rank with the least traffic that is not full."""
    load, traffic = list(load), [0] * world_size
    total = sum(load) + sum(t.rows * (t.dim + blocks) * FLOAT_BYTES for t in tables)
    plan: list[Shard] = []
    for table in sorted(tables, key=lambda t: t.rows * t.dim, reverse=True):
        width = table.dim // blocks
        for block in range(blocks):
            shard = Shard(table.name, 0, strategy, (0, table.rows), (block * width, (block + 1) * width))
            full = [load[r] + shard.size_bytes > SLACK * total / world_size for r in range(world_size)]
            costs = [
                (full[r], load[r] if full[r] else traffic[r], load[r], (r - block) % world_size)
                for r in range(world_size)
            ]
            rank = costs.index(min(costs))
            load[rank] += shard.size_bytes
            traffic[rank] += width * len(table.features)
            plan.append(Shard(table.name, rank, strategy, shard.rows, shard.columns))
    return _merged(plan)


def _merged(plan: Sequence[Shard]) -> tuple[Shard, ...]:
    """Neighbouring blocks of a table on the same rank become one shard."""
    merged: list[Shard] = []
    for shard in plan:
        last = merged[-1] if merged else None
        if last and (last.table, last.rank, last.columns[1]) == (shard.table, shard.rank, shard.columns[0]):
            columns = (last.columns[0], shard.columns[1])
            blocks = last.blocks + shard.blocks
            merged[-1] = Shard(last.table, last.rank, last.strategy, last.rows, columns, blocks)
        else:
            merged.append(shard)
    return tuple(merged)


def bytes_per_rank(plan: Sequence[Shard], world_size: int) -> list[int]:
    """Bytes of weights and optimizer state on each rank."""
    return [sum(s.size_bytes for s in plan if s.rank == rank) for rank in range(world_size)]


def describe(plan: Sequence[Shard], config: EmbeddingConfig, world_size: int) -> str:
    """The plan as a table to print, with the bytes per rank."""
    lines = [f"embedding tables: backend {config.backend}, sharding {config.sharding}"]
    heading = ("table", "rows", "columns", "bytes", "strategy", "rank")
    cells = [heading] + [
        (s.table, _span(s.rows), _span(s.columns), f"{s.size_bytes:,}", s.strategy, str(s.rank)) for s in plan
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines += ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells]
    load = bytes_per_rank(plan, world_size)
    lines += [
        f"rank {rank}: {size:,} bytes, {size / max(sum(load), 1):.3f} of all"
        for rank, size in enumerate(load)
    ]
    return "\n".join(lines)


def _span(span: tuple[int, int]) -> str:
    return f"{span[0]:,}..{span[1] - 1:,}"


def fill_initial(piece: Piece, table: EmbeddingTable, seed: int) -> None:
    """Normal of the table's own deviation, or Uniform(-1/sqrt(rows), 1/sqrt(rows)), as the original DLRM
    starts (arXiv 1906.00091's code).

    A pure function of (seed, table, row, column): every way of cutting the table starts alike.
    """
    (first, left), (num_rows, width) = piece.offsets, piece.tensor.shape
    bound = 1 / math.sqrt(table.rows)
    for start in range(first - first % INIT_ROWS, first + num_rows, INIT_ROWS):
        name = f"{seed}/{table.name}/{start}".encode()
        stream = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little") >> 1
        values = torch.empty(min(INIT_ROWS, table.rows - start), table.dim)
        generator = torch.Generator().manual_seed(stream)
        if table.std is None:
            values.uniform_(-bound, bound, generator=generator)
        else:
            values.normal_(std=table.std, generator=generator)
        low, high = max(start, first), min(start + len(values), first + num_rows)
        piece.tensor[low - first : high - first] = values[low - start : high - start, left : left + width]
