"""The *torch* backend of embedding tables: plain PyTorch, cut over workers, updated during backward.

Shards of one width lie in one stacked matrix, so that a step is one ``embedding_bag`` and one sort,
whatever the number of tables. With several workers a step is four all-to-alls: sizes, ids, vectors,
gradients.

Shapes: N ids, F features, G bags, D width, C column blocks, P rows of a stack.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recray.autograd import AutogradContext
from recray.batch import KeyedJagged
from recray.config import ConfigError
from recray.ops.embedding_plan import (
    EmbeddingConfig,
    EmbeddingTable,
    Placement,
    Shard,
    fill_initial,
    plan_shards,
)
from recray.ops.exchange import Exchange, Request
from recray.ops.rowwise_adagrad import Bags, rowwise_adagrad_, sum_bags
from recray.ops.sharded import Piece, Sharded


class _Slot(NamedTuple):
    """One feature looked up in one shard. All ranks list the slots of all ranks in the same order."""

    feature: str
    shard: Shard
    stack: int
    shift: int  # row of the stack = id + shift


@dataclass
class _Stack:
    """Shards of one width and number of column blocks, one below the other."""

    shards: list[Shard] = field(default_factory=list)
    num_rows: int = 0
    weight_PD: Tensor = field(default_factory=lambda: torch.empty(0))
    sums_PC: Tensor = field(default_factory=lambda: torch.empty(0))

    def add(self, shard: Shard) -> int:
        """The row that the shard begins at."""
        self.shards.append(shard)
        self.num_rows += shard.num_rows
        if self.num_rows >= 2**31:
            raise ConfigError("a worker cannot hold 2^31 rows of one width: use more workers")
        return self.num_rows - shard.num_rows

    def allocate(self, device: torch.device) -> None:
        self.weight_PD = torch.empty(self.num_rows, self.shards[0].width, device=device)
        self.sums_PC = torch.zeros(self.num_rows, self.shards[0].blocks, device=device)


class _Layout(NamedTuple):
    """How a batch with certain keys becomes the request to one rank."""

    slots: list[_Slot]
    positions: list[int]  # of the slots' features among the keys
    positions_S: Tensor
    shifts_S: Tensor  # int32
    bounds_S2: Tensor | None  # the rows that the shards hold; None: all of every table


class _Counted(NamedTuple):
    """A batch and what each of its features has."""

    ids: KeyedJagged
    lengths_FB: Tensor  # int32
    counts_F: Tensor
    num_ids: list[int]
    num_bags: list[int]


class ShardedTables:
    """Embedding tables over the workers of a run.

    Args:
        pooled: names of the tables whose bags are summed; of the others every id's row is returned.
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
        self.config, self.placement, self.lr = config, placement, config.lr
        self.tables = {table.name: table for table in tables}
        self.pooled = {f for t in tables if t.name in pooled for f in t.features}
        self.plan = plan_shards(tables, config, placement.world_size)
        self._exchange = Exchange(placement)
        laid_out = [self._lay_out(rank) for rank in range(placement.world_size)]
        self._slots = [slots for slots, _ in laid_out]
        self._stacks = laid_out[placement.rank][1]
        for stack in self._stacks:
            stack.allocate(placement.device)
        for name, sharded in self.weights().items():
            for piece in sharded.pieces:
                fill_initial(piece, self.tables[name], seed)
        # The tables are no parameters; this is what makes autograd come by.
        self._anchor = torch.zeros((), requires_grad=True)
        self._layouts: dict[tuple[str, ...], list[_Layout]] = {}

    def _lay_out(self, rank: int) -> tuple[list[_Slot], list[_Stack]]:
        shards = [shard for shard in self.plan if shard.rank == rank]
        kinds = sorted({(shard.width, shard.blocks) for shard in shards})
        stacks = [_Stack() for _ in kinds]
        slots: list[_Slot] = []
        for shard in sorted(shards, key=lambda s: (s.width, s.blocks)):
            index = kinds.index((shard.width, shard.blocks))
            shift = stacks[index].add(shard) - shard.rows[0]
            slots += [_Slot(f, shard, index, shift) for f in self.tables[shard.table].features]
        return slots, stacks

    def weights(self) -> dict[str, Sharded]:
        """table -> [rows, dim], views of what is here."""
        pieces = self._pieces([stack.weight_PD for stack in self._stacks])
        return {n: Sharded(torch.Size((t.rows, t.dim)), pieces[n]) for n, t in self.tables.items()}

    def sums(self) -> dict[str, Sharded]:
        """table -> Adagrad sums [rows, column blocks], views of what is here."""
        pieces = self._pieces([stack.sums_PC for stack in self._stacks])
        return {
            n: Sharded(torch.Size((t.rows, self.config.blocks)), pieces[n]) for n, t in self.tables.items()
        }

    def _pieces(self, stacked: list[Tensor]) -> dict[str, tuple[Piece, ...]]:
        pieces: dict[str, tuple[Piece, ...]] = dict.fromkeys(self.tables, ())
        for stack, tensor in zip(self._stacks, stacked, strict=True):
            parts = tensor.split_with_sizes([shard.num_rows for shard in stack.shards])
            for shard, part in zip(stack.shards, parts, strict=True):
                column = shard.columns[0] * part.shape[1] // shard.width
                pieces[shard.table] += (Piece(part, (shard.rows[0], column)),)
        return pieces

    def lookup(self, ids: KeyedJagged, *, update: bool) -> dict[str, Tensor]:
        """feature -> sums of its bags [B, D]; or the rows of its ids [N, D], where they are not pooled.

        Args:
            ids: checked before; the keys are the features of the tables, in any order.
            update: whether the backward pass updates the tables.
        """
        batch, layouts = self._count(ids), self._layouts_of(ids.keys)
        requests = [self._request(batch, layout) for layout in layouts]
        sizes = [
            [
                batch.num_bags[i] * slot.shard.width
                for slot, i in zip(layout.slots, layout.positions, strict=True)
            ]
            for layout in layouts
        ]
        anchor = self._anchor if update else self._anchor.detach()
        flat: Tensor = _Lookup.apply(anchor, self, requests, [sum(s) for s in sizes])  # type: ignore[no-untyped-call]
        # One split, whose backward pass is one concatenation.
        parts = flat.split_with_sizes(list(chain(*sizes)))
        found: dict[str, dict[int, Tensor]] = {key: {} for key in ids.keys}
        for slot, part in zip(chain(*self._slots), parts, strict=True):
            blocks, column = found[slot.feature], slot.shard.columns[0]
            vectors = part.view(-1, slot.shard.width)
            blocks[column] = blocks[column] + vectors if column in blocks else vectors  # cut by rows
        return {key: _side_by_side(blocks) for key, blocks in found.items()}

    def _count(self, ids: KeyedJagged) -> _Counted:
        counts_F = ids.lengths_FB.sum(1)
        num_ids: list[int] = counts_F.tolist()
        bags = [ids.num_rows() if key in self.pooled else n for key, n in zip(ids.keys, num_ids, strict=True)]
        return _Counted(ids, ids.lengths_FB.to(torch.int32), counts_F, num_ids, bags)

    def _layouts_of(self, keys: tuple[str, ...]) -> list[_Layout]:
        if keys not in self._layouts:
            self._layouts[keys] = [self._layout(keys, slots) for slots in self._slots]
        return self._layouts[keys]

    def _layout(self, keys: tuple[str, ...], slots: list[_Slot]) -> _Layout:
        device, positions = self.placement.device, [keys.index(slot.feature) for slot in slots]
        whole = all(slot.shard.num_rows == self.tables[slot.shard.table].rows for slot in slots)
        return _Layout(
            slots,
            positions,
            torch.tensor(positions, dtype=torch.int64, device=device),
            torch.tensor([slot.shift for slot in slots], dtype=torch.int32, device=device),
            None if whole else torch.tensor([slot.shard.rows for slot in slots], device=device),
        )

    def _request(self, batch: _Counted, layout: _Layout) -> Request:
        """What this rank asks one other for."""
        num_bags, num_ids = ([0] * (1 + max((s.stack for s in layout.slots), default=-1)) for _ in "bn")
        for slot, i in zip(layout.slots, layout.positions, strict=True):
            num_bags[slot.stack] += batch.num_bags[i]
            num_ids[slot.stack] += batch.num_ids[i]
        counts_S, total = batch.counts_F[layout.positions_S], sum(num_ids)
        values_N = _taken(batch.ids.values_N, batch.num_ids, layout.positions)
        weights_N = batch.ids.weights_N
        if weights_N is not None:
            weights_N = _taken(weights_N, batch.num_ids, layout.positions)
        rows_N = values_N.to(torch.int32) + layout.shifts_S.repeat_interleave(counts_S, output_size=total)
        bags = Bags(self._lengths(batch, layout), rows_N, weights_N)
        if layout.bounds_S2 is not None:
            low_N, high_N = layout.bounds_S2.repeat_interleave(counts_S, 0, output_size=total).unbind(1)
            bags = _kept(bags, (values_N >= low_N) & (values_N < high_N))
            num_ids = [int(part.sum()) for part in bags.lengths_G.split_with_sizes(num_bags)]
        return Request(bags, num_bags, num_ids)

    def _lengths(self, batch: _Counted, layout: _Layout) -> Tensor:
        """lengths_G: of the bags; where a feature is not pooled, each id is a bag."""
        if all(slot.feature in self.pooled for slot in layout.slots):
            return batch.lengths_FB.index_select(0, layout.positions_S).view(-1)
        return torch.cat(
            [
                batch.lengths_FB[i]
                if slot.feature in self.pooled
                else batch.lengths_FB.new_ones(batch.num_ids[i])
                for slot, i in zip(layout.slots, layout.positions, strict=True)
            ]
        )

    def serve(self, requests: list[Request], answer_sizes: list[int]) -> tuple["_Served", Tensor]:
        """Looks up what all ranks ask this one for; gets this rank's answers, one flat float buffer."""
        received = self._exchange.requests(requests, len(self._stacks))
        bags = [_joined(of_ranks) for of_ranks in zip(*(r.by_stack() for r in received), strict=True)]
        widths = [stack.weight_PD.shape[1] for stack in self._stacks]
        sizes = [[n * d for n, d in zip(r.num_bags, widths, strict=True)] for r in received]
        served = _Served(bags, sizes, answer_sizes)
        summed = [sum_bags(s.weight_PD, b).view(-1) for s, b in zip(self._stacks, bags, strict=True)]
        flat = served.by_rank(summed) if summed else torch.empty(0, device=self.placement.device)
        return served, self._exchange.vectors(flat, served.rank_sizes(), answer_sizes)

    def update(self, served: "_Served", grad: Tensor) -> None:
        """Sends the gradients of this rank's answers to their owners; updates what is here.

        They are divided by the number of workers, as TorchRec does: what is minimised is then the mean
        of the workers' losses, as it is for dense parameters under DistributedDataParallel.
        """
        flat = self._exchange.vectors(grad.contiguous(), served.answer_sizes, served.rank_sizes())
        scale = 1 / self.placement.world_size
        for stack, bags, part in zip(self._stacks, served.bags, served.by_stack(flat), strict=True):
            weight_PD, sums_PC = stack.weight_PD, stack.sums_PC
            grad_GD = part.view(-1, weight_PD.shape[1])
            rowwise_adagrad_(weight_PD, sums_PC, bags, grad_GD, lr=self.lr, eps=self.config.eps, scale=scale)


