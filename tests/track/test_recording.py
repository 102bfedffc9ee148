"""Runs that real trackers follow in processes of their own; what they kept, read by their own libraries."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
import psutil
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recray.track import history
from recray.track.follow import Position
from recray.track.record import Outcome, RunFolder
from recray.track.recording import recording
from tests.track import wandb_file
from tests.track.test_curves import reports

ROOT = Path(__file__).parents[2]
ALL = ("wandb", "tensorboard", "mlflow")

# Named as tools name theirs; six more come in addresses, settings, and the text of an error.
NAMES = [
    "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "HF_TOKEN",
    "GITHUB_TOKEN", "DISCORD_WEBHOOK", "OPENAI_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN",
    "RUNPOD_API_KEY", "SMTP_PASSWORD", "SENTRY_DSN", "GOOGLE_CREDENTIALS",
]  # fmt: skip


def secret(number: int) -> str:
    return f"planted{number:02d}+Xy/{number * 7919:06d}"


def spelt(text: str) -> str:
    """As a part of an address."""
    return quote(text, safe="")


class Done(NamedTuple):
    home: Path
    said: str

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.home / "runs" / name)

    def trials(self) -> list[RunFolder]:
        return [self.run(f"searched/trials/{number:04d}") for number in range(2)]

    def wandb_file(self, name: str) -> Path:
        return next(self.run(name).folder.glob("wandb/offline-*/*.wandb"))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A run that was published and one that failed, with 20 secrets about."""
    home, raw = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("raw")
    login, password, key, token, hook, bearer = (
        secret(number) for number in range(len(NAMES), len(NAMES) + 6)
    )
    environment = {
        **os.environ,
        **{name: secret(number) for number, name in enumerate(NAMES)},
        "PYTHONPATH": str(ROOT), "RECRAY_HOME": str(home), "WANDB_MODE": "offline",
        "RECRAY_TRACK": ",".join(ALL), "RECRAY_PRICE_PER_HOUR": "3.5",
        "RECRAY_NOTIFY": f"json://u:{spelt(hook)}@127.0.0.1:9/{spelt(bearer)}?retry=0&wait=0",
        "SHOP_DATABASE": f"postgres://shop:{password}@db/shop",
    }  # fmt: skip
    arguments = [
        f"s3://{login}:{key}@bucket/e.csv?token={token}",
        f"{secret(0)} {secret(5)} {password} {bearer}",
    ]
    command = [sys.executable, str(ROOT / "tests/track/planted_run.py"), str(raw), *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    return Done(home, ended.stdout + ended.stderr)


@pytest.mark.slow
def test_none_of_twenty_secrets_is_found_outside_the_environment(done: Done) -> None:
    files = [path for path in done.home.rglob("*") if path.is_file()]
    contents = {str(path): path.read_bytes() for path in files} | {"log": done.said.encode()}
    kinds = ("run.json", "outcome.json", "metrics.jsonl", ".wandb", "tfevents", "card.json", "manifest.json")
    assert all(any(kind in name for name in contents) for kind in kinds)
    for number in range(20):
        plain = secret(number)
        for form in (plain, quote(plain), spelt(plain), plain.partition("/")[0]):
            assert [name for name, content in contents.items() if form.encode() in content] == []
    assert "error: s3://***@bucket/e.csv?token=*** cannot be read with *** *** *** ***" in done.said
    failed = done.run("careless").outcome()
    assert failed is not None
    assert failed.state == "failed"
    assert failed.said.endswith(
        "DataError: s3://***@bucket/e.csv?token=*** cannot be read with *** *** *** ***"
    )


@pytest.mark.slow
def test_weights_and_biases_holds_what_the_history_holds(done: Done) -> None:
    told = [row for row in wandb_file.rows(done.wandb_file("tiny")) if "epoch" in row]
    kept = done.run("tiny").reports()
    assert len(kept) == 3
    assert [{name: row[name] for name in report} for row, report in zip(told, kept, strict=True)] == kept
    outcome, config = done.run("tiny").outcome(), wandb_file.config(done.wandb_file("tiny"))
    assert outcome is not None
    assert config["card"] == outcome.card
    assert {name: config[name] for name in done.run("tiny").settings()} == done.run("tiny").settings()
    artifacts = wandb_file.artifacts(done.wandb_file("tiny"))
    assert artifacts[outcome.reference.split()[0]] >= {"manifest.json", "history.json"}


@pytest.mark.slow
def test_tensorboard_holds_what_the_history_holds(done: Done) -> None:
    events = EventAccumulator(str(done.run("tiny").folder / "tensorboard"))
    events.Reload()
    for name in (kept := done.run("tiny").reports())[-1]:
        told = {each.step: each.value for each in events.Scalars(name)}
        assert told == {int(report["epoch"]): np.float32(report[name]) for report in kept if name in report}
    assert "curves" in events.Tags()["images"]
    assert "_hparams_/session_start_info" in events.summary_metadata


@pytest.mark.slow
def test_mlflow_holds_what_the_history_holds(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    client = MlflowClient((done.home / "mlflow").as_uri())
    run_id = Position(done.run("tiny").folder, "mlflow").memory["run_id"]
    run, kept = client.get_run(run_id), done.run("tiny").reports()
    for name in kept[-1]:
        told = {
            each.step: each.value for each in client.get_metric_history(run_id, name.replace("@", "_at_"))
        }
        assert told == {int(report["epoch"]): report[name] for report in kept if name in report}
    assert run.info.status == "FINISHED"
    assert run.data.params == {k: str(v) for k, v in done.run("tiny").settings().items()}
    assert {file.path for file in client.list_artifacts(run_id)} == {"bundle", "card.json", "curves.png"}


@pytest.mark.slow
def test_trials_of_a_search_are_runs_of_every_tracker(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal to the record of each, and together: W&B's group, MLflow's parent."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    client, parents = MlflowClient((done.home / "mlflow").as_uri()), set()
    for trial in done.trials():
        kept, settings = trial.reports(), trial.settings()
        assert len(kept) == 3
        assert settings["search"] == "searched"
        [file] = trial.folder.glob("wandb/offline-*/*.wandb")
        told = [row for row in wandb_file.rows(file) if "epoch" in row]
        assert [{name: row[name] for name in report} for row, report in zip(told, kept, strict=True)] == kept
        assert wandb_file.config(file)["model.dropout"] == settings["model.dropout"]
        assert wandb_file.exit_code(file) == 0
        events = EventAccumulator(str(trial.folder / "tensorboard"))
        events.Reload()
        by_epoch = [(int(report["epoch"]), np.float32(report["ndcg@10"])) for report in kept]
        assert [(each.step, each.value) for each in events.Scalars("ndcg@10")] == by_epoch
        run_id = Position(trial.folder, "mlflow").memory["run_id"]
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert run.data.params == {name: str(value) for name, value in settings.items()}
        history_of = client.get_metric_history(run_id, "ndcg_at_10")
        assert [(each.step, each.value) for each in history_of] == [
            (int(report["epoch"]), report["ndcg@10"]) for report in kept
        ]
        parents.add(run.data.tags["mlflow.parentRunId"])
    [parent] = parents
    assert client.get_run(parent).info.run_name == "searched"


@pytest.mark.slow
def test_reports_say_what_the_run_took(done: Done) -> None:
    kept = done.run("tiny").reports()
    assert all(
        each["samples_per_s"] > 0 and each["cpu_percent"] > 0 and each["peak_memory_gb"] > 0 for each in kept
    )
    assert kept[0]["wall_s"] < kept[-1]["wall_s"]
    assert kept[-1]["dollars"] == pytest.approx(3.5 * kept[-1]["wall_s"] / 3600, abs=1e-6)


def until(reached: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


DRIVER = """
import sys, time
from pathlib import Path
from recray.track import history
from recray.track.record import RunFolder
from recray.track.recording import recording
folder, begin, end, pause_s = Path(sys.argv[1]), *map(float, sys.argv[2:])
with recording(RunFolder(folder), ("wandb",), 60):
    for epoch in range(int(begin), int(end)):
        history.append(folder, {"epoch": float(epoch), "loss": 1 / epoch})
    time.sleep(pause_s)
"""


@pytest.mark.slow
def test_a_killed_driver_goes_on_as_the_same_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "killed")
    run.note_settings({"seed": 0})

    def drive(*values: int) -> list[str]:
        return [sys.executable, "-c", DRIVER, str(run.folder), *map(str, values)]

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    first = subprocess.Popen(drive(1, 4, 600), env=environment)
    until(lambda: Position(run.folder, "wandb").reports == 3)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert run.outcome() is None
    subprocess.run(drive(4, 6, 0), env=environment, check=True)
    files = sorted(run.folder.glob("wandb/offline-*/*.wandb"))
    rows = [row for file in files for row in wandb_file.rows(file)]
    assert [(row["epoch"], row["loss"]) for row in rows] == [(n, 1 / n) for n in range(1, 6)]
    assert [row["_step"] for row in rows] == [0, 1, 2, 3, 4]
    assert len(files) == 2
    assert len({file.name for file in files}) == 1  # of one id
    assert [wandb_file.exit_code(file) for file in files] == [1, 0]


def test_a_run_that_is_launched_within_its_life_ends_once(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "outer")
    run.note_settings({"seed": 0})
    with recording(run, (), 0.0) as outer:
        with recording(run, (), 0.0):
            assert run.outcome() is None
        assert run.outcome() is None  # who is killed here was not finished
        outer.finish(Outcome(state="finished", metrics={"auc": 0.5}))
    assert run.outcome() == Outcome(state="finished", metrics={"auc": 0.5})


def test_how_a_run_ended_is_noted(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "ends")
    run.note_settings({"seed": 0})
    with pytest.raises(KeyboardInterrupt), recording(run, (), 0.0):
        raise KeyboardInterrupt
    assert run.outcome() == Outcome(state="stopped")
    with pytest.raises(ZeroDivisionError), recording(run, (), 0.0):
        print(1 / int("0"))
    failed = run.outcome()
    assert failed is not None
    assert failed.state == "failed"
    assert failed.said.splitlines()[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.slow
def test_a_tracker_that_is_killed_is_started_again_at_the_end(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "killed")
    run.note_settings({"seed": 0})
    with recording(run, ("tensorboard",), 60.0):
        history.append(run.folder, {"epoch": 1.0, "loss": 0.5})
        until(lambda: Position(run.folder, "tensorboard").reports == 1)
        [tracker] = children_that_say("recray.track.follow", str(run.folder))
        os.kill(tracker, signal.SIGKILL)
        history.append(run.folder, {"epoch": 2.0, "loss": 0.25})
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    assert [(each.step, each.value) for each in events.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
    assert Position(run.folder, "tensorboard").end


def children_that_say(*words: str) -> list[int]:
    """Processes that this one started with these arguments."""
    found = []
    for child in psutil.Process().children():
        if set(words) <= set(child.cmdline()):
            found.append(child.pid)
    return found


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow
def test_a_tracker_that_hangs_is_not_waited_for(
    silent_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("recray"), "propagate", True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", silent_server)
    run = RunFolder(tmp_path / "hangs")
    run.note_settings({"seed": 0})
    with recording(run, ("mlflow",), 1.0):
        for report in reports([0.1, 0.2]):
            history.append(run.folder, report)
    (said,) = [record.message for record in caplog.records]
    assert said.startswith(
        "run hangs: mlflow took too long, so it lacks 2 of 2 reports and how it ended; all of it is"
    )
    assert run.outcome() == Outcome(state="finished")
