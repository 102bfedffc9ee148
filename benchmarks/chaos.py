"""What a training on several nodes survives: what is lost, what is said, how long until it goes on.

python -m benchmarks.chaos [CASE ...]      # all of them are kept in results/chaos.json

Each case is a run of two workers on real raylets (``benchmarks.nodes``), to which something happens; its
final weights are compared with those of a run that nothing happened to, bit for bit. ``lost_steps`` are steps
done twice. The last line is JSON.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmarks.chaos_driver import Driver
from benchmarks.nodes import Node, Nodes, nodes, why_not

RESULT = Path(__file__).parent / "results" / "chaos.json"
LAUNCH = {"workers": 2, "wait_s": 120, "max_failures": 3}
HOLD_AT = 16


class Case(NamedTuple):
    """What happens when the last worker is held in the middle of an epoch, and what is promised then."""

    what: str
    happens: Callable[["Run"], None]
    launch: Mapping[str, Any] = MappingProxyType({})
    work: Mapping[str, Any] = MappingProxyType({})
    equal: bool = True  # the final weights are those of an undisturbed run, bit for bit; else within 1e-5


class Run(Driver):
    """One training."""

    def __init__(
        self,
        cluster: Nodes,
        folder: Path,
        name: str,
        launch: Mapping[str, Any],
        work: Mapping[str, Any],
        node: Node | None = None,
    ) -> None:
        self.flag = folder / f"{name}.flag"
        options = json.dumps({**LAUNCH, **launch, "run": name})
        words = ["python", "-m", "tests.launch.nodes_work", options]
        home = {"RECRAY_HOME": str(folder / "home")}
        super().__init__(cluster, name, [*words, json.dumps({**work, "flag": str(self.flag)})], home, node)

    def result(self) -> dict[str, Any]:
        lines = [line for line in self.said().splitlines() if line.startswith("{")]
        return json.loads(lines[-1]) if lines else {}


def worker_dies(run: Run) -> None:
    run.kill_workers(run.other(), "ray::RayTrainWorker")


def node_dies(run: Run) -> None:
    run.other().kill()
    run.cluster.add(cpus=1)


def node_dies_and_comes_back_late(run: Run) -> None:
    run.other().kill()
    run.wait_for(lambda: "waiting up to" in run.said())
    run.cluster.add(cpus=1)


def driver_dies(run: Run) -> None:
    """The same command once more."""
    run.kill_workers(run.cluster.head, "tests.launch.nodes_work")
    run.process.wait()
    run.again()


def cable_is_out_for_30_s(run: Run) -> None:
    """Its raylet ends, since it was given up; whoever looks after it starts it again."""
    node = run.other()
    run.cluster.cut(node)
    time.sleep(30)
    run.cluster.mend(node)
    time.sleep(5)
    run.cluster.start(node)


def fewer_then_more(run: Run) -> None:
    """Elastic: two workers, one while the node is away, two again."""
    run.other().kill()
    run.wait_for(lambda: run.said().count("resumed at") >= 1)
    run.cluster.add(cpus=1)


def node_dies_while_workers_start(run: Run) -> None:
    """Before they have joined: this one is not held."""
    moment = random.random() * 8.0
    time.sleep(moment)
    run.other().kill()
    run.cluster.add(cpus=1)


CASES = {
    "worker": Case("a worker is killed", worker_dies),
    "node": Case("a node dies, another comes at once", node_dies),
    "late": Case("a node dies, another comes when it is asked for", node_dies_and_comes_back_late),
    "driver": Case("the driver is killed, the command given again", driver_dies),
    "cable": Case("a cable is out for 30 s", cable_is_out_for_30_s),
    "elastic": Case(
        "two workers, one, two",
        fewer_then_more,
        {"min_workers": 1, "resize_s": 5},
        {"epochs": 8, "step_s": 0.5},
        equal=False,
    ),
    "start": Case("a node dies while workers start", node_dies_while_workers_start),
}


def undisturbed(cluster: Nodes, folder: Path, work: Mapping[str, Any]) -> dict[str, Any]:
    run = Run(cluster, folder, f"whole-{len(list(folder.iterdir()))}", {}, work)
    run.process.wait(300)
    return run.result()


def measured(cluster: Nodes, folder: Path, key: str, whole: dict[str, Any]) -> dict[str, Any]:
    case, number = CASES[key], len(list(folder.glob("*.flag")))
    starts = case.happens is node_dies_while_workers_start
    work = case.work if starts else {**case.work, "hold_at": HOLD_AT}
    run = Run(cluster, folder, f"{key}-{number}", case.launch, work)
    if starts:
        run.wait_for(lambda: "preflight" in run.said())
    else:
        run.wait_for(run.flag.exists)
    began = time.monotonic()
    case.happens(run)
    went_on = 0.0
    try:
        run.wait_for(lambda: "resumed at" in run.said() or bool(run.result()))
        went_on = time.monotonic() - began
    except TimeoutError:
        pass
    status = run.process.wait(240)
    said, result = run.said(), run.result()
    off = 1.0  # relative, of the norms of all weights
    if "norms" in result:
        pairs = zip(result["norms"], whole["norms"], strict=True)
        off = max(abs(a - b) / abs(b) for a, b in pairs) or float(result["weights"] != whole["weights"])
    return {
        "case": key,
        "what": case.what,
        "status": status,
        "seconds_to_go_on": round(went_on, 1),
        "off": off,
        "as_promised": status == 0 and (off == 0.0 if case.equal else off < 1e-5),
        "workers": result.get("workers"),
        "tracebacks": said.count("Traceback"),
        "said": run.words_said()[:4],
    }


def main(keys: list[str]) -> None:
    if reason := why_not():
        raise SystemExit(reason)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    rows: list[dict[str, Any]] = []
    with nodes(
        [1, 1], subnet=f"10.{random.randrange(16, 250)}.{os.getpid() % 250}", folder=folder / "nodes"
    ) as cluster:
        wholes: dict[str, dict[str, Any]] = {}
        for key in keys or list(CASES):
            work = json.dumps(dict(CASES[key].work))
            if work not in wholes:
                wholes[work] = undisturbed(cluster, folder, CASES[key].work)
            row = measured(cluster, folder, key, wholes[work])
            rows.append(row)
            print(json.dumps(row), flush=True)
    if not keys:
        RESULT.write_text(json.dumps({row["case"]: row for row in rows}, indent=1) + "\n")
    kept = sum(row["as_promised"] for row in rows)
    print(
        json.dumps(
            {"cases": len(rows), "as_promised": kept, "slowest_s": max(r["seconds_to_go_on"] for r in rows)}
        )
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main(sys.argv[1:])