class _Served(NamedTuple):
    """What this rank looked up for all."""

    bags: list[Bags]  # of each stack, rank by rank
    sizes: list[list[int]]  # floats for each rank and stack
    answer_sizes: list[int]  # floats that each rank looked up for this one

    def rank_sizes(self) -> list[int]:
        return [sum(of_stacks) for of_stacks in self.sizes]

    def by_rank(self, stacked: list[Tensor]) -> Tensor:
        """One flat tensor of each stack, made one tensor that goes rank by rank."""
        if len(stacked) == 1:
            return stacked[0]
        parts = [
            flat.split_with_sizes(s) for flat, s in zip(stacked, zip(*self.sizes, strict=True), strict=True)
        ]
        return torch.cat(list(chain(*zip(*parts, strict=True))))

    def by_stack(self, flat: Tensor) -> list[Tensor]:
        """The reverse of ``by_rank``."""
        if len(self.bags) == 1:
            return [flat]
        parts = [
            part.split_with_sizes(s)
            for part, s in zip(flat.split_with_sizes(self.rank_sizes()), self.sizes, strict=True)
        ]
        return [torch.cat(of_ranks) for of_ranks in zip(*parts, strict=True)]


class _LookupContext(AutogradContext, Protocol):
    tables: ShardedTables
    served: _Served


