"""What ``recray runs`` says of runs that ended, that go on, and that are not there."""

import json
from pathlib import Path

import pytest

from recray import paths
from recray.cli import main
from recray.track import history
from recray.track.record import Outcome, RunFolder


@pytest.fixture(autouse=True)
def _two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    for name, values in (("first", [0.5, 0.25]), ("second", [0.125])):
        run = RunFolder(paths.runs_dir() / name)
        run.note_settings({"loop.metric": "logloss", "loop.goal": "min", "seed": 3})
        for epoch, value in enumerate(values, 1):
            report = {
                "epoch": float(epoch),
                "logloss": value,
                "wall_s": 90.0 * epoch,
                "dollars": 0.25 * epoch,
            }
            history.append(run.folder, report)
    RunFolder(paths.runs_dir() / "first").end(
        Outcome(state="finished", metrics={"auc": 0.75}, reference="shop version 2 (1a2b)")
    )


def said(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    assert main([*words, "--json"]) == 0
    rows: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return rows


def test_runs_are_listed_with_how_far_they_came(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in said(capsys, "runs")}
    assert rows["first"] == {
        "name": "first", "state": "finished", "best": "logloss 0.2500 in epoch 2", "epochs": 2,
        "took": "3.0 min", "dollars": 0.5,
    }  # fmt: skip
    assert str(rows["second"]["state"]).startswith("open, heard of ")


def test_a_pipe_gets_whole_names(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "two_tower-my-shop-export-20261128-111124-e6e2915b-all"
    RunFolder(paths.runs_dir() / name).note_settings({"seed": 1})
    assert main(["runs"]) == 0
    assert name in capsys.readouterr().out


def test_one_run_says_all_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    told = {str(row["what"]): row["value"] for row in said(capsys, "runs", "first")}
    assert told["published"] == "shop version 2 (1a2b)"
    assert "0.2500" in Path(str(told["page"])).read_text()
    assert (told["test.auc"], told["best.epoch"], told["last.logloss"], told["seed"]) == (0.75, 2.0, 0.25, 3)


def test_a_run_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "frist"]) == 2
    assert "no run 'frist', did you mean 'first'?" in capsys.readouterr().err


def test_only_what_ended_is_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "clean") == []  # nothing is 30 days old
    assert [row["name"] for row in said(capsys, "clean", "--older", "0s")] == ["first"]
    assert main(["clean", "second", "--yes"]) == 2
    assert "run second has not ended" in capsys.readouterr().err
    assert main(["clean", "frist"]) == 2
    assert "did you mean 'first'" in capsys.readouterr().err
    assert (paths.runs_dir() / "first").exists()
    [gone] = said(capsys, "clean", "first", "--yes")
    assert gone["name"] == "first"
    assert [path.name for path in paths.runs_dir().iterdir()] == ["second"]
