"""Two real raylets, each in a network and a process table of its own."""

import json
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.nodes import PORT, Nodes, nodes, why_not
from recray import paths
from recray.bundles.promotion import promote
from recray.pipelines.train import train
from recray.recipes import RECIPES
from recray.serve.http.haproxy import free_port
from recray.store import Store
from recray.train.context import LaunchConfig

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    if reason := why_not():
        pytest.skip(reason)
    with nodes([1, 1], subnet=f"10.{random.randrange(16, 250)}.{random.randrange(250)}") as made:
        yield made


class Driver:
    """``tests.launch.nodes_work`` on the head."""

    def __init__(self, cluster: Nodes, launch: dict[str, Any], work: dict[str, Any]) -> None:
        words = ["python", "-m", "tests.launch.nodes_work", json.dumps(launch), json.dumps(work)]
        env = {"RAY_ADDRESS": f"{cluster.head.address}:{PORT}", "RECRAY_HOME": str(paths.home())}
        env["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "5"
        self.process: subprocess.Popen[str] = cluster.head.start(*words, env=env)

    def ended(self, timeout: float = 240) -> tuple[int, str]:
        said, _ = self.process.communicate(timeout=timeout)
        return self.process.returncode, said


def result(said: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    return found


def wait_for(flag: Path, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not flag.exists():
        assert time.monotonic() < deadline, f"{flag} never came"
        time.sleep(0.1)


def test_a_lost_node_is_waited_for_then_named_and_the_run_goes_on_when_it_is_back(
    cluster: Nodes, tmp_path: Path
) -> None:
    status, said = Driver(cluster, {"run": "nodes-whole"}, {}).ended()
    assert status == 0, said
    whole = result(said)
    assert whole["workers"] == [2, 2, 2]

    launch, work = {"run": "nodes-lost", "wait_s": 5}, {"hold_at": 16, "flag": str(tmp_path / "held")}
    driver = Driver(cluster, launch, work)
    wait_for(tmp_path / "held")
    lost = cluster.nodes["n1"]
    lost.kill()
    status, said = driver.ended()
    assert status == 75, said
    assert f"node {lost.address} is gone; 1 left" in said
    ways = "is lost with its node {0}|on node {0} cannot be reached|lost its connection to node {0}"
    named = rf"worker \d ({ways.format(lost.address)}); it goes on from its last checkpoint"
    assert re.search(named, said), said
    assert "unavailable: 2 workers with 1 CPU each do not fit" in said
    assert "same --launch.run; it continues from its last checkpoint" in said
    assert "Traceback" not in said

    cluster.add(cpus=1)
    status, said = Driver(cluster, launch, work).ended()
    assert status == 0, said
    assert "resumed at epoch" in said
    assert result(said) == whole


def test_a_worker_stands_on_one_node(cluster: Nodes) -> None:
    status, said = Driver(cluster, {"workers": 1, "cpus_per_worker": 2, "run": "nodes-split"}, {}).ended()
    assert status == 2
    assert "1 workers with 2 CPU each do not fit on the nodes of the Ray cluster: 0 would (" in said
    assert said.count("1 CPU") == 2


def test_an_application_is_answered_for_by_every_node(cluster: Nodes) -> None:
    recipe = RECIPES["popularity"]
    bundle = train(recipe, recipe.default("synthetic"), LaunchConfig(where="local"), Store()).bundle
    promote(Store(), bundle.manifest.name, bundle.manifest.version)
    port = free_port()
    words = [f"--service.application={bundle.manifest.name}", "--placement.replicas=2", f"--port={port}"]
    env = {"RAY_ADDRESS": f"{cluster.head.address}:{PORT}", "RECRAY_HOME": str(paths.home())}
    server = cluster.head.start("python", "jobs/serve.py", *words, env=env, log="serve.log")
    try:
        deadline = time.monotonic() + 180
        while "serving at" not in (said := (cluster.head.folder / "serve.log").read_text()):
            assert server.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.5)
        assert f"serving at http://{cluster.head.address}:{port}" in said
        for node in cluster.nodes.values():
            if node.alive():
                answer = httpx.post(
                    f"http://{node.address}:{port}/recommend", json={"user_id": "1", "k": 3}, timeout=30
                )
                assert answer.status_code == 200, answer.text
                assert len(answer.json()["items"]) == 3
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
