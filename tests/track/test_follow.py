"""A tracker is told each report once, goes on where it was, and is told again what it could not take."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recray.config import ConfigError
from recray.track import history
from recray.track import notices as notices_module
from recray.track.curves import plot_curves
from recray.track.follow import Position, follow, follow_trials
from recray.track.record import Outcome, RunFolder
from recray.track.recording import notices
from recray.track.reporters import require
from recray.track.tensorboard import TensorBoard
from tests.track.test_curves import reports

SETTINGS = {"loop.metric": "ndcg@10", "loop.goal": "max", "optim.lr": 0.01, "what": "two_tower-tiny"}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    found = RunFolder(tmp_path / "run-1")
    found.note_settings(SETTINGS)
    return found


def tell(run: RunFolder, *values: float, first_epoch: int = 1) -> None:
    for epoch, report in enumerate(reports(list(values)), first_epoch):
        history.append(run.folder, {**report, "epoch": float(epoch), "best_ndcg@10": 0.5, "time": 1.0})


def steps(*actions: Callable[[], object]) -> Callable[[float], bool]:
    """Stands for the time that passes: each wait does the next thing; after the last the run is over."""
    left = iter(actions)

    def over(seconds: float) -> bool:
        action = next(left, None)
        if action:
            action()
        return action is None

    return over


def scalars(run: RunFolder, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    return [(each.step, each.value) for each in events.Scalars(name)]


def test_each_report_is_told_once_and_the_next_process_goes_on(run: RunFolder) -> None:
    tell(run, 0.5)
    assert follow("tensorboard", run, steps(lambda: tell(run, 0.25, first_epoch=2), lambda: None))
    tell(run, 0.75, first_epoch=3)
    assert follow("tensorboard", run, steps())
    assert scalars(run, "ndcg@10") == [(1, 0.5), (2, 0.25), (3, 0.75)]
    assert Position(run.folder, "tensorboard").reports == 3


def test_a_run_begun_anew_with_other_settings_is_another_run_to_a_tracker(run: RunFolder) -> None:
    tell(run, 0.5)
    assert follow("tensorboard", run, steps())
    run.note_settings({**SETTINGS, "optim.lr": 0.1})
    (run.folder / history.FILE).unlink()
    tell(run, 0.25)
    assert follow("tensorboard", run, steps())
    assert scalars(run, "ndcg@10") == [(1, 0.5), (1, 0.25)]


def test_what_failed_is_said_once_and_told_later(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("recray"), "propagate", True)
    tell(run, 0.5)
    in_the_way = run.folder / "tensorboard"
    in_the_way.touch()  # a file where the tracker's folder goes
    assert not follow("tensorboard", run, steps(lambda: None, lambda: None))
    assert [record.message.partition(" (")[0] for record in caplog.records] == [
        "run run-1: tensorboard fails"
    ]
    assert follow("tensorboard", run, steps(lambda: None, in_the_way.unlink, lambda: None))
    assert scalars(run, "ndcg@10") == [(1, 0.5)]


@pytest.fixture
def trials(tmp_path: Path) -> list[RunFolder]:
    found = [RunFolder(tmp_path / "search" / "trials" / f"{number:04d}") for number in range(2)]
    for number, trial in enumerate(found):
        trial.note_settings({**SETTINGS, "search": "search", "trial": number, "optim.lr": 0.1 * number})
    return found


def test_trials_of_a_search_are_runs_side_by_side(tmp_path: Path, trials: list[RunFolder]) -> None:
    first, second = trials

    def first_ends() -> None:
        tell(first, 0.25, first_epoch=2)
        first.end(Outcome(state="finished"))

    during = (lambda: tell(first, 0.5), lambda: tell(second, 0.125), first_ends)
    assert follow_trials("tensorboard", tmp_path / "search", steps(*during))
    assert scalars(first, "ndcg@10") == [(1, 0.5), (2, 0.25)]
    assert scalars(second, "ndcg@10") == [(1, 0.125)]
    told = [bool(Position(trial.folder, "tensorboard").end) for trial in trials]
    assert told == [True, False], "one was lost"
    files = set((first.folder / "tensorboard").iterdir())
    tell(second, 0.75, first_epoch=2)
    second.end(Outcome(state="finished"))
    assert follow_trials("tensorboard", tmp_path / "search", steps(lambda: None))
    assert scalars(second, "ndcg@10") == [(1, 0.125), (2, 0.75)]
    assert set((first.folder / "tensorboard").iterdir()) == files, "what ended is not told again"


def test_a_trial_that_cannot_be_told_keeps_no_other_from_it(tmp_path: Path, trials: list[RunFolder]) -> None:
    (trials[0].folder / "tensorboard").touch()
    during = (lambda: tell(trials[0], 0.5), lambda: tell(trials[1], 0.125))
    assert not follow_trials("tensorboard", tmp_path / "search", steps(*during))
    assert scalars(trials[1], "ndcg@10") == [(1, 0.125)]
    (trials[0].folder / "tensorboard").unlink()
    assert follow_trials("tensorboard", tmp_path / "search", steps())
    assert scalars(trials[0], "ndcg@10") == [(1, 0.5)]


def test_a_trial_that_is_done_again_is_told_again(tmp_path: Path, trials: list[RunFolder]) -> None:
    """As when its record was taken away: its reports begin anew."""
    tell(trials[0], 0.5, 0.25)
    trials[0].end(Outcome(state="finished"))
    assert follow_trials("tensorboard", tmp_path / "search", steps())
    trials[0].begin()
    (trials[0].folder / history.FILE).unlink()
    tell(trials[0], 0.75)
    assert follow_trials("tensorboard", tmp_path / "search", steps())
    assert scalars(trials[0], "ndcg@10") == [(1, 0.5), (2, 0.25), (1, 0.75)]


def test_a_trial_that_was_done_again_while_nobody_looked_is_told_again(
    tmp_path: Path, trials: list[RunFolder]
) -> None:
    """It said as many reports as before and ended alike: only what they say is another."""
    tell(trials[0], 0.5)
    trials[0].end(Outcome(state="finished"))
    assert follow_trials("tensorboard", tmp_path / "search", steps())

    def again(*values: float) -> None:
        trials[0].begin()
        (trials[0].folder / history.FILE).unlink()
        tell(trials[0], *values)
        trials[0].end(Outcome(state="finished"))

    again(0.75)
    assert follow_trials("tensorboard", tmp_path / "search", steps())
    again(0.125, 0.25)
    assert follow_trials("tensorboard", tmp_path / "search", steps(lambda: None))
    assert scalars(trials[0], "ndcg@10") == [(1, 0.5), (1, 0.75), (1, 0.125), (2, 0.25)]
    assert follow_trials("tensorboard", tmp_path / "search", steps())
    assert len(scalars(trials[0], "ndcg@10")) == 4, "what is known is not told again"


def test_a_trial_whose_end_is_forgotten_while_it_is_told_is_not_done_with(
    tmp_path: Path, trials: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a search is started again just then: its trial goes on."""
    tell(trials[0], 0.5)
    trials[0].end(Outcome(state="finished"))
    told = TensorBoard.finish

    def forgotten(self: TensorBoard, outcome: Outcome) -> None:
        told(self, outcome)
        if self.run.folder == trials[0].folder and outcome.state == "finished":
            monkeypatch.undo()
            trials[0].begin()

    monkeypatch.setattr(TensorBoard, "finish", forgotten)

    def goes_on() -> None:
        tell(trials[0], 0.75, first_epoch=2)
        trials[0].end(Outcome(state="finished"))

    assert follow_trials("tensorboard", tmp_path / "search", steps(lambda: None, goes_on, lambda: None))
    assert scalars(trials[0], "ndcg@10") == [(1, 0.5), (2, 0.75)]


