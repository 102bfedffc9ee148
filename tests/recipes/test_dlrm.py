"""From raw rows to a published DLRM that loads again: clicks and sessions, in this process and on Ray."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
import pytest
import torch

from recray.bundles.weights import load_model
from recray.config import ConfigError
from recray.data.events.split_data import DataConfig
from recray.data.sources.files.locations import unique_name
from recray.eval.clicks import ClickEvaluation
from recray.eval.evaluate import Evaluation
from recray.models.dlrm import DLRM, DLRMConfig
from recray.ops.embedding_bags import EmbeddingConfig
from recray.paths import runs_dir
from recray.pipelines.compare import compare_models
from recray.pipelines.train import Trained, train
from recray.recipes.dlrm import DLRM_RECIPE, LAMBDARANK, DLRMRun, RowsConfig, open_rows
from recray.recipes.row_metrics import evaluate_rows
from recray.schema import DataError, RowSchema
from recray.store import Store
from recray.train.context import LaunchConfig
from recray.train.loop import LoopConfig
from recray.train.optim import OptimConfig

LOCAL = LaunchConfig(where="local")
MODEL = DLRMConfig(embedding=EmbeddingConfig(lr=0.1), embedding_dim=8, bottom=(8,), top=(16,))


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,400 lines as Criteo's; a click depends on two categories together and a little on an integer."""
    rng = np.random.default_rng(0)
    lines = []
    for _ in range(1400):
        a, b, price = rng.integers(6), rng.integers(4), rng.integers(100)
        chance = 0.85 if (a + b) % 2 else 0.1
        label = int(rng.random() < chance + 0.001 * price - 0.05)
        integers = [str(price), *[""] * 12]
        lines.append("\t".join([str(label), *integers, f"{a:08x}", f"{b:08x}", *[""] * 24]))
    path = tmp_path_factory.mktemp("raw") / "clicks.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 + 40 queries of 2 to 12 documents whose grade follows the first of three features."""
    rng = np.random.default_rng(1)
    folder = tmp_path_factory.mktemp("letor")
    for name, count in (("rank.train", 60), ("rank.test", 40)):
        sizes = rng.integers(2, 13, size=count)
        rows = []
        for _ in range(sizes.sum()):
            x = rng.random(3)
            grade = int(np.clip(4 * x[0] + 0.4 * rng.normal(), 0, 4))
            rows.append(f"{grade} " + " ".join(f"{f + 1}:{v:.4f}" for f, v in enumerate(x)))
        (folder / name).write_text("\n".join(rows) + "\n")
        (folder / f"{name}.query").write_text("\n".join(map(str, sizes)) + "\n")
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def click_run(path: Path, **loop: int) -> DLRMRun:
    settings: dict[str, Any] = {"epochs": 12, "batch_size": 64, "patience": 0, **loop}
    return DLRMRun(
        data=RowsConfig(dataset=str(path)),
        model=MODEL,
        optim=OptimConfig(lr=0.01),
        loop=LoopConfig(metric="auc", **settings),
    )


def session_run(folder: Path, **loop: int) -> DLRMRun:
    settings: dict[str, Any] = {"epochs": 10, "batch_size": 8, "patience": 0, **loop}
    return DLRMRun(
        data=RowsConfig(dataset=str(folder)),
        model=replace(MODEL, loss="lambdarank", ndcg_at=5, dense="minmax"),
        optim=OptimConfig(lr=0.01),
        loop=LoopConfig(metric="ndcg@10", **settings),
    )


def same_scores(run: DLRMRun, trained: Trained) -> None:
    """What was measured is published beside what is served: the bundle alone gives the scores back."""
    loaded = load_model(trained.bundle.measured)
    assert isinstance(loaded, DLRM)
    again = evaluate_rows(loaded, open_rows(run.data))
    assert again.means() == trained.measured.means() == trained.bundle.manifest.metrics