class _Lookup(torch.autograd.Function):
    """Requests -> vectors; its backward pass updates the tables and gives no gradients."""

    @staticmethod
    def forward(
        ctx: _LookupContext,
        anchor: Tensor,
        tables: ShardedTables,
        requests: list[Request],
        answer_sizes: list[int],
    ) -> Tensor:
        ctx.tables = tables
        ctx.served, flat = tables.serve(requests, answer_sizes)
        return flat

    @staticmethod
    @once_differentiable
    def backward(ctx: _LookupContext, grad: Tensor) -> tuple[None, None, None, None]:
        ctx.tables.update(ctx.served, grad)
        return None, None, None, None


def _taken(values_N: Tensor, counts: list[int], positions: list[int]) -> Tensor:
    """The parts of ``counts`` values at these positions, end to end."""
    if positions == list(range(len(counts))):
        return values_N
    parts = values_N.split_with_sizes(counts)
    return torch.cat([parts[i] for i in positions]) if positions else values_N[:0]


def _kept(bags: Bags, keep_N: Tensor) -> Bags:
    """Bags without the ids that are not to be kept; the number of bags stays."""
    lengths_G, rows_N, weights_N = bags
    index_G = torch.arange(len(lengths_G), device=rows_N.device)
    bag_of_N = index_G.repeat_interleave(lengths_G, output_size=len(rows_N))
    lengths_G = bag_of_N[keep_N].bincount(minlength=len(lengths_G)).to(torch.int32)
    return Bags(lengths_G, rows_N[keep_N], None if weights_N is None else weights_N[keep_N])


def _joined(bags: Sequence[Bags]) -> Bags:
    if len(bags) == 1:
        return bags[0]
    lengths, rows, weights = zip(*bags, strict=True)
    return Bags(torch.cat(lengths), torch.cat(rows), None if weights[0] is None else torch.cat(weights))


def _side_by_side(blocks: dict[int, Tensor]) -> Tensor:
    """Column blocks, by their first column."""
    return (
        torch.cat([blocks[c] for c in sorted(blocks)], 1) if len(blocks) > 1 else next(iter(blocks.values()))
    )
