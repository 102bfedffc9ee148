"""A cluster from `ray up` to `ray down`: Ray's own commands, real sshd and raylets, and a fake of RunPod."""

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.nodes import why_not
from tests.cluster.fake.laptop import Laptop, laptop
from tests.cluster.fake.service import KEY, Service

pytestmark = [pytest.mark.ray, pytest.mark.slow]
SBIN = f"{os.environ['PATH']}:/usr/sbin"
JOB = """
import os, time, ray
ray.init()
@ray.remote(num_cpus=1, num_gpus=1)
def where():
    while sum(node["Alive"] for node in ray.nodes()) < 2:
        time.sleep(1)
    time.sleep(3)
    return os.uname().nodename
print("ran on", sorted(set(ray.get([where.remote() for _ in range(2)]))))
"""


@pytest.fixture
def world() -> Iterator[tuple[Laptop, Service]]:
    if reason := why_not() or next(
        (f"no {x}" for x in ("rsync", "ssh", "sshd") if not shutil.which(x, path=SBIN)), ""
    ):
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="pods-"))  # short: Ray's sockets lie below it
    with laptop(folder, "10.7.0") as made:
        yield made
    shutil.rmtree(folder, ignore_errors=True)


def wait(until: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_from_up_to_down(world: tuple[Laptop, Service]) -> None:
    mine, service = world
    mine.write()
    status, said = mine.run("ray", "up", "-y", "cluster.yaml")
    assert status == 0, said
    assert "at most 1.11; it ends after 8 h or 20.00 $" in said
    assert [pod.body["gpu"]["id"] for pod in service.there()] == ["NVIDIA RTX A4000"]
    [head] = service.there()

    status, said = mine.run("ray", "attach", "cluster.yaml", typed="hostname; exit\n")
    assert head.id in said, said
    _, processes = mine.run("ray", "exec", "cluster.yaml", "ps -ef")
    processes += subprocess.run(["ps", "-ef", "-ww"], capture_output=True, text=True).stdout
    _dashboard(mine)

    (mine.work / "job.py").write_text(JOB)
    status, said = mine.run("ray", "submit", "cluster.yaml", "job.py")
    assert status == 0, said
    workers = [pod for pod in service.pods.values() if pod is not head]
    assert workers
    assert any(pod.id in said for pod in workers), said
    wait(lambda: service.there() == [head])  # idle: down again

    status, told = mine.run("recray", "cluster", "status")
    assert all(pod.body["name"] in told for pod in service.pods.values()), told
    status, said = mine.run("ray", "down", "-y", "cluster.yaml")
    assert status == 0, said
    assert service.there() == []
    status, said = mine.run("recray", "cluster", "status", "--json")
    spent = sum(row["dollars"] for row in json.loads(said[said.index("[") :]))
    assert spent == pytest.approx(service.charged(), abs=0.0005)  # four seconds of a pod
    _require_no_secret(mine, service, processes)


def test_an_instant_cluster(world: tuple[Laptop, Service]) -> None:
    mine, service = world
    asked = ["--name", "big", "--gpu", "NVIDIA H100", "--gpus", "1", "--dollars", "100", "--hours", "2"]
    status, said = mine.run("recray", "cluster", "up", "--instant", *asked, "--yes")
    assert status == 0, said
    assert "5.98 $/h; it costs at most 11.96 $" in said
    assert len(service.there()) == 2
    tunnel = mine.start(
        "recray", "cluster", "tunnel", "--name", "big", "--dashboard", "18265", "--serve", "18000"
    )
    try:
        _answers(mine, "http://127.0.0.1:18265/api/version")
        job = "import ray; ray.init(); print('nodes', sum(n['Alive'] for n in ray.nodes()))"
        (mine.work / "job.py").write_text(job)
        address = {"RAY_ADDRESS": "http://127.0.0.1:18265"}
        words = ["ray", "job", "submit", "--working-dir", ".", "--", "python", "job.py"]
        wait(lambda: "nodes 2" in mine.run(*words, env=address)[1])
    finally:
        os.killpg(tunnel.pid, 9)
        tunnel.wait()
    status, said = mine.run("recray", "cluster", "down", "--name", "big")
    assert status == 0, said
    assert (service.there(), service.clusters) == ([], {})


def _dashboard(mine: Laptop) -> None:
    """Through the tunnel, with Ray's token."""
    forward = mine.start("ray", "dashboard", "cluster.yaml", "--port", "18265")
    try:
        _answers(mine, "http://127.0.0.1:18265/api/version")
    finally:
        os.killpg(forward.pid, 9)
        forward.wait()


def _answers(mine: Laptop, url: str) -> None:
    token = (mine.home / ".ray" / "auth_token").read_text()
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})

    def answers() -> bool:
        try:
            return b"ray_version" in urllib.request.urlopen(asked, timeout=5).read()
        except OSError:
            return False

    wait(answers, 60)


def _require_no_secret(mine: Laptop, service: Service, processes: str) -> None:
    """Twenty were in the laptop's environment, three of them meant for the head."""
    values = {**mine.planted, "RUNPOD_API_KEY": KEY}
    assert len(values) == 20
    calls = "\n".join(f"{call.path} {call.body} {call.headers}" for call in service.calls)
    for name, value in values.items():
        assert value not in calls, f"{name} is in a request"
        assert value not in processes, f"{name} is in the list of processes"
    for path in mine.home.parent.rglob("*"):
        if path.is_file() and not path.is_symlink():
            text = path.read_bytes()
            for name, value in values.items():
                assert value.encode() not in text, f"{name} is in {path}"
