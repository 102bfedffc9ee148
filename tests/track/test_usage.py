"""What a run takes is measured beside its reports, and goes on where an interrupted run was."""

from pathlib import Path

import pytest
import torch

from recray.config import ConfigError
from recray.launch import launch
from recray.track import history
from recray.track.usage import Usage
from recray.train.context import LaunchConfig
from tests.launch.test_launch import Run, train

CPU = torch.device("cpu")


def test_time_and_cost_go_on_where_the_interrupted_run_was(tmp_path: Path) -> None:
    history.append(tmp_path, {"epoch": 1.0, "wall_s": 7200.0})
    usage = Usage(tmp_path, CPU, price_per_hour=3.0)
    usage.trained(1000, 0.5)
    found = usage.take()
    assert 7200 <= found["wall_s"] < 7260
    assert found["dollars"] == pytest.approx(3 * found["wall_s"] / 3600, abs=1e-5)
    assert found["samples_per_s"] == 2000
    assert found["peak_memory_gb"] > 0.01
    assert "dollars" not in Usage(tmp_path, CPU).take()


def test_every_report_of_a_launched_run_says_what_it_took() -> None:
    done = launch(train, Run(epochs=2), LaunchConfig(where="local", run="measured", price_per_hour=1.0), "t")
    reports = [each for each in done.history() if "ndcg@10" in each]
    assert len(reports) == 2
    assert all(each["samples_per_s"] > 0 and each["dollars"] > 0 for each in reports)
    assert reports[0]["wall_s"] <= reports[1]["wall_s"]


def test_trackers_and_price_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECRAY_TRACK", "tensorboard, mlflow")
    monkeypatch.setenv("RECRAY_PRICE_PER_HOUR", "2.5")
    assert LaunchConfig().track == ("tensorboard", "mlflow")
    assert LaunchConfig().price_per_hour == 2.5
    monkeypatch.setenv("RECRAY_PRICE_PER_HOUR", "cheap")
    with pytest.raises(ConfigError, match="RECRAY_PRICE_PER_HOUR is 'cheap': give dollars an hour"):
        LaunchConfig()
    monkeypatch.setenv("RECRAY_PRICE_PER_HOUR", "0")
    with pytest.raises(ConfigError, match="no tracker 'tensorbord', did you mean 'tensorboard'"):
        LaunchConfig(track=("tensorbord",))
    with pytest.raises(ConfigError, match=r"launch.track_wait_s must be a number from 0 on, got -1"):
        LaunchConfig(track_wait_s=-1)
