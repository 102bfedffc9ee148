"""Experiments: what was done stays done, what fails ends nothing else, and one page compares them."""

import json
import os
import re
import signal
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recray.config import ConfigError, from_dict, to_dict
from recray.data.events.split_data import DataConfig
from recray.eval.evaluate import Evaluation
from recray.launch.tasks import run_each
from recray.pipelines.compare import entries_of
from recray.pipelines.experiment import (
    Experiment,
    Failed,
    ModelOf,
    Result,
    cells_of,
    read_experiment,
    run_experiment,
)
from recray.pipelines.experiment_page import alike, by_title, compared, render
from recray.pipelines.experiment_summary import summary
from recray.schema import ProtocolCard
from recray.train.context import LaunchConfig
from tests.pipelines.tiny import tiny_events

EXPERIMENTS = Path(__file__).parents[2] / "jobs/experiments"

LOCAL = LaunchConfig(where="local")
CARD = ProtocolCard(
    dataset="films", dataset_hash="ab12", split="leave-one-out", target="test", relevance="all", k_core=0
)
MODELS = (ModelOf(model="item_knn"), ModelOf(model="popularity", title="what is popular"))


def made_up(title: str, mean: float, seed: int) -> Result:
    rng = np.random.default_rng([seed, len(title)])
    names = ("ndcg@10", "hit@10", "mrr@10", "novelty@10", "popularity_bias@10")
    per_query = {name: rng.normal(mean, 0.05, 300) for name in names}
    evaluation = Evaluation(
        card=CARD, per_query=per_query, scalars={"coverage@10": 0.5}, user_ids_U=np.arange(300)
    )
    reports = [{"epoch": float(epoch), "ndcg@10": mean * epoch} for epoch in (1, 2)]
    return Result(
        title,
        "films",
        seed,
        title != "popularity",
        evaluation,
        reports,
        60.0,
        0.5,
        {"optim.lr": 0.1, "seed": seed},
    )


RESULTS = [
    *(made_up("sasrec", 0.20, seed) for seed in range(3)),
    *(made_up("ss4rec", 0.2005, seed) for seed in range(3)),
    made_up("popularity", 0.05, 0),
]


def test_pairs_that_are_told_apart() -> None:
    pairs = compared(by_title(RESULTS), "ndcg@10")
    assert len(pairs) == 3
    assert all(one.found.mean >= 0 for one in pairs)
    apart = {(one.first, one.second) for one in pairs if one.adjusted < 0.05}
    assert apart == {("sasrec", "popularity"), ("ss4rec", "popularity")}
    assert all(one.adjusted >= one.found.p_value for one in pairs)
    assert alike(["ss4rec", "sasrec", "popularity"], pairs) == [(0, 1)]


def test_the_page_says_it_all() -> None:
    experiment = Experiment(name="films", about="Which one?", datasets=("films",), models=MODELS, seeds=3)
    said = render(experiment, RESULTS, [Failed("ncf", "films", 0, "no <memory>")])
    for text in (
        "Which one?",
        "ncf on films, seed 0: no &lt;memory&gt;",
        "sasrec over popularity",
        "optim.lr 0.1",
    ):
        assert text in said
    assert said.count("<svg") == 3
    assert "mathdefault" not in said  # an axis of seconds is written out, not in TeX
    assert not re.search(r"<script|<link|src=", said)  # it needs no other file


def test_what_the_page_says_is_there_as_data() -> None:
    experiment = Experiment(name="films", datasets=("films",), models=MODELS, seeds=3)
    said = summary(experiment, RESULTS, [Failed("ncf", "films", 0, "no memory")])
    assert json.loads(json.dumps(said)) == said
    means = [one.evaluation.means()["ndcg@10"] for one in RESULTS]
    rows = [(row["model"], row["seeds"], row["mean"]) for row in said["models"]]
    assert rows == [
        ("sasrec", 3, pytest.approx(np.mean(means[:3]))),
        ("ss4rec", 3, pytest.approx(np.mean(means[3:6]))),
        ("popularity", 1, pytest.approx(means[6])),
    ]
    assert all(row["low"] < row["mean"] < row["high"] for row in said["models"])
    assert {(one["first"], one["second"]) for one in said["pairs"] if one["p_value"] < 0.05} == {
        ("sasrec", "popularity"), ("ss4rec", "popularity"),
    }  # fmt: skip
    assert said["failed"] == ["ncf on films, seed 0: no memory"]


