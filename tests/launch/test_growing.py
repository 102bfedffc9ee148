"""What an autoscaler may bring is asked for and waited for; what it may not is said at once."""

from pathlib import Path

import pytest
import yaml

from recray.launch import cluster
from recray.train.context import LaunchConfig


@pytest.mark.parametrize(
    ("cpus", "gpu", "workers"), [(1, False, 16), (4, False, 4), (1, True, 4), (4, True, 4), (9, False, 0)]
)
def test_what_ray_up_may_start(
    cpus: int, gpu: bool, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes of 8 cores and 2 GPUs at most, although the type allows five."""
    launched = tmp_path / "ray_bootstrap_config.yaml"
    launch = LaunchConfig(cpus_per_worker=cpus, gpu=gpu)
    monkeypatch.setattr(cluster, "LAUNCHED", launched)
    assert cluster.may_come(launch) == 0
    kinds = {
        "head": {"resources": {"CPU": 1}, "max_workers": 0},
        "gpu": {"resources": {"CPU": 8, "GPU": 2}, "max_workers": 5},
    }
    launched.write_text(yaml.safe_dump({"max_workers": 2, "available_node_types": kinds}))
    assert cluster.may_come(launch) == workers
    assert cluster.may_come(LaunchConfig(labels=("zone=a",))) == 0
