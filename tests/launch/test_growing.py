"""What an autoscaler may bring is asked for and waited for; what it may not is said at once."""

from pathlib import Path

import pytest
import yaml

from recray.launch import cluster
from recray.train.context import LaunchConfig


@pytest.mark.parametrize(
    ("workers", "cpus", "gpu", "have", "grows"),
    [(3, 1, False, 1, True), (4, 4, True, 0, True), (5, 4, True, 0, False), (1, 9, False, 0, False)],
)
def test_what_ray_up_may_start(
    workers: int,
    cpus: int,
    gpu: bool,
    have: int,
    grows: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two nodes of 8 cores and 2 GPUs at most, although the type allows five."""
    launched = tmp_path / "ray_bootstrap_config.yaml"
    launch = LaunchConfig(workers=workers, cpus_per_worker=cpus, gpu=gpu)
    monkeypatch.setattr(cluster, "LAUNCHED", launched)
    assert not cluster._grows(launch, have)
    kinds = {
        "head": {"resources": {"CPU": 1}, "max_workers": 0},
        "gpu": {"resources": {"CPU": 8, "GPU": 2}, "max_workers": 5},
    }
    launched.write_text(yaml.safe_dump({"max_workers": 2, "available_node_types": kinds}))
    assert cluster._grows(launch, have) == grows
    assert not cluster._grows(LaunchConfig(workers=workers, labels=("zone=a",)), have)
