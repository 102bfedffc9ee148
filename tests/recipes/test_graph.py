"""Training a GAT from events in a file: it learns, it resumes, and two workers agree."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from recray.arrays import Bools

pytest.importorskip("torch_geometric")

from recray import checkpoint
from recray.bundles.retriever import read_retriever
from recray.bundles.weights import load_model
from recray.config import ConfigError, override
from recray.data.events.split_data import DataConfig, open_split
from recray.models.gat import GAT, GATConfig
from recray.models.two_tower import TwoTower, TwoTowerConfig
from recray.pipelines import compare
from recray.pipelines.train import train
from recray.recipes import RECIPES, run_for
from recray.recipes.graph import GRAPH_ATTENTION, PARTS, GATRun, Part, link_metrics, measure_parts, part_links
from recray.recipes.pairs import TWO_TOWER, TwoTowerRun
from recray.store import Store
from recray.train.context import Context, LaunchConfig
from recray.train.loop import LoopConfig
from recray.train.optim import OptimConfig


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 users in two tastes over 60 items, ten events each."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(80):
        items = 2 * rng.choice(30, size=10, replace=False) + user % 2
        times = np.sort(rng.integers(1_600_000_000, 1_600_900_000, size=10))
        rows += [(f"u{user}", f"i{item}", 4, int(t)) for item, t in zip(items, times, strict=True)]
    path = tmp_path_factory.mktemp("raw") / "events.csv"
    pl.DataFrame(rows, schema=["user", "item", "rating", "timestamp"], orient="row").write_csv(path)
    return path


SplitName: TypeAlias = Literal["leave-one-out", "global-time", "random"]


def run_on(events: Path, split: SplitName = "leave-one-out") -> GATRun:
    """Two layers where the split has no order, which is where they may be."""
    fanouts = (4, 3) if split == "random" else (4,)
    return GATRun(
        data=DataConfig(dataset=str(events), split=split),
        model=GATConfig(embedding_dim=16, heads=2, layers=len(fanouts)),
        fanouts=fanouts,
        loop=LoopConfig(epochs=6, batch_size=128),
        optim=OptimConfig(lr=0.02),
    )


def gat(run: GATRun, context: Context) -> GAT:
    """Trained by its recipe, as the class that it is."""
    model = GRAPH_ATTENTION.work(run, context)
    assert isinstance(model, GAT)
    return model


class Kept:
    """Keeps what a run reports, and its last checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.metrics = folder, list[dict[str, float]]()

    def __call__(self, metrics: dict[str, float], folder: Path | None) -> None:
        self.metrics.append(metrics)
        if folder is not None:
            folder.rename(self.folder / f"epoch-{len(self.metrics)}")


@pytest.mark.parametrize("split", ["leave-one-out", "random"])
def test_it_learns_to_rank_and_to_tell_links(events: Path, split: SplitName, tmp_path: Path) -> None:
    run = run_on(events, split)
    kept = Kept(tmp_path)
    model = gat(run, Context(report=kept))
    last = kept.metrics[-1]
    assert last["best_link_auc"] > 0.65  # a link across tastes never occurs; chance is 0.5
    assert last["ndcg@10"] > 0.11  # chance is 0.09
    parts = measure_parts(model, open_split(run.data))
    assert parts.keys() == {"train", "validation", "test"}
    assert parts["validation"]["link_auc"] == pytest.approx(last["link_auc"])
    assert parts["validation"]["ndcg@10"] == pytest.approx(last["ndcg@10"])
    assert parts["train"]["link_auc"] > 0.65
    assert 0 < parts["test"]["ndcg@10"] < 1
    assert "random features of 80 users" in checkpoint.progress(tmp_path / "epoch-1")["data"]


def test_a_checkpoint_serves_the_vectors_that_were_validated(events: Path, tmp_path: Path) -> None:
    run = override(run_on(events), {"loop.epochs": 2})
    trained = gat(run, Context(report=Kept(tmp_path)))
    restored = GRAPH_ATTENTION.restore(run, GRAPH_ATTENTION.open(run), tmp_path / "epoch-2")
    assert isinstance(restored, GAT)
    assert torch.equal(restored.item_vectors(), trained.item_vectors())
    assert torch.equal(restored.user_UD, trained.user_UD)
    assert restored.user_UD.norm(dim=1) == pytest.approx(1.0, abs=1e-5)


def test_an_interrupted_run_repeats_bit_for_bit(events: Path, tmp_path: Path) -> None:
    run = override(run_on(events), {"loop.epochs": 3, "loop.patience": 0})
    whole = gat(run, Context(report=Kept(tmp_path)))
    resumed = gat(run, Context(resume_from=tmp_path / "epoch-1"))
    mine, theirs = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize(("split", "order"), [("leave-one-out", True), ("random", False)])
def test_whether_order_counts_is_what_the_split_wants(events: Path, split: SplitName, order: bool) -> None:
    run = override(run_on(events), {"data.split": split, "loop.epochs": 1})
    weights = [
        gat(replace(run, causal=choice, newest=choice), Context()).state_dict()
        for choice in (None, order, not order)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["item_ID"], weights[2]["item_ID"])