def test_clicks_are_learnt_measured_and_published(clicks: Path, store: Store) -> None:
    run = click_run(clicks)
    trained = train(DLRM_RECIPE, run, LOCAL, store)
    assert isinstance(trained.measured, ClickEvaluation)
    assert trained.measured.means()["auc"] > 0.75  # either category alone gives 0.5
    found = trained.measured.summary(num_resamples=50)["auc"]
    assert found.low < found.mean < found.high
    manifest = trained.bundle.manifest
    assert manifest.name == f"{unique_name(clicks)}-dlrm"  # another folder's clicks.txt is another name
    assert isinstance(manifest.schema, RowSchema)
    assert manifest.card is not None
    assert manifest.card.target == "test"
    same_scores(run, trained)


def test_sessions_are_learnt_by_lambdarank(queries: Path, store: Store) -> None:
    run = session_run(queries)
    trained = train(DLRM_RECIPE, run, LOCAL, store)
    assert isinstance(trained.measured, Evaluation)
    assert set(trained.measured.per_query) == {"ndcg@1", "ndcg@3", "ndcg@5", "ndcg@10"}
    untrained = evaluate_rows(DLRM_RECIPE.new(run, open_rows(run.data)), open_rows(run.data))
    assert trained.measured.means()["ndcg@10"] > max(0.93, untrained.means()["ndcg@10"])
    same_scores(run, trained)


def test_bce_takes_grades_for_clicks(queries: Path, store: Store) -> None:
    run = session_run(queries)
    by_click = replace(run, model=replace(run.model, loss="bce", positive_grade=3.0))
    assert train(DLRM_RECIPE, by_click, LOCAL, store).measured.means()["ndcg@10"] > 0.93


@pytest.mark.parametrize("part", ["rank.train", "rank.test"])
def test_sessions_of_one_label_publish_no_ndcg(
    queries: Path, tmp_path: Path, store: Store, part: str
) -> None:
    folder = shutil.copytree(queries, tmp_path / "alike")
    rows = [line.split(" ", 1)[1] for line in (folder / part).read_text().splitlines()]
    (folder / part).write_text("".join(f"1 {row}\n" for row in rows))
    with pytest.raises(DataError, match=r"no session of the (train|test) part .* NDCG would be 1 whatever"):
        train(DLRM_RECIPE, session_run(folder), LOCAL, store)
    quality = json.loads((open_rows(RowsConfig(dataset=str(folder))).folder / "quality.json").read_text())
    levels = {check["name"]: check["level"] for check in quality["checks"]}
    assert levels["Sessions without an order"] == "warning"
    ordered = {found["name"]: found["ordered"] for found in quality["parts"]}
    assert (ordered["test"] if part == "rank.test" else ordered["train"] + ordered["validation"]) == 0


def test_the_published_weights_are_the_best_ones(clicks: Path, store: Store) -> None:
    run = click_run(clicks, epochs=6)
    run = replace(run, optim=OptimConfig(lr=0.5))  # wrecks the weights in some epoch
    trained = train(DLRM_RECIPE, run, replace(LOCAL, run="wrecked", keep=1), store)
    lines = (runs_dir() / "wrecked" / "metrics.jsonl").read_text().splitlines()
    best = max(json.loads(line)["auc"] for line in lines)
    model = load_model(trained.bundle.measured)
    assert isinstance(model, DLRM)
    found = evaluate_rows(model, open_rows(run.data), "validation").means()["auc"]
    assert found == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("reader", ["memory", "threads"])
def test_rows_from_disk_train_as_well_as_rows_in_memory(
    reader: Literal["memory", "threads"], clicks: Path, store: Store
) -> None:
    run = click_run(clicks)
    run = replace(run, data=replace(run.data, reader=reader))
    assert train(DLRM_RECIPE, run, LOCAL, store).measured.means()["auc"] > 0.75


def test_lambdarank_needs_sessions_and_other_data_has_no_lists(clicks: Path, store: Store) -> None:
    run = click_run(clicks)
    with pytest.raises(ConfigError, match="this data has no sessions"):
        train(DLRM_RECIPE, replace(run, model=replace(MODEL, loss="lambdarank")), LOCAL, store)
    with pytest.raises(ConfigError, match="sessions"):
        open_rows(replace(run.data, sessions=True))


def test_full_ranking_comparisons_send_a_row_model_to_its_job() -> None:
    with pytest.raises(ConfigError, match="'dlrm' does not rank the catalogue.* its own job measures it"):
        compare_models(DataConfig(dataset="synthetic", split="leave-one-out"), ["dlrm"], seeds=1)


