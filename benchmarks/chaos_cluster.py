"""What a training survives when it is not a worker that fails: the head, the disk, the storage, a clock; and
what a notice of preemption is good for.

python -m benchmarks.chaos_cluster [CASE ...]

Each case has raylets of its own (``benchmarks.nodes``); the final weights are compared with those of a run to
which nothing happened, bit for bit. ``lost_steps`` were done twice. The last line is JSON.
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmarks.chaos import LAUNCH, Run
from benchmarks.faults import mount
from benchmarks.nodes import Nodes, nodes, why_not

STEP_S, HOME_MIB = 0.25, 64
SLOW = {"epochs": 12, "step_s": STEP_S}
FAKETIME = os.environ.get("FAKETIME_LIB", "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")  # Debian's
NOTHING: Mapping[str, str] = MappingProxyType({})


class Case(NamedTuple):
    """What happens once two checkpoints are there; it ends when the run has ended well."""

    happens: Callable[["World"], None]
    cpus: Sequence[int] = (0, 1, 1)
    head: Mapping[str, str] = NOTHING  # environment of its raylet
    raylets: Mapping[str, str] = NOTHING  # and of the others
    workers: int = 2
    driver: int = 0  # number of the node that it is on


class World(NamedTuple):
    """One case under way."""

    cluster: Nodes
    run: Run
    home: Path
    case: Case


def head_dies(world: World) -> None:
    """And is started again after ten seconds; the raylets too, where they have ended."""
    cluster, case = world.cluster, world.case
    cluster.head.kill()
    time.sleep(10)
    cluster.again(cluster.head, cpus=case.cpus[0], env=case.head)
    if case.head:  # it knows its cluster again
        return
    world.run.process.wait(240)
    for node in list(cluster.nodes.values())[1:]:
        node.kill()
        cluster.again(node, env=case.raylets)
    world.run.node = cluster.nodes[world.run.node.name]
    world.run.again()


def one_of_three_dies(world: World) -> None:
    world.run.other().kill()
    world.cluster.add(cpus=1)


def disk_is_full(world: World) -> None:
    """Until the run has ended of it."""
    filler = world.home / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass
    world.run.process.wait(240)
    filler.unlink()
    world.run.again()


def storage_is_away(world: World) -> None:
    """Not mounted on any node, until the run has ended of it."""
    for node in world.cluster.nodes.values():
        node.run("mount", "-t", "tmpfs", "-o", "ro", "none", str(world.home))
    world.run.process.wait(240)
    for node in world.cluster.nodes.values():
        node.run("umount", str(world.home))
    world.run.again()


def clock_is_off(world: World) -> None:
    """From the start; nothing more happens."""


def node_is_preempted(world: World) -> None:
    """Its end is announced 20 s before; another comes."""
    node = world.run.other()
    address = world.run.env["RAY_ADDRESS"]
    asked = (
        f"import ray; ray.init({address!r}); print(*(n['NodeID'] + '@' + n['NodeName'] for n in ray.nodes()))"
    )
    _, said = world.cluster.head.run("python", "-c", asked)
    id = re.findall(rf"(\w+)@{re.escape(node.address)}\b", said)[-1]
    words = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "planted"]
    left = ["--deadline-remaining-seconds", "20", "--address", address]
    status, told = world.cluster.head.run("ray", "drain-node", "--node-id", id, *words, *left)
    if status:
        raise RuntimeError(told)
    time.sleep(20)
    node.kill()
    world.cluster.add(cpus=1)


ROCKS = {"RAY_gcs_storage": "rocksdb"}
STAY = {"RAY_gcs_rpc_server_reconnect_timeout_s": "300"}
BEHIND = {"LD_PRELOAD": FAKETIME, "FAKETIME": "-900s", "DONT_FAKE_MONOTONIC": "1"}
CASES = {
    "head": Case(head_dies, driver=1),
    "head-rocksdb": Case(head_dies, head={**ROCKS, **STAY}, raylets=STAY, driver=1),
    "three": Case(one_of_three_dies, cpus=(1, 1, 1), workers=3),
    "disk": Case(disk_is_full, cpus=(1, 1)),
    "storage": Case(storage_is_away, cpus=(1, 1)),
    "clock": Case(clock_is_off, cpus=(1, 1), raylets=BEHIND),
    "preemption": Case(node_is_preempted, cpus=(1, 1)),
}


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A home that can be filled."""
    (home := folder / "home").mkdir()
    mount("-t", "tmpfs", "-o", f"size={HOME_MIB}m", "none", str(home))
    try:
        yield home
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=False)


def checkpoints(home: Path, name: str) -> list[str]:
    return [path.name for path in (home / "runs" / name).glob("checkpoint_*")]


def measured(folder: Path, key: str) -> dict[str, Any]:
    case = CASES[key]
    subnet = f"10.{random.randrange(16, 250)}.{random.randrange(250)}"
    with small_disk(folder) as home, nodes([], subnet=subnet, folder=folder / "nodes") as cluster:
        head = {**case.head, **({"RAY_gcs_storage_path": str(folder / "gcs")} if case.head else {})}
        case = case._replace(head=head)
        for number, cpus in enumerate(case.cpus):
            cluster.add(cpus=cpus, env=case.raylets if number else head)
        launch = {**LAUNCH, "workers": case.workers}
        whole = Run(cluster, folder, f"{key}-whole", launch, {"epochs": SLOW["epochs"]})
        if whole.process.wait(300):
            raise SystemExit(whole.said()[-3000:])
        node = list(cluster.nodes.values())[case.driver]
        run = Run(cluster, folder, key, launch, SLOW, node)
        run.wait_for(lambda: len(checkpoints(home, key)) >= 2)
        began = time.monotonic()
        case.happens(World(cluster, run, home, case))
        went_on = -1.0
        if case.happens is not clock_is_off:
            try:
                run.wait_for(lambda: "resumed at" in run.said() or bool(run.result()))
                went_on = time.monotonic() - began
            except TimeoutError:
                pass
        status, said, result = run.process.wait(300), run.said(), run.result()
        equal = status == 0 and result.get("weights") == whole.result()["weights"]
        row = {
            "case": key,
            "status": status,
            "seconds_to_go_on": round(went_on, 1),
            "equal": equal,
            "resumed": re.findall(r"resumed at (epoch \d+, step \d+)", said),
            "half_written": [str(p.relative_to(home)) for p in home.rglob("*") if ".tmp" in p.name],
            "tracebacks": said.count("Traceback"),
            "said": run.words_said()[:6],
        }
        return row if equal else {**row, "log": said[-3000:]}


def main(keys: list[str]) -> None:
    if reason := why_not():
        raise SystemExit(reason)
    rows: list[dict[str, Any]] = []
    for key in keys or list(CASES):
        folder = Path(tempfile.mkdtemp(prefix=f"chaos-{key}-"))
        rows.append(measured(folder, key))
        print(json.dumps(rows[-1]), flush=True)
    print(json.dumps({"cases": len(rows), "equal": sum(bool(row["equal"]) for row in rows)}))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(sys.argv[1:])
