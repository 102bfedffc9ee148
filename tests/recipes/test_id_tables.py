"""Tables cut over workers: the same model from any number of them, held rows, and what is published."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from recray import models
from recray.batch import QueryBatch
from recray.checkpoint import saved
from recray.config import override
from recray.data.batches.negatives import Draws
from recray.data.events.split_data import DataConfig, open_split
from recray.models.id_tables import DenseTable, ShardedTable, Tables, TablesConfig
from recray.models.next_item import NextItemLoss
from recray.models.sasrec import SASRecConfig
from recray.models.two_tower import TwoTowerConfig
from recray.ops.embedding_bags import EmbeddingConfig, Sharded
from recray.recipes.pairs import TWO_TOWER, TwoTowerRun
from recray.recipes.sequence import SASREC, SASRecRun
from recray.schema import DataError
from recray.train.context import Context
from recray.train.loop import LoopConfig

BY_ROWS = EmbeddingConfig(lr=0.05, sharding="row_wise")
SHARDED = Tables(TablesConfig(kind="sharded", embedding=BY_ROWS))
NAMES = ("two_tower", "sasrec")


def run(name: str, file: Path) -> Any:
    shared: Any = {
        "data": DataConfig(dataset=str(file)),
        "loop": LoopConfig(batch_size=64, epochs=3, patience=0),
        "tables": SHARDED.config,
        "seed": 4,
    }
    if name == "two_tower":
        return TwoTowerRun(model=TwoTowerConfig(embedding_dim=16), recency=5.0, **shared)
    loss = NextItemLoss(kind="sampled_softmax", negatives=8)
    model = SASRecConfig(loss=loss, dim=8, hidden_dim=8, max_items=6, dropout=0.0)
    return SASRecRun(model=model, **shared)


def recipe(name: str) -> Any:
    return {"two_tower": TWO_TOWER, "sasrec": SASREC}[name]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 users with 30 events over 25 items."""
    rng = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("events") / "events.csv"
    lines = [f"{n % 60},{rng.integers(25)},{10**9 + 60 * n}" for n in range(1800)]
    file.write_text("\n".join(["user,item,timestamp", *lines]) + "\n")
    open_split(DataConfig(dataset=str(file)))  # once, not by all workers at the same time
    return file


def train(name: str, file: Path, rank: int = 0, workers: int = 1) -> dict[str, Any]:
    """What this worker reports, and the parts of the model that it holds."""
    reports: list[dict[str, float]] = []
    context = Context(rank=rank, world_size=workers, report=lambda metrics, _: reports.append(dict(metrics)))
    model = recipe(name).work(run(name, file), context)
    parts = {}
    for key, value in model.state_dict().items():
        pieces = value.pieces if isinstance(value, Sharded) else ()
        parts[key] = [(p.offsets, p.tensor) for p in pieces] or [((0,) * value.dim(), value)]
    return {"reports": reports, "parts": parts}


