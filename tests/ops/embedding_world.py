"""Tables of every kind, batches for them, a slow reference, and several workers in processes of their own."""

import multiprocessing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn

from recray.batch import KeyedJagged
from recray.ops.embedding_bags import EmbeddingBags, EmbeddingConfig, EmbeddingTable, Placement, Sharded

TIMEOUT_S = 240

TABLES = (
    EmbeddingTable(name="users", rows=53, dim=8, features=("user",)),
    EmbeddingTable(name="items", rows=31, dim=16, features=("item", "last_item"), pooling="sum"),
    EmbeddingTable(name="genres", rows=11, dim=8, features=("genres",), pooling="mean"),
    EmbeddingTable(name="tags", rows=23, dim=16, features=("tags",), pooling="max"),
    EmbeddingTable(name="flag", rows=1, dim=8, features=("flag",)),
)
SINGLE = ("user", "item", "flag")
ROWS = {feature: table.rows for table in TABLES for feature in table.features}
DIMS = {feature: table.dim for table in TABLES for feature in table.features}
NO_MAX = tuple(table for table in TABLES if table.pooling != "max")


def keyed(bags: dict[str, list[list[int]]]) -> KeyedJagged:
    values = [i for rows in bags.values() for row in rows for i in row]
    lengths = torch.tensor([[len(row) for row in rows] for rows in bags.values()], dtype=torch.int64)
    return KeyedJagged(tuple(bags), torch.tensor(values, dtype=torch.int64), lengths)


def random_bags(step: int, size: int = 12) -> dict[str, list[list[int]]]:
    """A global batch: one id each of the single features, 0 to 4 of the others, repeats included."""
    generator = torch.Generator().manual_seed(step)

    def draw(high: int, n: int) -> list[int]:
        # Squared, so that some ids come often.
        return [int(x * x * high) for x in torch.rand(n, generator=generator).tolist()]

    counts = torch.randint(0, 5, (len(ROWS), size), generator=generator).tolist()
    return {
        feature: [draw(rows, 1 if feature in SINGLE else n) for n in count]
        for (feature, rows), count in zip(ROWS.items(), counts, strict=True)
    }


def with_weights(ids: KeyedJagged, step: int) -> KeyedJagged:
    generator = torch.Generator().manual_seed(step)
    return ids._replace(weights_N=torch.rand(len(ids.values_N), generator=generator) + 0.5)


class Head(nn.Module):
    """A dense layer on top, so that gradients differ from row to row."""

    def __init__(self, features: dict[str, int]) -> None:
        super().__init__()
        self.layer = nn.Linear(sum(features.values()), 4)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-1, 1, generator=generator)
        self.features = sorted(features)

    def forward(self, pooled: dict[str, Tensor]) -> Tensor:
        return torch.tanh(self.layer(torch.cat([pooled[f] for f in self.features], 1))).square().sum(1)


Backend: TypeAlias = Literal["torch", "torchrec"]
Sharding: TypeAlias = Literal["auto", "table_wise", "column_wise", "row_wise"]
Piece: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], Tensor]  # shape of the whole, offsets, copy


@dataclass(frozen=True)
class Case:
    """A training run; ``uneven``: the last rank has fewer rows, and at times none."""

    config: EmbeddingConfig
    tables: tuple[EmbeddingTable, ...] = TABLES
    weighted: bool = False
    uneven: bool = True
    steps: int = 50

    @property
    def features(self) -> dict[str, int]:
        return {feature: table.dim for table in self.tables for feature in table.features}