def test_presets_say_what_they_are_measured_by() -> None:
    assert set(DLRM_RECIPE.presets) >= {"synthetic", "ml-1m", "criteo-sample", "criteo-kaggle", "criteo-1tb"}
    assert all(
        run.loop.metric == "auc" and run.model.loss == "bce" for _, run in DLRM_RECIPE.presets.values()
    )
    for _, run in LAMBDARANK.presets.values():
        assert (run.model.loss, run.loop.metric) == ("lambdarank", "ndcg@10")


def test_a_few_thousand_rows_get_a_linear_part_and_more_dropout(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = "".join(f"{int(x > 0)},{x:.3f},{n % 7}\n" for n, x in enumerate(rng.normal(size=400)))
    (tmp_path / "small.csv").write_text("label,price,kind\n" + rows)
    run = DLRM_RECIPE.default(f"{tmp_path / 'small.csv'}?categories=kind")
    assert (run.model.linear, run.model.dropout, run.model.bins) == (True, 0.5, 8)
    assert (run.loop.metric, run.loop.goal) == ("logloss", "min")
    with mock.patch("recray.recipes.dlrm.FEW_ROWS", 100):
        more = DLRM_RECIPE.default(f"{tmp_path / 'small.csv'}?categories=kind")
    assert (more.model.linear, more.loop.metric) == (False, "auc")


@pytest.mark.ray
@pytest.mark.parametrize("kind", ["clicks", "sessions"])
def test_two_ray_workers_learn_what_one_process_learns(
    kind: str, clicks: Path, queries: Path, store: Store, ray_cluster: None
) -> None:
    run = click_run(clicks, epochs=2) if kind == "clicks" else session_run(queries, epochs=2)
    # Adam's steps have the size of the rate however small a gradient is, a rounding error included.
    run = replace(run, optim=OptimConfig(method="sgd", lr=0.05))
    local = train(DLRM_RECIPE, run, LOCAL, store)
    spread = train(DLRM_RECIPE, run, LaunchConfig(workers=2), store)
    for name, value in local.measured.means().items():
        assert spread.measured.means()[name] == pytest.approx(value, abs=1e-3)
    for name, tensor in load_model(local.bundle).state_dict().items():
        torch.testing.assert_close(load_model(spread.bundle).state_dict()[name], tensor, atol=1e-4, rtol=1e-3)


@pytest.mark.ray
def test_a_worker_without_rows_does_no_harm(queries: Path, store: Store, ray_cluster: None) -> None:
    """Batches of one query on two workers: one of them always has nothing."""
    run = replace(session_run(queries, epochs=1, batch_size=1), optim=OptimConfig(method="sgd", lr=0.05))
    local = train(DLRM_RECIPE, run, LOCAL, store)
    spread = train(DLRM_RECIPE, run, LaunchConfig(workers=2), store)
    assert spread.measured.means() == pytest.approx(local.measured.means(), abs=1e-3)


@pytest.mark.parametrize(
    ("loop", "message"),
    [
        (LoopConfig(metric="auk"), "no loop.metric 'auk' to go by, did you mean 'auc'"),
        (LoopConfig(metric="logloss"), "logloss is better when lower: set loop.goal min"),
        (LoopConfig(metric="auc", goal="min"), "auc is better when higher: set loop.goal max"),
        (LoopConfig(metric="calibration"), "no loop.metric 'calibration'"),
    ],
)
def test_a_metric_and_its_direction_are_checked_before_training(loop: LoopConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DLRMRun(loop=loop)


def test_rows_of_one_label_are_refused_before_training(tmp_path: Path) -> None:
    line = "{}\t" + "\t".join(["1"] * 13 + ["0a0b0c0d"] * 26) + "\n"
    (tmp_path / "log.tsv").write_text("".join(line.format(int(n < 300)) for n in range(1_000)))
    run = DLRMRun(data=RowsConfig(dataset=f"{tmp_path / 'log.tsv'}?ids=hashed&buckets=10"))
    with pytest.raises(DataError, match=r"all \d+ rows of the validation part are not relevant"):
        train(DLRM_RECIPE, run, LaunchConfig(where="local"), Store(tmp_path / "store"))