@pytest.mark.parametrize("protocol", ["leave-one-out", "global-time", "random"])
def test_a_comparison_asks_for_order_where_there_is_one(protocol: Any) -> None:
    [entry] = compare.entries_of("gat", DataConfig(dataset="ml-100k", split=protocol), 1)
    run = entry.run
    assert isinstance(run, GATRun)
    data = GRAPH_ATTENTION.open(run)
    batches = GRAPH_ATTENTION.batches(run, data)
    assert batches.causal == batches.newest == (protocol != "random")


def work(rank: int, run: GATRun, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.set_num_threads(1)
    kept = Kept(folder)
    quiet = Context(rank=rank, world_size=2)
    model = gat(run, replace(quiet, report=kept) if rank == 0 else quiet)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.save((state, kept.metrics), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_train_one_model(events: Path, tmp_path: Path) -> None:
    run = override(run_on(events), {"loop.epochs": 2})
    open_split(run.data)
    spawn(work, args=(run, tmp_path), nprocs=2)
    (first, metrics), (second, _) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(tensor.isfinite().all() for tensor in first.values())
    assert all(np.isfinite(list(m.values())).all() for m in metrics)
    fresh = GRAPH_ATTENTION.new(run, GRAPH_ATTENTION.open(run)).state_dict()
    assert not torch.equal(first["user_UD"], fresh["user_UD"])


@pytest.mark.ray
@pytest.mark.slow
def test_it_trains_on_ray_workers_and_is_served_from_an_index(
    events: Path, tmp_path: Path, ray_cluster: None
) -> None:
    run = override(run_on(events), {"loop.epochs": 2, "index.kind": "exact"})
    trained = train(GRAPH_ATTENTION, run, LaunchConfig(workers=2), Store(tmp_path))
    assert trained.bundle.manifest.metrics["index_recall@60"] == 1.0
    assert 0 < trained.measured.means()["ndcg@10"] < 1
    served, files = load_model(trained.bundle), read_retriever(trained.bundle)
    assert isinstance(served, GAT)
    np.testing.assert_array_equal(files.item_ID, served.item_vectors().numpy())
    np.testing.assert_array_equal(files.user_UD, served.user_UD.numpy())


def test_a_two_tower_is_measured_on_the_same_links(events: Path) -> None:
    data = DataConfig(dataset=str(events), split="random")
    loop = LoopConfig(epochs=6, batch_size=128)
    run = TwoTowerRun(
        data=data, model=TwoTowerConfig(embedding_dim=16), loop=loop, optim=OptimConfig(lr=0.02)
    )
    model = TWO_TOWER.work(run, Context())
    assert isinstance(model, TwoTower)
    found = link_metrics(model, open_split(data))
    assert found.keys() == {"train", "validation", "test"}
    assert found["train"] > 0.65
    sizes = [len(part_links(open_split(data), part).user_ids_N) for part in PARTS]
    assert sizes == [640, 80, 80]


@pytest.mark.parametrize("split", ["leave-one-out", "random"])
def test_held_out_pairs_that_repeat_one_of_training_are_no_links(split: SplitName, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    drawn_N2 = rng.integers([20, 12], size=(300, 2))
    rows = [(f"u{user}", f"i{item}", 4, 1_600_000_000 + n) for n, (user, item) in enumerate(drawn_N2)]
    path = tmp_path / "repeats.csv"
    pl.DataFrame(rows, schema=["user", "item", "rating", "timestamp"], orient="row").write_csv(path)
    data = open_split(DataConfig(dataset=str(path), split=split))
    pair_N = data.dataset.user_ids_N * data.dataset.num_items + data.dataset.item_ids_N
    told = set(pair_N[data.split.train_N].tolist())
    held_out: tuple[tuple[Part, Bools], ...] = (
        ("validation", data.split.validation_N),
        ("test", data.split.test_N),
    )
    for part, part_N in held_out:
        links = part_links(data, part)
        found = (links.user_ids_N * data.dataset.num_items + links.item_ids_N).tolist()
        assert found == [pair for pair in pair_N[part_N].tolist() if pair not in told]
        assert 0 < len(found) < part_N.sum()
    assert len(part_links(data, "train").user_ids_N) == data.split.train_N.sum()


def test_presets_are_complete_and_settings_checked(events: Path) -> None:
    assert set(RECIPES["gat"].presets) >= {"ml-100k", "ml-1m", "synthetic"}
    assert run_for(RECIPES["gat"], str(events)).data.dataset == str(events)
    with pytest.raises(ConfigError, match=r"each of model.layers 2, got \(16,\)"):
        GATRun(fanouts=(16,), model=GATConfig(layers=2))
    deep = GATRun(fanouts=(16, 8), model=GATConfig(layers=2), data=DataConfig(split="random"))
    for changes, message in (
        ({"data.split": "leave-one-out"}, "causal .* with 2 layers .* causal False"),
        ({"causal": True}, "causal .* with 2 layers .* model.layers 1"),
        ({"newest": True}, r"newest needs the same fanout in every layer, got \(16, 8\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            override(deep, changes)
    assert override(deep, {"fanouts": (8, 8), "newest": True}).newest
