"""What is served has learnt everything; what was measured is kept beside it, and others build on that."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import numpy as np
import polars as pl
import pytest
import torch

from recray import paths
from recray.bundles.ranker import read_ranker
from recray.bundles.retriever import read_retriever
from recray.bundles.weights import load_model
from recray.config import ConfigError, override
from recray.data.events.split_data import DataConfig, SplitData, open_split
from recray.eval.compare import compare
from recray.features.examples import load_examples
from recray.models.dlrm_ranker import DLRMRanker
from recray.models.gbdt import GBDTConfig, GBDTRanker
from recray.models.sasrec import SASRecConfig
from recray.monitor.leaks import LEAKS
from recray.pipelines.compare import compare_models
from recray.pipelines.train import train
from recray.recipes.at_once import POPULARITY, PopularityRun
from recray.recipes.pairs import TWO_TOWER, TwoTowerRun
from recray.recipes.ranker import DLRM_RANKER, GBDT_RANKER, DLRMRankerRun, GBDTRankerRun
from recray.recipes.ranking_data import HOLDOUT, TRAIN, RankerData
from recray.recipes.sequence import SASREC, SASRecRun
from recray.schema import DataError
from recray.store import Store, run_record
from recray.store.record import read_history
from recray.train.context import LaunchConfig
from recray.train.loop import LoopConfig
from recray.train.refit import Continued
from recray.train.run import Unmeasured
from tests.pipelines.tiny import tiny_events

LOCAL = LaunchConfig(where="local")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    return DataConfig(dataset=str(tiny_events(tmp_path_factory.mktemp("raw"))))


@pytest.fixture(scope="module")
def data(config: DataConfig) -> SplitData:
    return open_split(config)


@pytest.mark.parametrize("learn", ["before test", "all"])
def test_learning_more_moves_parts_into_training(data: SplitData, learn: str) -> None:
    before, more = data.split, data.learning(learn).split  # type: ignore[arg-type]
    test_N = np.zeros_like(before.test_N) if learn == "all" else before.test_N
    assert more.test_N.tolist() == test_N.tolist()
    assert not more.validation_N.any()
    assert more.train_N.tolist() == (~test_N).tolist()
    assert data.learning("training").split.train_N.tolist() == before.train_N.tolist()


def test_side_features_are_not_encoded_again(data: SplitData) -> None:
    assert data.learning("all").__dict__.get("side") is data.__dict__.get("side")
    side = data.side
    assert data.learning("all").side is side


def test_counts_that_are_served_are_those_of_all_events(config: DataConfig, data: SplitData) -> None:
    trained = train(POPULARITY, PopularityRun(data=config), LOCAL, Store())
    served, measured = read_retriever(trained.bundle), read_retriever(trained.bundle.measured)
    assert served.item_counts_I.tolist() == np.bincount(data.dataset.item_ids_N).tolist()
    assert measured.item_counts_I.sum() == data.split.train_N.sum()
    assert run_record(trained.bundle).learnt_until == data.learning("all").until()


def test_without_it_the_measured_model_is_served(config: DataConfig, data: SplitData) -> None:
    trained = train(POPULARITY, PopularityRun(data=config, refit=False), LOCAL, Store())
    assert trained.bundle.measured is trained.bundle
    assert read_retriever(trained.bundle).item_counts_I.sum() == data.split.train_N.sum()
    record = run_record(trained.bundle)
    assert (record.learnt_until, record.refitted_epochs) == (data.until(), None)


def test_a_split_that_holds_nothing_out_is_trained_and_not_measured(config: DataConfig) -> None:
    run = TwoTowerRun(data=replace(config, split="all"), loop=LoopConfig(epochs=2, batch_size=64))
    trained = train(TWO_TOWER, run, LOCAL, Store())
    assert isinstance(trained.measured, Unmeasured)
    assert trained.bundle.manifest.card is None
    assert "ndcg@10" not in trained.bundle.manifest.metrics
    assert run_record(trained.bundle).epochs == 2
    ranking = GBDTRankerRun(data=run.data)
    with pytest.raises(ConfigError, match="under no protocol"):
        train(GBDT_RANKER, ranking, LOCAL, Store())


@pytest.mark.parametrize("split", ["leave-one-out", "global-time"])
def test_a_ranker_learns_the_test_part_from_the_measured_retrievers_candidates(
    config: DataConfig, split: str
) -> None:
    config = override(config, {"split": split})
    retriever = train(POPULARITY, PopularityRun(data=config), LOCAL, Store()).bundle
    run = GBDTRankerRun(
        data=config,
        retriever=retriever.manifest.name,
        model=GBDTConfig(rounds=30, early_stopping_rounds=5),
        holdout=0.3,
    )
    trained = train(GBDT_RANKER, run, LOCAL, Store())
    assert trained.bundle.manifest.requires["retriever"] == retriever.reference
    served, measured = read_ranker(trained.bundle), read_ranker(trained.bundle.measured)
    assert isinstance(served, GBDTRanker)
    assert isinstance(measured, GBDTRanker)
    record = run_record(trained.bundle)
    assert served.num_trees == measured.num_trees == record.refitted_epochs == record.epochs
    # Its examples: those of the measured ranker come first, and no user is held out.
    first = RankerData(run, quantize=True)
    more = GBDT_RANKER.learning(run, first, "all")
    assert more.stages is first.stages
    assert not (more.folder / HOLDOUT).exists()
    before, after = (load_examples(part.folder / TRAIN) for part in (first, more))
    kept_out = load_examples(first.folder / HOLDOUT)
    assert len(after.labels_N) > len(before.labels_N) + len(kept_out.labels_N)
    assert more.num_queries > first.num_queries
    assert record.learnt_until == open_split(config).learning("all").until()


def test_trees_are_not_measured_by_what_they_learn_again(config: DataConfig, tmp_path: Path) -> None:
    retriever = train(POPULARITY, PopularityRun(data=config), LOCAL, Store()).bundle
    run = GBDTRankerRun(data=config, retriever=retriever.manifest.name, model=GBDTConfig(rounds=5))
    once = train(GBDT_RANKER, replace(run, refit=False), LOCAL, Store())
    again = train(GBDT_RANKER, run, LOCAL, Store())
    assert once.measured.means() == again.measured.means()
    assert once.bundle.measured is once.bundle


def test_a_model_may_learn_all_before_the_test(config: DataConfig, data: SplitData) -> None:
    knowing = replace(config, known="everything")
    trained = train(POPULARITY, PopularityRun(data=knowing), LOCAL, Store())
    assert trained.measured.card is not None
    assert trained.measured.card.known == "everything"
    measured = read_retriever(trained.bundle.measured)
    assert measured.item_counts_I.sum() == (data.split.train_N | data.split.validation_N).sum()
    with pytest.raises(ConfigError, match="had learnt the validation part"):
        train(
            GBDT_RANKER,
            GBDTRankerRun(data=config, retriever=trained.bundle.manifest.name),
            LOCAL,
            Store(),
        )


def test_findings_are_published_with_the_version(config: DataConfig) -> None:
    trained = train(POPULARITY, PopularityRun(data=config), LOCAL, Store(), strict=True)
    assert json.loads(trained.bundle.path(LEAKS).read_text()) == []


def test_a_leak_is_said_and_published_or_refused_before_training(tmp_path: Path) -> None:
    """Items whose table says how often they will be taken later."""
    rng = np.random.default_rng(0)
    rows = [(f"u{n % 50}", f"i{rng.integers(150)}", 1_600_000_000 + 3600 * n) for n in range(1500)]
    events = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    sold = (events["item"].tail(300) == f"i{n}" for n in range(150))
    table = {"item_id": [f"i{n}" for n in range(150)], "sold": [int(found.sum()) for found in sold]}
    events.write_csv(tmp_path / "events.csv")
    pl.DataFrame(table).write_csv(tmp_path / "items.csv")
    run = PopularityRun(data=DataConfig(dataset=f"{tmp_path}/events.csv?items=items.csv"))
    trained = train(POPULARITY, run, LOCAL, Store())
    (leak,) = json.loads(trained.bundle.path(LEAKS).read_text())
    assert "sold" in leak["text"]
    versions = len(Store().versions(trained.bundle.manifest.name))
    with pytest.raises(DataError, match="sold"):
        train(POPULARITY, run, LOCAL, Store(), strict=True)
    assert len(Store().versions(trained.bundle.manifest.name)) == versions


def test_a_table_lets_every_model_know_as_much(config: DataConfig) -> None:
    names = ["popularity", "item_knn"]
    as_published = compare_models(config, names, 1)
    rows = compare_models(replace(config, known="everything"), names, 1)
    assert {row.evaluation.card.known for row in rows} == {"everything"}
    assert {row.evaluation.card.known for row in as_published} == {"history"}
    found, published = (table[1].evaluation.per_query["auc"] for table in (rows, as_published))
    assert (found != published).any()  # neighbours were counted in the validation part too
    with pytest.raises(ConfigError, match="known"):
        compare(rows[0].evaluation, as_published[0].evaluation, "ndcg@10")


@pytest.mark.parametrize("known", ["history", "everything"])
def test_a_refit_may_go_on_from_the_chosen_weights(config: DataConfig, known: str) -> None:
    """What is measured does not: there everything stays as it is without it."""
    run = TwoTowerRun(
        data=override(config, {"known": known}), loop=LoopConfig(epochs=4, batch_size=64, patience=0)
    )
    again = train(TWO_TOWER, run, LOCAL, Store())
    further = train(TWO_TOWER, replace(run, continued=Continued(epochs=2)), LOCAL, Store())
    assert further.measured.means() == again.measured.means()
    records = run_record(again.bundle), run_record(further.bundle)
    assert [record.refitted for record in records] == ["again", "continued"]
    assert records[1].refitted_epochs == 2
    assert records[0].learnt_until == records[1].learnt_until
    weights, others = (load_model(trained.bundle).state_dict() for trained in (again, further))
    assert any(not torch.equal(tensor, others[name]) for name, tensor in weights.items())


def test_going_on_after_a_kill_ends_with_the_same_weights(config: DataConfig) -> None:
    """With dropout drawn anew at every step, and Adam's state taken over from the first training."""
    loop = LoopConfig(epochs=3, batch_size=16, checkpoint_every_steps=5)
    run = SASRecRun(data=config, model=SASRecConfig(dim=8, dropout=0.2), loop=loop)
    run = replace(run, continued=Continued(epochs=2))
    where = replace(LOCAL, run="going-on", keep=99)
    whole = load_model(train(SASREC, run, where, Store()).bundle).state_dict()
    for checkpoint in sorted((paths.runs_dir() / "going-on-all").glob("checkpoint_*"))[1:]:
        rmtree(checkpoint)
    resumed = load_model(train(SASREC, run, where, Store()).bundle).state_dict()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


@pytest.mark.parametrize("epochs", [0, 2], ids=["again", "continued"])
def test_a_dlrm_over_candidates_learns_the_test_part_too(config: DataConfig, epochs: int) -> None:
    retriever = train(POPULARITY, PopularityRun(data=config), LOCAL, Store()).bundle
    run = DLRMRankerRun(
        data=config,
        retriever=retriever.manifest.name,
        loop=LoopConfig(epochs=3, batch_size=8),
        holdout=0.3,
        continued=Continued(epochs=epochs),
    )
    trained = train(DLRM_RANKER, run, LOCAL, Store())
    served, measured = (read_ranker(b) for b in (trained.bundle, trained.bundle.measured))
    assert isinstance(served, DLRMRanker)
    assert isinstance(measured, DLRMRanker)
    features_KF = np.random.default_rng(0).random((5, len(served.feature_names)), dtype=np.float32)
    assert (served.score(features_KF, np.arange(5)) != measured.score(features_KF, np.arange(5))).all()
    record = run_record(trained.bundle)
    chosen = read_history(trained.bundle)[-1]["best_epoch"]
    assert record.refitted_epochs == (epochs or chosen)
    assert record.learnt_until == open_split(config).learning("all").until()
