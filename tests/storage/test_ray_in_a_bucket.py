"""Ray Train with its checkpoints in a bucket: a worker that is killed goes on from the last of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from recray import paths
from recray.launch import RunResult, launch
from recray.track.record import RunFolder
from recray.train.context import LaunchConfig
from tests.launch.test_launch import Run, assert_equal_weights, train
from tests.storage.conftest import Machine

# A Ray of its own, so that its workers have the home of this test.
ON_RAY = """
import sys
import ray
from recray.launch import launch
from recray.train.context import LaunchConfig
from tests.launch.test_launch import Run, train

if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    deadly = Run(kill_at=16, flag=sys.argv[1])
    print(launch(train, deadly, LaunchConfig(workers=1, run="on-ray"), "t").checkpoint)
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_worker_goes_on_from_the_bucket(machine: Machine, tmp_path: Path) -> None:
    whole = launch(train, Run(), LaunchConfig(where="local", run="whole"), "t")
    machine("ray")
    done = subprocess.run(
        [sys.executable, "-c", ON_RAY, str(tmp_path / "died")], stdout=subprocess.PIPE, text=True, check=True
    )
    survived = Path(done.stdout.splitlines()[-1])
    assert (tmp_path / "died").exists()
    assert survived.is_relative_to(paths.home())  # fetched
    machine("reads")
    run = RunFolder(paths.runs_dir() / "on-ray")
    assert run.has_checkpoints()
    assert run.reports()[-1]["epoch"] == 3
    assert_equal_weights(whole, RunResult("on-ray", survived, {}))
