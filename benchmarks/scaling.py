"""One model on two nodes of one core each: by Ray Train, and beside it by torchrun, against one process.

python -m benchmarks.scaling [MODEL ...]

Nodes are raylets in namespaces of their own (``benchmarks.nodes``), each held on a core; the collectives go
through a virtual cable. The rate is that of the best epoch after the first, in samples a second over all
workers; the three take turns. The last line is JSON.
"""

import json
import os
import random
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.load import Load, watched
from benchmarks.nodes import PORT, Node, Nodes, nodes, why_not

MODELS = {"two_tower": "ml-1m", "dlrm": "ml-1m", "decoder": "ml-100k"}
EPOCHS, TURNS = 3, 3
RESULTS = Path(__file__).parent / "results" / "scaling.json"


def rate(said: str) -> float:
    """Of the best epoch after the first."""
    line = next((line for line in said.splitlines() if line.startswith('{"samples_per_s"')), "")
    if not line:
        raise SystemExit(said[-3000:])
    rates: list[float] = json.loads(line)["samples_per_s"]
    return max(rates[1:])


def command(model: str, *ray: str) -> tuple[str, ...]:
    return "benchmarks.scaling_worker", model, MODELS[model], str(EPOCHS), *ray


def alone(node: Node, model: str, env: dict[str, str]) -> float:
    return rate(node.run("taskset", "-c", "0", "python", "-m", *command(model), env=env, timeout=600)[1])


def on_ray(cluster: Nodes, model: str, env: dict[str, str]) -> float:
    there = {**env, "RAY_ADDRESS": f"{cluster.head.address}:{PORT}"}
    return rate(cluster.head.run("python", "-m", *command(model, "ray", "2"), env=there, timeout=600)[1])


def by_torchrun(cluster: Nodes, model: str, env: dict[str, str]) -> float:
    there = {**env, "GLOO_SOCKET_IFNAME": "eth0"}
    meeting = [
        "--nnodes=2",
        "--nproc-per-node=1",
        f"--master-addr={cluster.head.address}",
        "--master-port=29500",
    ]
    started = [
        node.start(
            *(
                "taskset",
                "-c",
                str(rank),
                "python",
                "-m",
                "torch.distributed.run",
                *meeting,
                f"--node-rank={rank}",
            ),
            *("-m", *command(model)),
            env=there,
        )
        for rank, node in enumerate(cluster.nodes.values())
    ]
    return rate(next(process.communicate(timeout=600)[0] for process in started))


@watched
def main(load: Load) -> None:
    if reason := why_not():
        raise SystemExit(reason)
    folder = Path(tempfile.mkdtemp(prefix="scaling-"))
    env = {"RECRAY_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    rows: dict[str, Any] = {}
    subnet = f"10.{random.randrange(16, 250)}.{os.getpid() % 250}"
    with nodes([], subnet=subnet, folder=folder / "nodes") as cluster:
        for core in (0, 1):
            cluster.add(cpus=1, core=core)
        for model in sys.argv[1:] or MODELS:
            turns = [
                (
                    alone(cluster.head, model, env),
                    on_ray(cluster, model, env),
                    by_torchrun(cluster, model, env),
                )
                for _ in range(TURNS)
            ]
            one, ray, torchrun = (median(rates) for rates in zip(*turns, strict=True))
            ratios = [ours / theirs for _, ours, theirs in turns]
            rows[model] = {
                "one_process_per_s": round(one),
                "two_nodes_per_s": round(ray),
                "torchrun_per_s": round(torchrun),
                "efficiency": round(ray / (2 * one), 3),
                "torchrun_efficiency": round(torchrun / (2 * one), 3),
                "vs_torchrun": round(median(ratios), 3),
                "vs_torchrun_turns": [round(ratio, 3) for ratio in ratios],
            }
            print(model, json.dumps(rows[model]), flush=True)
    result = {
        "two_nodes_vs_torchrun": min(row["vs_torchrun"] for row in rows.values()),
        "efficiency": min(row["efficiency"] for row in rows.values()),
        "models": rows,
    }
    load.finish(result, RESULTS)


if __name__ == "__main__":
    main()
