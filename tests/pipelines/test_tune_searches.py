"""Searches on Ray, small ones: every space, what is gone on with, what fails, what is stopped."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from ray import tune

from recray import paths
from recray.config import ConfigError, override
from recray.launch import local
from recray.launch.ray_tune import Proposal, trial_folder, trial_name
from recray.pipelines.tune.kept import measured_once
from recray.pipelines.tune.pictures import draw
from recray.pipelines.tune.records import SearchFolder
from recray.pipelines.tune.search import SearchConfig, search
from recray.pipelines.tune.spaces import Budget, Goal, Space, open_space
from recray.pipelines.tune.subject import RecipeSubject
from recray.pipelines.tune.trials import write_trials
from recray.recipes import RECIPES
from recray.track import history
from recray.train.context import Context, LaunchConfig
from tests.pipelines.searches import LOCAL, publish_foundations, require_whole, searched, subject_of
from tests.pipelines.tiny import tiny_events

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_events(tmp_path_factory.mktemp("raw"), "searched")


@pytest.mark.parametrize("model", ["gbdt_ranker", "two_stage"])
def test_what_reports_once_is_searched(model: str, events: Path, ray_cluster: None) -> None:
    """Trees, which XGBoost's communicator joins, and an application; what has epochs is searched below."""
    publish_foundations(events)
    found = searched(model, events, f"smoke-{model}")
    require_whole(model, found)
    if model == "two_stage":  # a task of Ray, whose result is kept
        folder, where = found.folder / "judged", LaunchConfig(workers=1)
        first = measured_once(folder, subject_of(model), found.best_run, where)
        [kept] = list(folder.glob("*/*.json"))
        written = kept.stat().st_mtime_ns
        assert measured_once(folder, subject_of(model), found.best_run, where).means() == first.means()
        assert kept.stat().st_mtime_ns == written
        assert "ndcg@10" in first.means()


def sasrec_space(**more: Any) -> Space:
    """Each setting fits the preset, and two of them do not fit each other."""
    settings = {"model.dim": tune.choice([12, 64]), "model.num_heads": tune.choice([2, 4])}
    return Space(settings=settings, goal=Goal("ndcg@10"), budget=Budget(trials=6, method="random", **more))


def test_a_search_is_gone_on_with_and_a_trial_that_fails_says_why(events: Path, ray_cluster: None) -> None:
    first = searched("sasrec", events, "gone-on-with", sasrec_space())
    ended = {path: path.read_bytes() for path in (first.folder / "trials").glob("*.json")}
    assert len(ended) == 2
    scratch = first.folder / "ray" / "tune"  # what Tune leaves where its driver is killed, damaged
    scratch.mkdir(parents=True)
    for name in ("tuner.pkl", "experiment_state-2026-01-01_00-00-00.json", "searcher-state-x.pkl"):
        (scratch / name).write_bytes(b"\x80damaged")
    found = searched("sasrec", events, "gone-on-with", sasrec_space(), trials=8)
    assert {path: path.read_bytes() for path in ended} == ended
    assert sorted(record.number for record in found.records) == list(range(8))
    failed = [record for record in found.records if record.status == "failed"]
    assert {tuple(record.changes.values()) for record in failed} == {(12, 4)}
    assert {record.reason for record in failed} == {"dim must be a multiple of 2 x 4 heads, got 12"}
    table = pl.read_parquet(write_trials(found.folder / "trials.parquet", found))
    assert table.height == 8
    assert table.filter(pl.col("status") == "failed")["reason"].to_list() == [r.reason for r in failed]
    narrower = {**sasrec_space().settings, "model.dim": tune.choice([64])}
    with pytest.raises(ConfigError, match=r"started otherwise \(space.model.dim was one of 12, 64, now"):
        searched("sasrec", events, "gone-on-with", replace(sasrec_space(), settings=narrower))
    assert all(path.stat().st_size for path in draw(found))