def work(rank: int, workers: int, file: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting-{workers}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    for name in NAMES:
        torch.save(train(name, file, rank, workers), folder / f"{name}-{workers}-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_learns_the_same(workers: int, events: Path, tmp_path: Path) -> None:
    """Losses, validation and weights; each worker holds its share of the rows."""
    spawn(work, args=(workers, events, tmp_path), nprocs=workers)
    for name in NAMES:
        alone = train(name, events)
        found = [torch.load(tmp_path / f"{name}-{workers}-{rank}.pt") for rank in range(workers)]
        for theirs, ours in zip(found[0]["reports"], alone["reports"], strict=True):
            for metric in ("train_loss", "ndcg@10", "auc"):
                assert theirs[metric] == pytest.approx(ours[metric], abs=1e-5), (name, metric)
        assert len(alone["reports"]) == 3
        for key, ((_, whole),) in alone["parts"].items():
            rows = 0
            for offsets, part in (piece for one in found for piece in one["parts"][key]):
                rows += len(part)
                torch.testing.assert_close(part, whole[offsets[0] :][: len(part)], rtol=1e-4, atol=1e-5)
            is_table = key.endswith(("ids.weight", "items.weight"))
            assert rows == (len(whole) if is_table else workers * len(whole)), key


def test_what_was_trained_sharded_is_published_whole(events: Path) -> None:
    """The checkpoint's weights have the names of an ordinary model's, which answers alike."""
    for name in NAMES:
        kind, asked = recipe(name), run(name, events)
        data = kind.open(asked)
        sharded = kind.new(asked, data)
        with saved(sharded) as folder:
            restored = kind.restore(asked, data, folder)
        draft = kind.draft(asked, data, restored, kind.measure(asked, data, restored))
        plain: Any = models.build(draft.model, draft.config, draft.schema)
        plain.load_state_dict(restored.state_dict())
        table = plain.user_tower.ids if name == "two_tower" else plain.items
        assert isinstance(table, DenseTable)
        assert torch.equal(plain.eval().item_vectors(), restored.item_vectors())


@pytest.mark.slow
def test_either_backend_learns_and_is_measured(events: Path) -> None:
    pytest.importorskip("torchrec")
    found = []
    for backend in ("torch", "torchrec"):
        held = {"tables.embedding.backend": backend, "tables.embedding.sharding": "auto"}
        asked = override(run("two_tower", events), held)
        data = TWO_TOWER.open(asked)
        model = TWO_TOWER.work(asked, Context(), data=data)
        with saved(model) as folder:
            restored = TWO_TOWER.restore(asked, data, folder)
        found.append(TWO_TOWER.measure(asked, data, restored).means()["auc"])
    assert found[0] == pytest.approx(found[1], abs=0.01)


def test_only_rows_of_the_batch_move(events: Path) -> None:
    asked = run("two_tower", events)
    data = TWO_TOWER.open(asked)
    model: Any = TWO_TOWER.new(asked, data)
    before = model.user_tower.ids.all_rows().detach().clone()
    batch = TWO_TOWER.batches(asked, data).batch(0, 0)
    model.train().loss(batch)["loss"].backward()
    moved = (model.user_tower.ids.all_rows() != before).any(dim=1).nonzero().flatten()
    assert moved.tolist() == batch.user_ids_B.unique().tolist()
    assert not list(model.parameters())  # nothing for the optimizer, and for all-reduce


def test_held_rows_are_asked_alone() -> None:
    table: Any = SHARDED.make("users", 10, 4, 1.0)
    whole = table.all_rows()
    table.eval()
    table.hold(torch.tensor([7, 2, 7]))
    assert torch.equal(table(torch.tensor([2, 7, 7])), whole[[2, 7, 7]])
    with pytest.raises(DataError, match="row 3 was not fetched"):
        table(torch.tensor([2, 3]))
    table.train()
    assert torch.equal(table(torch.tensor([3])), whole[[3]])
    table.forget(torch.tensor([3, 9]))
    assert not table(torch.tensor([3, 9])).any()
    assert torch.equal(table(torch.tensor([4])), whole[[4]])


def test_first_weights_are_of_their_own_and_of_the_deviation() -> None:
    users, items = (SHARDED.make(name, 4000, 8, 0.5) for name in ("users", "items"))
    assert isinstance(users, ShardedTable)
    assert not torch.equal(users.all_rows(), items.all_rows())
    assert users.all_rows().detach().std() == pytest.approx(0.5, rel=0.02)
    assert torch.equal(users.all_rows(), SHARDED.make("users", 4000, 8, 0.5).all_rows())


def test_unknown_users_are_answered_from_held_items(events: Path) -> None:
    asked = run("two_tower", events)
    data = TWO_TOWER.open(asked)
    model: Any = TWO_TOWER.new(asked, data).eval()
    history = QueryBatch.without_history(torch.tensor([5, -1]))
    expected = model.score_items(history)
    model.hold(history)
    assert torch.equal(model.score_items(history), expected)


def test_draws_say_how_likely_they_were() -> None:
    """A third of the events are of item 2; item 4 does not occur."""
    item_ids_N = np.array([0, 1, 2, 2, 3, 5])
    drawn = Draws(item_ids_N, 20_000, 0.25)((1, 2))
    counts_I = torch.bincount(drawn.item_ids_K, minlength=6)
    chance_I = 0.25 * torch.tensor([1, 1, 2, 1, 0, 1]) / 6 + 0.75 * torch.tensor([1, 1, 1, 1, 0, 1]) / 5
    torch.testing.assert_close(counts_I / 20_000, chance_I, rtol=0.05, atol=0.0)
    torch.testing.assert_close(drawn.logq_K.exp(), chance_I[drawn.item_ids_K])
    assert drawn.num_items == 5
    again = Draws(item_ids_N, 20_000, 0.25)((1, 2))
    assert torch.equal(again.item_ids_K, drawn.item_ids_K)
    assert not torch.equal(Draws(item_ids_N, 20_000, 0.25)((1, 3)).item_ids_K, drawn.item_ids_K)
