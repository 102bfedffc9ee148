"""What holds of a trial and of what is kept of it: its reports, settings, secrets, and what was measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from ray import tune
from ray.tune.experiment import Trial

from recray.config import override
from recray.eval.clicks import ClickEvaluation
from recray.eval.evaluate import Evaluation
from recray.eval.semantic_ids import MeasuredCodes, code_quality
from recray.eval.two_stage import MeasuredStages
from recray.launch import ray_tune
from recray.launch.ray_tune import CHANGES, Plan, Proposal, begun, trial_folder
from recray.launch.runs import Task
from recray.launch.tune_domains import range_of
from recray.pipelines.tune.judged import record_of
from recray.pipelines.tune.kept import read_measured, write_measured
from recray.pipelines.tune.pictures import draw
from recray.pipelines.tune.records import SearchFolder, TrialRecord
from recray.pipelines.tune.search import Found, SearchConfig, _Life, search
from recray.pipelines.tune.spaces import Budget, Goal, Space
from recray.pipelines.tune.subject import RecipeSubject
from recray.pipelines.tune.trials import write_trials
from recray.recipes import RECIPES
from recray.schema import DataError, ProtocolCard
from recray.track import history
from recray.train.context import Context, LaunchConfig
from recray.train.run import Measured, Run
from tests.pipelines.tiny import tiny_events

SPACE = Space(
    settings={"optim.lr": tune.loguniform(1e-3, 1e-2)},
    goal=Goal("ndcg@10"),
    budget=Budget(trials=3, grace=8, mutable=("optim.lr",)),
)
CARD = ProtocolCard(
    dataset="made", dataset_hash="0", split="leave-one-out", target="test", relevance="all", k_core=0
)


# A trial's folder


def test_a_trial_that_begins_anew_keeps_none_of_its_old_reports() -> None:
    folder = trial_folder("anew", 0)
    folder.mkdir(parents=True)
    history.append(folder, {"epoch": 7.0, "ndcg@10": 0.9})
    (folder / "refused.txt").write_text("of an earlier start")
    with begun("anew", 0) as refused:
        assert history.read(folder) == []
        assert not refused.exists()


def test_a_trial_that_goes_on_keeps_its_reports() -> None:
    folder = trial_folder("further", 0)
    (folder / "checkpoint_000000").mkdir(parents=True)
    history.append(folder, {"epoch": 7.0, "ndcg@10": 0.9})
    with begun("further", 0):
        assert history.read(folder) == [{"epoch": 7.0, "ndcg@10": 0.9}]


# Population based training


@pytest.mark.parametrize(
    ("domain", "value", "nearest"),
    [
        (tune.uniform(0.0, 0.6), 0.72, 0.6),
        (tune.loguniform(1e-3, 1e-2), 8e-4, 1e-3),
        (tune.uniform(0.0, 0.6), 0.3, 0.3),
        (tune.randint(1, 4), 3.6, 3),
        (tune.quniform(0.0, 1.0, 0.25), 0.4, 0.5),
        (tune.qrandint(2, 9, 3), 12, 8),
        (tune.choice([8, 16]), 16, 16),
        (tune.choice([8, 16]), 12, 8),
    ],
)
def test_a_changed_value_stays_within_its_range(domain: Any, value: float, nearest: float) -> None:
    found = range_of("x", domain).nearest(value)
    assert found == pytest.approx(nearest)
    assert isinstance(found, type(nearest))


def test_a_population_changes_nothing_out_of_its_space() -> None:
    """Ray multiplies by 0.8 or 1.2; the settings of whom it goes on from lie at an end of the range."""
    plan = Plan("ndcg@10", "max", 2, 8, 2, mutations=SPACE.domains())
    scheduler = ray_tune._scheduler(plan)
    assert isinstance(scheduler, ray_tune._Pbt)
    made = [
        Trial("some", stub=True, config={"trial": {"number": n, "changes": {"optim.lr": lr}}})
        for n, lr in ((1, 2e-3), (2, 1e-2))
    ]
    found = []
    for _ in range(50):
        config, _operations = scheduler._get_new_config(made[0], made[1])
        assert config["trial"]["number"] == 1
        found.append(config["trial"]["changes"]["optim.lr"])
    assert 1e-3 <= min(found) < max(found) == 1e-2


def test_what_was_changed_on_the_way_is_gone_on_with() -> None:
    """The settings of its last checkpoint, which a population had changed, and not the first ones."""
    folder = SearchFolder("population-cut-off")
    folder.claim({})
    for number in range(2):
        folder.propose(Proposal(number, {"optim.lr": 1e-3, "model.dropout": 0.1}))
    trial = trial_folder(folder.name, 1)
    for number, lr in ((0, 2e-3), (1, 4e-3)):
        (trial / f"checkpoint_{number:06d}").mkdir()
        (trial / f"checkpoint_{number:06d}" / CHANGES).write_text(json.dumps({"optim.lr": lr}))
    assert folder.unfinished() == [
        Proposal(0, {"optim.lr": 1e-3, "model.dropout": 0.1}),
        Proposal(1, {"optim.lr": 4e-3}),
    ]


def test_a_population_that_goes_on_repeats_no_trial_that_ended() -> None:
    folder = SearchFolder("population-goes-on")
    folder.claim({})
    run = RECIPES["two_tower"].presets["ml-100k"][1]
    for number in range(3):
        folder.propose(Proposal(number, {"optim.lr": 1e-3}))
    folder.end(TrialRecord(number=0, changes={"optim.lr": 1e-3}, status="finished", score=0.5, epochs=8))
    checkpoint = trial_folder(folder.name, 1) / "checkpoint_000004"
    checkpoint.mkdir()
    (checkpoint / CHANGES).write_text(json.dumps({"optim.lr": 4e-3}))
    before = (folder.folder / "trials" / "0000.json").read_bytes()
    life = _Life(folder, run, SPACE, "pbt", 4, lambda _: None)
    population = list(iter(life.propose, None))
    assert [proposal.number for proposal in population] == [1, 2, 3]
    assert [proposal.changes for proposal in population[:2]] == [{"optim.lr": 4e-3}, {"optim.lr": 1e-3}]
    life.ended(Proposal(0, {"optim.lr": 9e-3}), "finished", "")  # Tune takes up again what had ended
    assert (folder.folder / "trials" / "0000.json").read_bytes() == before
    life.ended(population[0]._replace(changes={"optim.lr": 5e-3}), "finished", "")
    assert [(record.number, record.changes["optim.lr"]) for record in folder.records()] == [
        (0, 1e-3),
        (1, 5e-3),
    ]


# A search from its start to its record


class Refusing(RecipeSubject):
    """What it needs lies where a secret stands in the address."""

    def task(self, goal: Goal) -> Task[Any]:
        def refuse(run: Run, context: Context) -> None:
            raise DataError("no file at s3://letters-of-a-secret/events.csv")

        return refuse


def small(tmp_path: Path, name: str, **config: Any) -> Found:
    subject = RecipeSubject(RECIPES["two_tower"])
    run = override(subject.run(str(tiny_events(tmp_path, name))), {"loop.epochs": 9, "loop.patience": 0})
    launch = LaunchConfig(where="local", workers=1, run=name)
    return search(subject, run, SPACE, SearchConfig(trials=1, **config), launch)


@pytest.mark.parametrize(("asked", "grace"), [(0, 2), (5, 5)])
def test_grace_is_what_is_asked_for_else_a_quarter_at_most(tmp_path: Path, asked: int, grace: int) -> None:
    found = small(tmp_path, f"grace-{asked}", grace=asked)
    assert json.loads((found.folder / "search.json").read_text())["grace"] == grace


def test_a_trial_lasts_as_long_as_it_trains(tmp_path: Path) -> None:
    found = small(tmp_path, "lasting")
    assert found.best.duration_s == round(found.curves[0][-1]["wall_s"], 1) > 0


def test_neither_records_nor_tables_nor_pictures_tell_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "letters-of-a-secret")

    found = small(tmp_path, "planted")
    again = Refusing(RECIPES["two_tower"])
    launch = LaunchConfig(where="local", workers=1, run="planted")
    found = search(again, found.run, SPACE, SearchConfig(trials=2), launch)
    [failed] = [record for record in found.records if record.status == "failed"]
    assert failed.reason.startswith("no file at s3://")
    files = [write_trials(found.folder / "trials.parquet", found), *draw(found)]
    told = [path.read_bytes() for path in found.folder.rglob("*") if path.is_file()]
    assert len(told) > len(files)
    assert "letters-of-a-secret" not in failed.reason
    assert pl.read_parquet(files[0])["reason"].to_list().count(failed.reason) == 1
    told.append(json.dumps(record_of(found)).encode())
    assert not any(b"letters-of-a-secret" in content for content in told)


# What was measured


def test_what_was_measured_is_read_as_it_was(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lists = Evaluation(
        card=CARD,
        per_query={"ndcg@10": rng.random(5)},
        scalars={"coverage@10": 0.5},
        user_ids_U=np.arange(5),
    )
    clicks = ClickEvaluation(
        card=CARD, logits_N=rng.normal(size=4), labels_N=np.array([0.0, 1, 1, 0]), units_N=np.arange(4)
    )
    codes = MeasuredCodes(code_quality(np.array([[0, 0], [0, 1], [1, 1]]), (2, 2)), 0.5)
    kinds: list[Measured] = [lists, clicks, codes, MeasuredStages(lists, lists)]
    for number, measured in enumerate(kinds):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_measured(folder, measured)
        found = read_measured(folder)
        assert found.card == measured.card
        assert found.means() == measured.means()
        if isinstance(measured, Evaluation | ClickEvaluation):
            assert type(found) is type(measured)
            for name, value in vars(measured).items():
                np.testing.assert_equal(getattr(found, name), value)
