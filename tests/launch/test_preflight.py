"""Planted misconfigurations of a cluster of real raylets: each is found, and said in one sentence."""

import json
import random
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

import recray
from benchmarks.nodes import PORT, Node, Nodes, nodes, why_not
from recray import paths
from recray.config import ConfigError
from recray.launch import cluster as cluster_room
from recray.launch import preflight
from recray.launch.cluster import Node as RayNode
from recray.launch.probe import Facts
from recray.train.context import LaunchConfig


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    if reason := why_not():
        pytest.skip(reason)
    with nodes([1, 1, 1], subnet=f"10.{random.randrange(16, 250)}.{random.randrange(250)}") as made:
        yield made


def doctor(cluster: Nodes, *words: str, env: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """What ``recray doctor --cluster`` finds, asked on the head."""
    there = {"RAY_ADDRESS": f"{cluster.head.address}:{PORT}", "RECRAY_HOME": str(paths.home()), **(env or {})}
    program = "import sys; from recray.cli import main; sys.exit(main(sys.argv[1:]))"
    asked = ("python", "-c", program, "doctor", "--cluster", "--json", *words)
    status, said = cluster.head.run(*asked, env=there)
    found: list[dict[str, Any]] = json.loads(said[said.index("[\n") : said.rindex("]") + 1])
    assert status == (2 if any(one["status"] == "missing" for one in found) else 0), said
    return found


def plant(node: Node, over: Path, content: Path) -> None:
    """On this node alone, something else lies where ``over`` lies."""
    status, said = node.run("mount", "--bind", str(content), str(over))
    assert status == 0, said


def planted_file(node: Node, over: Path, content: str, folder: Path) -> None:
    file = folder / f"{len(list(folder.iterdir()))}-{over.name}"
    file.write_text(content)
    plant(node, over, file)


@pytest.mark.ray
@pytest.mark.slow
def test_what_is_wrong_on_a_node_is_named(cluster: Nodes, tmp_path: Path) -> None:
    head, strange, locked = cluster.nodes.values()
    right = doctor(cluster, "--workers", "3")
    assert {found["status"] for found in right} == {"ok"}, right
    assert [found["check"] for found in right] == [
        *("room", f"node {head.address}", f"node {strange.address}", f"node {locked.address}"),
        *("network", "preflight"),
    ]

    home = paths.home()
    (tmp_path / "other").mkdir()
    (tmp_path / "planted").mkdir()
    plant(strange, home, tmp_path / "other")
    torch = Path(str(distribution("torch").locate_file(""))) / f"{distribution('torch')._path.name}"  # type: ignore[attr-defined]
    planted_file(
        strange,
        torch / "METADATA",
        "Metadata-Version: 2.1\nName: torch\nVersion: 2.12.0\n",
        tmp_path / "planted",
    )
    code = Path(str(recray.__file__)).parent / "batch.py"
    planted_file(strange, code, code.read_text() + "\n# later\n", tmp_path / "planted")
    (tmp_path / "temporary").mkdir()
    strange.run("mount", "-t", "tmpfs", "-o", "size=32m", "none", str(tmp_path / "temporary"))
    strange.run("ip", "route", "add", "blackhole", f"{locked.address}/32")
    plant(locked, home, home)
    status, said = locked.run("mount", "-o", "remount,ro,bind", str(home))
    assert status == 0, said

    torch_here = distribution("torch").version.partition("+")[0]
    began = time.monotonic()
    found = {one["detail"] for one in doctor(cluster, "--workers", "9") if one["status"] == "missing"}
    print(f"asked in {time.monotonic() - began:.1f} s")
    a, b = f"node {strange.address}", f"node {locked.address}"
    assert {text.replace(str(home), "HOME").partition(" (O")[0] for text in found} == {
        "9 workers with 1 CPU each do not fit on the nodes of the Ray cluster: 3 would "
        f"({head.address}: 1 CPU; {strange.address}: 1 CPU; {locked.address}: 1 CPU)",
        f"{a} does not see what was written into RECRAY_HOME (HOME: No such file or directory): it must be "
        "one storage for all nodes",
        f"{b} cannot write into RECRAY_HOME (HOME: Read-only file system)",
        f"{a} has torch 2.12.0, here it is {torch_here}: install the same",
        f"{a} has other code of recray than here: submit with --working-dir, or install the same there",
        f"{a} cannot reach {b} (Invalid argument): workers need all ports between all nodes",
        f"{b} cannot reach {a} (timed out): workers need all ports between all nodes",
    }


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_named(cluster: Nodes) -> None:
    nobody, stranger = {"RAY_ADDRESS": f"{cluster.head.address}:1"}, {"RAY_AUTH_TOKEN": "0" * 64}
    for env, expected, words in (
        (nobody, 75, "unavailable: no Ray cluster at"),
        (stranger, 2, "does not let this process in ("),
    ):
        program = "import sys; from recray.cli import main; sys.exit(main(sys.argv[1:]))"
        there = {"RAY_ADDRESS": f"{cluster.head.address}:{PORT}", **env}
        status, said = cluster.head.run("python", "-c", program, "doctor", "--cluster", env=there)
        assert status == expected, said
        assert words in said
        assert "Traceback" not in said


FINE = Facts(
    versions=dict.fromkeys(("python", *preflight.PACKAGES), "1"),
    code="abc",
    marker="",
    writes="",
    free_home=2**40,
    free_temp=2**40,
    interface="eth0",
    clock=1000.0,
    gpus=1,
    took_s=0.1,
)


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ({"gpus": 0}, "node b promises 1 GPU, and PyTorch there sees 0"),
        ({"clock": 100.0}, "the clock of node b is -900 s off: times of reports and events will be wrong"),
        ({"clock": 1200.0}, "the clock of node b is +199 s off: times of reports and events will be wrong"),
        ({"free_temp": 2**25}, "node b has 32 MiB free in its temporary folder: checkpoints need more"),
        ({"free_home": 2**25}, "node b has 32 MiB free in RECRAY_HOME: checkpoints need more"),
        ({"code": ""}, "node b has no recray: submit with --working-dir, or install the same there"),
        (
            {"interface": ""},
            "node b has no network interface with the address that Ray knows it by: start its raylet with "
            "--node-ip-address",
        ),
        (
            {"versions": {**FINE.versions, "torchrec": "2"}},
            "node b has torchrec 2, here it is 1: install the same",
        ),
        (
            {"versions": {**FINE.versions, "torch": "2+cpu"}},
            "node b has torch 2, here it is 1: install the same",
        ),
    ],
)
def test_one_fault_of_a_node_is_one_sentence(tmp_path: Path, planted: dict[str, Any], said: str) -> None:
    there = [RayNode(name, name, {"CPU": 1, "GPU": 1}, {}) for name in "ab"]
    (tmp_path / ".preflight").mkdir()
    look = preflight._Preflight(there, LaunchConfig(gpu=True), tmp_path / ".preflight")
    look.began, look.answered = 1000.0, 1001.0
    fine = FINE._replace(marker=look.content)
    look.facts = {"a": fine, "b": fine._replace(**planted)}
    assert [found.status for found in look._compared(there[0], look.facts["a"])] == ["ok"]
    assert [found.detail for found in look._compared(there[1], look.facts["b"])] == [said]


