"""The command line of a search: a model, where it starts, what differs; tables that fit."""

import io
from typing import Any
from unittest import mock

import pytest
from rich.console import Console

from recray.cli import tune, tuning
from recray.config import ConfigError, override
from recray.launch.ray_tune import Proposal
from recray.pipelines.tune.records import TrialRecord
from recray.pipelines.tune.search import Live, Progress, SearchConfig
from recray.pipelines.tune.spaces import Goal
from recray.recipes import RECIPES
from recray.train.context import LaunchConfig

CHANGES: dict[str, Any] = {"optim.lr": 0.0123456, "model.embedding.lr": 0.1, "model.hidden_dims": [64, 32]}


def asked(*args: str) -> Any:
    """The job that a command line asks for."""
    with mock.patch.object(tuning, "tune_and_judge") as called:
        tuning.work(list(args), "What it does.")
    [(_, _, job)] = [call.args for call in called.call_args_list]
    return job


def test_settings_of_the_run_stand_as_in_training() -> None:
    job = asked("two_tower", "ml-100k", "--trials", "7", "--optim.lr", "0.01", "--data.split", "global-time")
    preset = RECIPES["two_tower"].presets["ml-100k"][1]
    assert job.run == override(preset, {"optim.lr": 0.01, "data.split": "global-time"})
    assert job.search == SearchConfig(trials=7)
    assert job.launch == LaunchConfig(workers=1, run="tune-two_tower-ml-100k")
    assert (job.seeds, job.publish) == (3, True)
    assert not asked("two_tower", "ml-100k", "--no-publish").publish


def test_the_same_command_names_the_same_search() -> None:
    assert asked("ncf", "ml-1m").launch.run == asked("ncf", "ml-1m", "--trials", "9").launch.run


def test_an_application_has_the_settings_of_both_stages() -> None:
    job = asked(
        "two_stage", "ml-100k", "--ranker.candidates.retrieved", "100", "--retriever.optim.lr", "0.01"
    )
    assert job.run.ranker.candidates.retrieved == 100
    assert job.run.retriever.optim.lr == 0.01


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["popularity", "ml-100k"], "no space to search for 'popularity'"),
        (["two_tower"], "after two_tower a preset"),
        (["two_tower", "--trials", "3"], "after two_tower a preset"),
        (["two_tower", "ml-100k", "--trials", "-1"], "trials must not be negative, got -1"),
        (["two_tower", "ml-100k", "--workers", "2"], "--workers is written --launch.workers"),
    ],
)
def test_what_cannot_be_searched_is_a_sentence(args: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        tuning.work(args, None)


def test_help_tells_the_space(capsys: pytest.CaptureFixture[str]) -> None:
    tuning.work([], "What it does.")
    assert "models with a space: bpr, decoder, dlrm" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        tuning.work(["rqvae", "ml-100k", "--help"], "What it does.")
    said = capsys.readouterr().out
    assert "model.latent_dim: one of 8, 16, 32, 64" in said
    assert "model.spread: gives up reconstruction" in said


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_table_of_progress_fits_the_terminal(width: int) -> None:
    records = [TrialRecord(number=n, changes=CHANGES, status="stopped", score=n / 40) for n in range(30)]
    progress = Progress(records, [Live(Proposal(30, CHANGES), 4, 0.5)], 40)
    out = io.StringIO()
    Console(file=out, width=width).print(tuning.progress_table(progress, Goal("ndcg@10")))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert all(line.rstrip()[-1] in "┓┃┩│┘" for line in lines[1:])
    assert len(lines) == 5 + tuning.SHOWN
    assert "30 of 40 trials ended" in lines[0]
    assert "30    │ running  │ 4      │ 0.5000" in lines[4]


def test_settings_are_told_by_their_last_word_where_it_is_enough() -> None:
    assert tuning._words(CHANGES) == "optim.lr 0.0123, model.embedding.lr 0.1, hidden_dims [64, 32]"


def test_what_is_not_installed_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "NEEDED", ("optuna", "plotly_of_nobody"))
    with pytest.raises(ConfigError, match=r"needs plotly_of_nobody: pip install 'recray\[tune\]'"):
        tune._work([])