def share(case: Case, step: int, rank: int, world_size: int) -> KeyedJagged:
    bags = {f: rows for f, rows in random_bags(step).items() if f in case.features}
    if step % 2:
        bags = dict(reversed(bags.items()))
    size = 12
    cuts = [0, size] if world_size == 1 else [0, (size, 7, 10)[step % 3] if case.uneven else size // 2, size]
    mine = {f: rows[cuts[rank] : cuts[rank + 1]] for f, rows in bags.items()}
    if not case.weighted:
        return keyed(mine)
    # Weights are a function of where a row is in the global batch.
    weights = [
        1 + (7 * b + i) % 5 / 4
        for rows in mine.values()
        for b, row in enumerate(rows, cuts[rank])
        for i in range(len(row))
    ]
    return keyed(mine)._replace(weights_N=torch.tensor(weights, dtype=torch.float32))


def train(
    case: Case, placement: Placement, module: EmbeddingBags | None = None, first: int = 0
) -> dict[str, Any]:
    """Minimises the mean over the global batch; what came of it on this rank.

    ``forward``, ``gradient``: vectors and the dense layer's gradient of the first step, by feature.
    """
    module = module or EmbeddingBags(case.tables, case.config, placement, seed=3)
    head = Head(case.features).to(placement.device)
    found: dict[str, Any] = {"losses": []}
    for step in range(first, first + case.steps):
        ids = share(case, step, placement.rank, placement.world_size).to(placement.device)
        pooled = module(ids)
        # Divided by the number of workers in backward: the mean of the whole batch remains.
        loss = head(pooled).sum() * placement.world_size / 12
        head.zero_grad()
        loss.backward()
        assert head.layer.weight.grad is not None
        gradient = head.layer.weight.grad / placement.world_size
        loss = loss.detach() / placement.world_size
        if placement.world_size > 1:
            dist.all_reduce(gradient)
            dist.all_reduce(loss)
        if step == first:
            found |= {"forward": {k: v.detach().cpu() for k, v in pooled.items()}, "gradient": gradient.cpu()}
            found["first_sums"] = pieces(module.optimizer_state())
        found["losses"].append(float(loss))
    found["weights"], found["sums"] = pieces(module.state_dict()), pieces(module.optimizer_state())
    return found


def pieces(state: Mapping[str, Tensor | Sharded]) -> dict[str, list[Piece]]:
    """table -> (shape of the whole, offsets, copy) of what is here."""
    found: dict[str, list[Piece]] = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            found[name] = [(tuple(value.shape), (0, 0), value.cpu().clone())]
        else:
            found[name] = [(tuple(value.shape), p.offsets, p.tensor.cpu().clone()) for p in value.pieces]
    return found


def whole(results: list[dict[str, Any]], what: str) -> dict[str, Tensor]:
    """The tables put together from the pieces of all ranks, each element exactly once."""
    tables = {}
    for name in results[0][what]:
        parts = [part for result in results for part in result[what][name]]
        table = torch.full(parts[0][0], torch.nan)
        for _, (row, column), part in parts:
            target = table[row : row + part.shape[0], column : column + part.shape[1]]
            assert target.isnan().all(), f"{name}: two workers hold the same part"
            target.copy_(part)
        assert not table.isnan().any(), f"{name}: a part is missing"
        tables[name] = table
    return tables


def run_workers(function: Callable[..., Any], world_size: int, folder: Path, *args: Any) -> list[Any]:
    """``function(placement, *args)`` in as many processes; what each returned, by rank."""
    spawn = multiprocessing.get_context("spawn")
    folder.mkdir(parents=True, exist_ok=True)
    processes = [
        spawn.Process(target=_worker, args=(function, rank, world_size, folder, args))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT_S)
    alive = [process for process in processes if process.is_alive()]
    for process in alive:
        process.kill()
    assert not alive, f"{len(alive)} workers were still running after {TIMEOUT_S} s"
    assert [process.exitcode for process in processes] == [0] * world_size
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world_size)]


def _worker(
    function: Callable[..., Any], rank: int, world_size: int, folder: Path, args: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=TIMEOUT_S),
    )
    torch.save(function(Placement(rank, world_size), *args), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


BIG = replace(TABLES[0], rows=600_000, dim=16)  # larger than all others: "auto" cuts it by rows


def train_all(placement: Placement, cases: dict[str, Case]) -> dict[str, Any]:
    return {name: train(case, placement) for name, case in cases.items()}
