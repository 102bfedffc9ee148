"""Runs whose home is a bucket: another machine goes on where one stopped."""

import json

import pytest

from recray import paths
from recray.cli.runs import runs
from recray.config import ConfigError
from recray.launch import launch
from recray.track import history
from recray.track.record import Outcome, RunFolder
from recray.train.context import LaunchConfig
from tests.launch.test_launch import Run, assert_equal_weights, train
from tests.storage.conftest import Machine


def test_a_record_is_the_same_on_every_machine(machine: Machine) -> None:
    run = RunFolder(paths.runs_dir() / "nightly")
    run.note_settings({"loop.metric": "ndcg@10"})
    history.append(run.folder, {"epoch": 1, "ndcg@10": 0.1})
    run.end(Outcome(state="failed", said="no"))
    machine("there")
    there = RunFolder(paths.runs_dir() / "nightly")
    assert there.folder != run.folder
    assert there.outcome() == Outcome(state="failed", said="no")
    there.begin()
    history.append(there.folder, {"epoch": 2, "ndcg@10": 0.2})
    machine("here")
    assert run.outcome() is None
    assert [report["epoch"] for report in run.reports()] == [1, 2]
    assert run.best()["epoch"] == 2
    assert [row["name"] for row in runs()] == ["nightly"]


def test_another_machine_goes_on_where_one_stopped(machine: Machine) -> None:
    config = LaunchConfig(where="local", run="moved")
    before = launch(train, Run(), config, "t")
    machine("there")
    moved = launch(train, Run(), config, "t")
    assert moved.checkpoint.is_relative_to(paths.home())
    assert before.checkpoint.name == moved.checkpoint.name
    assert_equal_weights(before, moved)
    assert len(moved.history()) == len(before.history())  # there was nothing left to do
    settings = json.loads((paths.runs_dir() / "moved" / "run.json").read_text())
    assert settings["launch.where"] == "local"


def test_a_name_is_taken_on_every_machine(machine: Machine) -> None:
    launch(train, Run(epochs=1), LaunchConfig(where="local", run="taken"), "t")
    machine("there")
    with pytest.raises(ConfigError, match="was started with other settings"):
        launch(train, Run(epochs=1), LaunchConfig(where="local", run="taken"), "another")