def file(folder: Path, **changes: Any) -> Path:
    said = {"name": "films", "datasets": ["films"], "models": [{"model": "item_knn"}], **changes}
    path = folder / "experiment.json"
    path.write_text(json.dumps(said))
    return path


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"models": [{"model": "item_knn"}, {"model": "item_knn"}]}, "two models are called item_knn"),
        ({"seeds": 0}, "needs at least a data set, a model and a seed"),
        ({"metric": "ndcg@5"}, r"ndcg@5 is not measured, ks are \(10,\)"),
        ({"modles": []}, "modles"),
        ({"metric": "ngcg@10"}, "metric 'ngcg@10' is not measured, did you mean 'ndcg@10'"),
        ({"metric": "ndcg"}, "metric 'ndcg' is not measured"),
        (
            {"models": [{"model": "item_knn", "settings": {"data.split": "all"}}]},
            "data.split is the same for",
        ),
    ],
)
def test_a_file_that_says_nothing_sensible_is_refused(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        read_experiment(file(tmp_path, **changes))


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_experiment_of_the_repository_can_begin(path: Path) -> None:
    """Its models and settings are there, and no two of its runs are one; the data is not asked for."""
    experiment, runs = read_experiment(path), []
    for dataset in experiment.datasets:
        data = from_dict(DataConfig, {**experiment.data, "dataset": dataset})
        for one in experiment.models:
            found = entries_of(one.model, data, experiment.seeds, one.settings, one.title)
            runs += [(entry.title, to_dict(entry.run)) for entry in found]
    assert len(runs) > len(experiment.models)
    assert all(one not in runs[:place] for place, one in enumerate(runs))


def test_what_cannot_be_run_is_refused_before_anything_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    events = str(tiny_events(tmp_path))
    for model, why in (
        ({"model": "gbdt_ranker"}, "does not rank the catalogue"),
        ({"model": "item_kn"}, "no recipe for model 'item_kn'"),
        ({"model": "item_knn", "settings": {"model.neighbors": 3}}, "neighbors"),
    ):
        with pytest.raises(ConfigError, match=why):
            cells_of(read_experiment(file(tmp_path, datasets=[events], models=[model])))


@pytest.mark.slow
def test_what_was_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    events = str(tiny_events(tmp_path))
    experiment = Experiment(name="tiny", datasets=(events,), models=MODELS, ks=(5,), metric="ndcg@5")
    told: list[str] = []
    before = cells_of(experiment)
    results, failed = run_experiment(experiment, LOCAL, told.append)
    assert (len(results), failed, told[0]) == (2, [], "tiny: 2 runs, 0 of them done before")
    assert [one.title for one in results] == ["item_knn", "what is popular"]
    assert all(one.peak_gib > 0.1 and one.seconds > 0 for one in results)
    again, _ = run_experiment(experiment, LOCAL, told.append)
    assert told[-1] == "tiny: 2 runs, 2 of them done before"
    assert [one.evaluation.means() for one in again] == [one.evaluation.means() for one in results]
    assert again[0].evaluation.card == results[0].evaluation.card
    with Path(events).open("a") as file:
        file.write("u1\ti9\t5.0\t99999\n")
    assert len({cell.folder for cell in cells_of(experiment)} - {cell.folder for cell in before}) == 2


def dies(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.slow
def test_a_run_that_is_killed_ends_no_other() -> None:
    came = dict(run_each(dies, [1, 2, 3], LOCAL))
    assert (came[1], came[3]) == (1, 3)
    assert isinstance(came[2], BrokenProcessPool)
