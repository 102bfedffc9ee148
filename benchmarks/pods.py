"""What is left of a cluster of RunPod's when a laptop dies at any moment, and what it has cost.

python -m benchmarks.pods --rounds 20
python -m benchmarks.pods --rounds 6 --by ctrl-c

Each round types `recray cluster run` before a fake of RunPod (tests/cluster/fake: its own description, pods
that are namespaces with real sshd and raylets), kills every process of the laptop with -9 at a random moment,
and then either types `recray cluster down` or leaves all to the pods' own guards. The last line is JSON: pods
left, and the largest difference between the dollars that `status` tells and those charged. Needs root.
"""

import json
import os
import random
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from tests.cluster.fake.laptop import Laptop, laptop
from tests.cluster.fake.service import Service

JOB = """
import time, ray
ray.init()
@ray.remote(num_cpus=1, num_gpus=1)
def long():
    time.sleep(40)
ray.get([long.remote() for _ in range(3)])
"""
LIVES_S = 75.0  # from the head's start to the end of a cluster that nobody ends


@dataclass(frozen=True)
class Options:
    rounds: int = 20
    seed: int = 0
    within_s: float = 60.0
    """The end comes within so many seconds of the command."""
    by: Literal["kill", "ctrl-c"] = "kill"
    """ctrl-c: nothing is typed afterwards, the command itself ends what it made."""


def one(number: int, options: Options) -> dict[str, object]:
    chance = random.Random(options.seed * 1000 + number)
    moment, forsaken = chance.uniform(0, options.within_s), number % 2 == 1 and options.by == "kill"
    folder = Path(tempfile.mkdtemp(prefix="pods-"))
    try:
        with laptop(folder, "10.6.0") as (mine, service):
            mine.write(hours=LIVES_S / 3600 if forsaken else 8)
            (mine.work / "job.py").write_text(JOB)
            command = mine.start("recray", "cluster", "run", "--yes", "--", "python", "job.py")
            time.sleep(moment)
            had, start = len(service.there()), time.monotonic()
            if options.by == "kill":
                os.killpg(command.pid, signal.SIGKILL)
                _end(mine, service, forsaken)
            else:
                os.killpg(command.pid, signal.SIGINT)
                command.communicate(timeout=180)
            seconds = time.monotonic() - start
            _, said = mine.run("recray", "cluster", "status", "--json")
            told = sum(row["dollars"] for row in json.loads(said[said.index("[") :])) if "[" in said else 0.0
            return {
                "killed_after_s": round(moment, 1),
                "by": "guards" if forsaken else "down" if options.by == "kill" else "ctrl-c",
                "had": had,
                "left": len(service.there()),
                "ended_after_s": round(seconds, 1),
                "dollars_charged": round(service.charged(), 5),
                "dollars_told": round(told, 5),
            }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _end(mine: Laptop, service: Service, forsaken: bool) -> None:
    if not forsaken:
        mine.run("recray", "cluster", "down")
    until = time.monotonic() + LIVES_S + 90
    while forsaken and service.there() and time.monotonic() < until:
        time.sleep(0.5)


def main(options: Options) -> None:
    rows = []
    for number in range(options.rounds):
        rows.append(one(number, options))
        print(rows[-1], flush=True)
    off = [
        abs(float(str(r["dollars_told"])) - float(str(r["dollars_charged"])))
        for r in rows
        if r["by"] != "guards"
    ]
    found = {"rounds": len(rows), "pods_left": sum(int(str(r["left"])) for r in rows)}
    print(json.dumps({**found, "dollars_off": round(max(off, default=0.0), 5)}))


if __name__ == "__main__":
    main(tyro.cli(Options))