def test_a_tracker_killed_while_it_opens_makes_nothing_twice(
    tmp_path: Path, trials: list[RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlflow").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    tell(trials[0], 0.5)
    trials[0].end(Outcome(state="finished"))

    class Killed(BaseException):
        """What no handler of errors stops."""

    def killed(*_: object, **__: object) -> None:
        raise Killed

    for place in ("set_terminated", "log_batch", "update_run"):  # after the parent, the run, its params
        with monkeypatch.context() as patched:
            patched.setattr(MlflowClient, place, killed)
            with pytest.raises(Killed):
                follow_trials("mlflow", tmp_path / "search", steps())
    assert follow_trials("mlflow", tmp_path / "search", steps())
    client = MlflowClient()
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    names = {run.info.run_name: run for run in runs}
    assert sorted(run.info.run_name for run in runs) == ["search", "search-0000", "search-0001"]
    assert names["search"].info.status == names["search-0000"].info.status == "FINISHED"
    assert names["search-0000"].data.params["optim.lr"] == "0.0"
    assert names["search-0000"].data.metrics["ndcg_at_10"] == 0.5


def test_only_known_and_installed_trackers_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no tracker 'wandbs', did you mean 'wandb'"):
        require(["wandbs"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"'mlflow' needs mlflow: pip install 'recray\[mlflow\]'"):
        require(["mlflow"])


def test_people_are_told_of_start_best_and_end_with_a_picture(
    run: RunFolder, posted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert notices() == ("notices",)
    monkeypatch.setattr(notices_module, "BEST_EVERY_S", 0.0)

    def end() -> None:
        plot_curves({"run-1": [run.reports()]}, run.folder / "curves.png", "ndcg@10")
        run.end(Outcome(state="finished", metrics={"ndcg@10": 0.625}, reference="tiny version 3 (1a2b)"))

    worse = lambda: tell(run, 0.25, first_epoch=2)  # noqa: E731
    assert follow("notices", run, steps(lambda: tell(run, 0.5), worse, end))
    titles = [notice["title"] for notice in posted]
    assert titles == [
        "run-1: started",
        "run-1: ndcg@10 0.5000 in epoch 1, the best so far",
        "run-1: finished",
    ]
    assert posted[0]["message"].splitlines() == [
        "what         two_tower-tiny", "loop.metric  ndcg@10", "optim.lr     0.01"
    ]  # fmt: skip
    assert posted[2]["message"].splitlines() == [
        "published  tiny version 3 (1a2b)", "ndcg@10    0.625", "epoch      2"
    ]  # fmt: skip
    assert posted[1]["message"].splitlines() == [
        "epoch       1", "ndcg@10     0.5", "train_loss  4.5", "grad_norm   1"
    ]  # fmt: skip
    assert [file["filename"] for file in posted[2]["attachments"]] == ["curves.png"]
    assert "planted-password" not in json.dumps(posted)


def test_the_best_so_far_is_told_once_a_minute_at_most_and_failures_with_their_last_lines(
    run: RunFolder, posted: list[dict[str, Any]]
) -> None:
    better = lambda: tell(run, 0.75, first_epoch=2)  # noqa: E731
    fails = lambda: run.end(Outcome(state="failed", said="TrainingError: loss is nan at step 3"))  # noqa: E731
    assert follow("notices", run, steps(lambda: tell(run, 0.5), better, fails))
    assert [notice["title"] for notice in posted] == ["run-1: started", "run-1: failed"]
    assert posted[1]["type"] == "failure"
    assert posted[1]["message"].endswith("\n\nTrainingError: loss is nan at step 3")


def test_a_webhook_that_is_gone_is_said_once_without_its_address(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("recray"), "propagate", True)
    monkeypatch.setenv("RECRAY_NOTIFY", "json://user:planted-password@127.0.0.1:9/hook?retry=0&wait=0")
    assert follow("notices", run, steps(lambda: None))
    ours = [record.message for record in caplog.records if record.name.startswith("recray")]
    assert ours == [
        "run run-1: a notice to JSON could not be sent (started): it is lost, later ones are tried"
    ]  # fmt: skip


def test_an_address_that_nobody_knows_is_named_by_its_place_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECRAY_NOTIFY", "json://127.0.0.1:9 nobody://planted-password")
    with pytest.raises(
        ConfigError, match="^address 2 of RECRAY_NOTIFY is none that Apprise knows"
    ) as refused:
        notices()
    assert "planted" not in str(refused.value)


@pytest.mark.slow
def test_a_process_by_hand_sends_what_is_missing(run: RunFolder) -> None:
    tell(run, 0.5, 0.25)
    run.end(Outcome(state="finished"))
    command = [sys.executable, "-m", "recray.track.follow", "tensorboard", str(run.folder)]
    (in_the_way := run.folder / "tensorboard").touch()
    failed = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "run run-1: tensorboard fails (FileExistsError: " in failed.stderr
    in_the_way.unlink()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert scalars(run, "ndcg@10") == [(1, 0.5), (2, 0.25)]