def test_a_trial_that_was_cut_off_goes_on_from_its_checkpoint(events: Path, ray_cluster: None) -> None:
    name, subject = "cut-off", subject_of("two_tower")
    run = override(subject.run(str(events)), {"loop.epochs": 3, "optim.lr": 1e-3})
    folder = SearchFolder(name)
    folder.propose(Proposal(0, {"optim.lr": 1e-3}))

    def until_the_second(run: Any, context: Context) -> None:
        def report(metrics: dict[str, float], checkpoint: Path | None) -> None:
            context.report(metrics, checkpoint)
            if metrics["epoch"] == 2:
                raise KeyboardInterrupt

        subject.task(space.goal)(run, replace(context, report=report))

    space = Space(
        settings={"optim.lr": tune.uniform(1e-4, 1e-2)}, goal=Goal("ndcg@10"), budget=Budget(trials=1)
    )
    with pytest.raises(KeyboardInterrupt):
        local.run(until_the_second, run, LOCAL, trial_name(name, 0))
    found = search(subject, run, space, SearchConfig(), LaunchConfig(workers=1, run=name))
    epochs = [report["epoch"] for report in history.read(trial_folder(name, 0))]
    assert epochs == [1.0, 2.0, 3.0]
    assert RecipeSubject(RECIPES["two_tower"]).measure(run, replace(LOCAL, run="not-cut-off")).means()
    whole = history.read(paths.runs_dir() / "not-cut-off")
    assert list(found.best.scores.values()) == [report["ndcg@10"] for report in whole]


def test_trials_that_are_behind_are_stopped_and_the_baseline_is_not(events: Path, ray_cluster: None) -> None:
    subject = subject_of("two_tower")
    run = override(subject.run(str(events)), {"loop.epochs": 9, "loop.patience": 0, "optim.lr": 1e-5})
    settings = {"optim.lr": tune.loguniform(1e-6, 1e-2)}
    budget = Budget(trials=8, grace=1, method="random")
    space = Space(settings=settings, goal=Goal("ndcg@10"), budget=budget)
    found = search(subject, run, space, SearchConfig(concurrent=2), LaunchConfig(workers=1, run="halved"))
    by_number = {record.number: record for record in found.records}
    assert (by_number[0].status, by_number[0].epochs) == ("finished", 9)
    stopped = [record for record in found.records if record.status == "stopped"]
    assert stopped
    assert {record.epochs for record in stopped} <= {1, 3}
    assert sum(record.epochs for record in found.records) < 8 * 9


def test_several_workers_train_a_trial(events: Path, ray_cluster: None) -> None:
    subject, space = subject_of("two_tower"), open_space("two_tower")
    run = override(subject.run(str(events)), {"loop.epochs": 2})
    launch = LaunchConfig(workers=2, run="on-two-workers")
    found = search(subject, run, space, SearchConfig(trials=1), launch)
    assert [(record.status, record.reason) for record in found.records] == [("finished", "")]
    assert found.best.epochs == 2


def test_population_based_training_changes_what_it_may(events: Path, ray_cluster: None) -> None:
    subject, space = subject_of("two_tower"), open_space("two_tower")
    run = override(subject.run(str(events)), {"loop.epochs": 8, "loop.patience": 0})
    config = SearchConfig(trials=4, method="pbt", grace=2)
    launch = LaunchConfig(workers=1, run="population")
    found = search(subject, run, space, config, launch)
    assert {record.status for record in found.records} == {"finished"}
    assert {record.epochs for record in found.records} == {8}
    proposed = [json.loads((trial_folder("population", n) / "proposal.json").read_text()) for n in range(4)]
    baseline = next(record for record in found.records if record.number == 0)
    assert override(run, baseline.changes) == run
    # Who goes on from another's weights has its settings too, but for those that may change.
    kept = [{k: v for k, v in each["changes"].items() if k not in space.budget.mutable} for each in proposed]
    ended = [record.changes for record in found.records]
    assert all(any(changes.items() >= others.items() for others in kept) for changes in ended)
    for path, within in space.ranges().items():
        assert all(changes[path] == within.nearest(changes[path]) for changes in ended)