def test_builds_of_one_version_are_one(tmp_path: Path) -> None:
    there = [RayNode(name, name, {"CPU": 1}, {}) for name in "ab"]
    (tmp_path / ".preflight").mkdir()
    look = preflight._Preflight(there, LaunchConfig(), tmp_path / ".preflight")
    builds = ("2.13.0+cpu", "2.13.0+cu130")
    for node, torch in zip(there, builds, strict=True):
        look.facts[node.id] = FINE._replace(versions={**FINE.versions, "torch": torch}, code="abc")
    assert not list(look._software(there[1], look.facts["b"]))


def test_room_is_counted_node_by_node(monkeypatch: pytest.MonkeyPatch) -> None:
    def alive(*nodes: RayNode) -> None:
        monkeypatch.setattr(cluster_room, "nodes", lambda: list(nodes))

    two = [
        RayNode(str(i), str(i), {"CPU": 3, "memory": 4 * 2**30, "GPU": i}, {"zone": str(i)}) for i in (0, 1)
    ]
    alive(*two)
    room = cluster_room.room
    assert room(LaunchConfig()) == 6
    assert room(LaunchConfig(cpus_per_worker=2)) == 2
    assert room(LaunchConfig(gpu=True)) == 1
    assert room(LaunchConfig(memory_gib=3)) == 2
    assert room(LaunchConfig(labels=("zone=1",))) == 3
    assert room(LaunchConfig(placement="STRICT_PACK")) == 3
    assert room(LaunchConfig(placement="STRICT_SPREAD")) == 2
    assert room(LaunchConfig(accelerator="H100")) == 0
    assert room(LaunchConfig(workers=1, gpu=True, gpu_share=0.25)) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gpu_share": 2.0}, "gpu_share is a part of one GPU"),
        ({"gpu_share": 0.5, "workers": 2}, "NCCL joins whole GPUs"),
        ({"workers": 2, "min_workers": 3}, r"from 0 to launch.workers, 2; got 3"),
        ({"labels": ("spot",)}, "labels are key=value, such as market-type=spot; got 'spot'"),
        ({"wait_s": -1.0}, "launch.wait_s must be a number from 0 on"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        LaunchConfig(**options)
