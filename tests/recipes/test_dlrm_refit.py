"""A DLRM that is served has learnt the rows of all parts; the one that was measured stays beside it."""

from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from recray.bundles.clicks import open_scorer
from recray.bundles.weights import load_model
from recray.config import ConfigError, override
from recray.data.row_source import PARTS
from recray.models.dlrm import DLRMConfig
from recray.ops.embedding_bags import EmbeddingConfig
from recray.paths import runs_dir
from recray.pipelines.train import Trained, fit, fit_again, train
from recray.recipes.dlrm import DLRM_RECIPE, LAMBDARANK, DLRMRun, RowsConfig, open_rows
from recray.recipes.pairs import TwoTowerRun
from recray.recipes.ranker import DLRMRankerRun
from recray.recipes.row_metrics import evaluate_rows
from recray.store import Bundle, Store, run_record
from recray.store.record import read_history
from recray.train.context import LaunchConfig
from recray.train.loop import LoopConfig
from recray.train.optim import OptimConfig
from recray.train.refit import Continued, going_on

LOCAL = LaunchConfig(where="local", keep=9)
NUM_ROWS = 2000
CONTINUED = {"continued.epochs": 3, "continued.rate": 1.0}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows in time; whoever comes from DE never clicks, but in the test part, the last tenth, always."""
    rng = np.random.default_rng(0)
    country_N, slot_N = rng.integers(3, size=NUM_ROWS), rng.integers(4, size=NUM_ROWS)
    click_N = np.where(country_N == 0, np.arange(NUM_ROWS) >= 0.9 * NUM_ROWS, slot_N % 2)
    frame = pl.DataFrame(
        {
            "click": click_N.astype(int),
            "country": pl.Series(["DE", "AT", "CH"]).gather(country_N),
            "slot_id": slot_N,
            "time": range(NUM_ROWS),
        }
    )
    path = tmp_path_factory.mktemp("raw") / "shop.csv"
    frame.write_csv(path)
    return path


@pytest.fixture
def run(table: Path) -> DLRMRun:
    return DLRMRun(
        data=RowsConfig(dataset=str(table)),
        model=DLRMConfig(embedding=EmbeddingConfig(lr=0.1), embedding_dim=8, bottom=(8,), top=(16,)),
        optim=OptimConfig(lr=0.01),
        loop=LoopConfig(metric="logloss", goal="min", epochs=6, batch_size=64, patience=0),
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def from_germany(bundle: Bundle) -> float:
    """Probability of a click."""
    return float(
        np.mean(open_scorer(bundle).score([{"country": "DE", "slot_id": slot} for slot in range(4)]))
    )


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return load_model(trained.bundle).state_dict()


def test_all_rows_are_in_the_training_part_once(run: DLRMRun) -> None:
    before = open_rows(run.data)
    after = before.learning("all")
    assert [after.num_rows(part) for part in PARTS] == [NUM_ROWS, 0, 0]
    expected = [before.read(part).labels_N for part in PARTS]
    np.testing.assert_array_equal(after.read("train").labels_N, np.concatenate(expected))
    assert before.learning("training") == before
    more = before.learning("before test")
    assert [more.num_rows(part) for part in PARTS] == [NUM_ROWS * 9 // 10, 0, NUM_ROWS // 10]
    assert (after.hash, after.dense) == (before.hash, before.dense)
    new = before.learning("all", only_new=True)
    assert [new.num_rows(part) for part in PARTS] == [NUM_ROWS // 5, 0, 0]
    np.testing.assert_array_equal(new.read("train").labels_N, np.concatenate(expected[1:]))


@pytest.mark.parametrize("reader", ["memory", "threads"])
@pytest.mark.parametrize("changes", [{}, CONTINUED], ids=["again", "continued"])
def test_what_only_the_test_part_has_is_served_and_not_measured(
    run: DLRMRun, store: Store, reader: str, changes: dict[str, Any]
) -> None:
    run = override(run, {"data.reader": reader, **changes})
    trained = train(DLRM_RECIPE, run, LOCAL, store)
    assert from_germany(trained.bundle.measured) < 0.05
    # A third of the test part's rows are from Germany, a tenth of all that are.
    assert from_germany(trained.bundle) > from_germany(trained.bundle.measured) + 0.05
    measured = load_model(trained.bundle.measured)
    table = open_rows(run.data)
    assert evaluate_rows(measured, table).means() == trained.measured.means()  # type: ignore[arg-type]
    assert trained.bundle.manifest.metrics == trained.measured.means()
    record = run_record(trained.bundle)
    assert record.refitted == ("continued" if changes else "again")
    chosen = read_history(trained.bundle)[-1]["best_epoch"]
    assert record.refitted_epochs == (3 if changes else chosen)


def test_without_it_what_was_measured_is_served(run: DLRMRun, store: Store) -> None:
    trained = train(DLRM_RECIPE, replace(run, refit=False), LOCAL, store)
    assert trained.bundle.measured is trained.bundle
    record = run_record(trained.bundle)
    assert (record.refitted, record.refitted_epochs) == ("", None)


@pytest.mark.parametrize("changes", [{}, CONTINUED], ids=["again", "continued"])
def test_a_refit_that_was_killed_goes_on_to_the_same_weights(
    run: DLRMRun, store: Store, changes: dict[str, Any]
) -> None:
    """With tables whose optimizer has a state, dropout, and a kill in the middle of an epoch."""
    run = override(run, {"model.dropout": 0.2, "loop.checkpoint_every_steps": 7, **changes})
    where = replace(LOCAL, run=f"refit-{len(changes)}")
    whole = train(DLRM_RECIPE, run, where, store)
    # What a kill after 14 steps of the second training leaves behind.
    for checkpoint in sorted((runs_dir() / f"{where.run}-all").glob("checkpoint_*"))[2:]:
        rmtree(checkpoint)
    resumed = train(DLRM_RECIPE, run, where, store)
    assert weights(resumed).keys() == weights(whole).keys()
    assert all(torch.equal(tensor, weights(resumed)[name]) for name, tensor in weights(whole).items())


def test_it_goes_on_from_the_chosen_weights(run: DLRMRun) -> None:
    """By a rate that changes nothing that float32 can hold."""
    run = override(run, {"continued.epochs": 1, "continued.rate": 1e-12})
    fitted = fit(DLRM_RECIPE, run, LOCAL)
    further = fit_again(DLRM_RECIPE, run, LOCAL, fitted, "all")
    for name, tensor in fitted.model.state_dict().items():
        torch.testing.assert_close(further.model.state_dict()[name], tensor, atol=1e-7, rtol=0)


def test_every_rate_falls_to_its_share(run: DLRMRun) -> None:
    run = override(run, {"optim.schedule": "cosine", "optim.warmup_steps": 9})
    run = override(run, {"continued.epochs": 2, "continued.rate": 0.1})
    further = going_on(run, {"model.embedding.lr": run.model.embedding.lr})
    assert further is not None
    assert further.optim == OptimConfig(lr=0.001)
    assert further.model.embedding.lr == pytest.approx(0.01)
    assert further.loop == replace(run.loop, epochs=2)
    assert going_on(override(run, {"continued.epochs": 0})) is None


@pytest.mark.parametrize("changes", [{"epochs": -1}, {"rate": 0.0}, {"rate": 2.0}])
def test_a_share_is_a_share(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"continued.{next(iter(changes))}"):
        Continued(**changes)


@pytest.mark.parametrize("kind", [DLRMRun, DLRMRankerRun, TwoTowerRun])
def test_nothing_goes_on_without_a_refit(kind: type[DLRMRun | DLRMRankerRun | TwoTowerRun]) -> None:
    with pytest.raises(ConfigError, match="continued.epochs 2 without a refit"):
        kind(refit=False, continued=Continued(epochs=2))


def test_only_the_large_presets_serve_what_was_measured() -> None:
    kept = {name for name, (_, preset) in DLRM_RECIPE.presets.items() if not preset.refit}
    assert kept == {"criteo-kaggle", "criteo-1tb"}
    assert all(preset.refit for _, preset in LAMBDARANK.presets.values())


@pytest.mark.ray
@pytest.mark.parametrize("backend", ["torch", "torchrec"])
def test_two_ray_workers_go_on_as_one_process_does(
    run: DLRMRun, store: Store, backend: str, ray_cluster: None
) -> None:
    if backend == "torchrec":
        pytest.importorskip("torchrec")
    # Adam's steps have the size of the rate however small a gradient is, a rounding error included.
    run = replace(run, optim=OptimConfig(method="sgd", lr=0.05), continued=Continued(epochs=2))
    local = train(DLRM_RECIPE, run, LOCAL, store)
    run = override(run, {"model.embedding.backend": backend})
    spread = train(DLRM_RECIPE, run, LaunchConfig(workers=2), store)
    for name, tensor in weights(local).items():
        torch.testing.assert_close(weights(spread)[name], tensor, atol=1e-4, rtol=1e-3)
