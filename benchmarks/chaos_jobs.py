"""What a search and batch answers survive: what is done twice, what is said, how long until it goes on.

python -m benchmarks.chaos_jobs [CASE ...]

A case is a job and who dies in the middle of it: ``tune-worker``, ``recommend-driver`` and so on. The job is
``recray tune`` of random trials without early stops, or ``recray recommend``; its one worker is not on the
head. What it leaves is compared with what one leaves to which nothing happened, bit for bit. The last line is
JSON.
"""

import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from benchmarks.chaos_driver import Driver
from benchmarks.nodes import Nodes, nodes, why_not

TRIALS, EPOCHS, PER_PART = 4, 6, 10
AFTER = {"tune": 6, "recommend": 5}  # reports, parts


class Job(NamedTuple):
    """What is done, and how far it has come."""

    words: Callable[[Path, str], list[str]]
    steps: Callable[[Path, str], list[str]]  # a word for each report or part, those done twice twice
    left: Callable[[Path, str], str]  # digest of what it leaves


def _tune(home: Path, name: str) -> list[str]:
    size = ["--trials", str(TRIALS), "--loop.epochs", str(EPOCHS), "--method", "random", "--no-asha"]
    kept = ["--seeds", "0", "--no-publish", "--launch.run", name]
    return ["python", "-m", "recray", "tune", "two_tower", "synthetic", *size, *kept]


def _reports(home: Path, name: str) -> list[str]:
    found = []
    for path in sorted((home / "runs" / name / "trials").glob("*/metrics.jsonl")):
        lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
        found += [f"{path.parent.name} {json.loads(line)['epoch']}" for line in lines]
    return found


def _best(home: Path, name: str) -> str:
    """Every trial's settings and score."""
    records = [json.loads(path.read_text()) for path in (home / "runs" / name / "trials").glob("*.json")]
    kept = sorted((r["number"], r["changes"], r["score"], r["status"]) for r in records)
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def _recommend(home: Path, name: str) -> list[str]:
    asked = ["--version", "latest", "--users-per-part", str(PER_PART), "--launch.workers", "1"]
    return ["python", "-m", "recray", "recommend", "synthetic-popularity", str(home / name), *asked]


def _parts(home: Path, name: str) -> list[str]:
    return [f"{path.name} {path.stat().st_ino}" for path in (home / name).glob("part-*.parquet")]


def _lists(home: Path, name: str) -> str:
    table = pl.read_parquet(home / name / "part-*.parquet").sort("user", "place")
    return hashlib.sha256(table.write_csv().encode()).hexdigest()


JOBS = {"tune": Job(_tune, _reports, _best), "recommend": Job(_recommend, _parts, _lists)}


def worker_dies(driver: Driver) -> None:
    driver.kill_workers(driver.other())


def node_dies(driver: Driver) -> None:
    driver.other().kill()
    driver.cluster.add(cpus=1)


def driver_dies(driver: Driver) -> None:
    driver.die()
    driver.again()


WHO: Mapping[str, Callable[[Driver], None]] = {
    "worker": worker_dies,
    "node": node_dies,
    "driver": driver_dies,
}


def measured(cluster: Nodes, home: Path, job: str, who: str, whole: str) -> dict[str, Any]:
    name, kind = f"{job}-{who}", JOBS[job]
    driver = Driver(cluster, name, kind.words(home, name), {"RECRAY_HOME": str(home)})
    driver.wait_for(lambda: len(kind.steps(home, name)) >= AFTER[job])
    before = kind.steps(home, name)
    began = time.monotonic()
    WHO[who](driver)
    went_on = -1.0
    try:
        known = set(before) | set(kind.steps(home, name))
        driver.wait_for(lambda: bool(set(kind.steps(home, name)) - known))
        went_on = time.monotonic() - began
    except TimeoutError:
        pass
    status = driver.process.wait(400)
    after = kind.steps(home, name)
    again = len(after) - len(set(after)) + len(set(before) - set(after))
    equal = status == 0 and kind.left(home, name) == whole
    row = {
        "case": name,
        "status": status,
        "seconds_to_go_on": round(went_on, 1),
        "equal": equal,
        "done_twice": again,
        "steps": len(after),
        "tracebacks": driver.said().count("Traceback"),
        "said": driver.words_said()[:4],
    }
    return row if equal else {**row, "log": driver.said()[-2500:]}


def undisturbed(cluster: Nodes, home: Path, job: str) -> str:
    kind, name = JOBS[job], f"{job}-whole"
    driver = Driver(cluster, name, kind.words(home, name), {"RECRAY_HOME": str(home)})
    if driver.process.wait(500):
        raise SystemExit(driver.said()[-3000:])
    return kind.left(home, name)


def main(cases: list[str]) -> None:
    if reason := why_not():
        raise SystemExit(reason)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    home, rows = folder / "home", list[dict[str, Any]]()
    chosen = [case.split("-") for case in cases] or [[job, who] for job in JOBS for who in WHO]
    subnet = f"10.{random.randrange(16, 250)}.{os.getpid() % 250}"
    with nodes([0, 1], subnet=subnet, folder=folder / "nodes") as cluster:
        env = {"RECRAY_HOME": str(home)}
        trained = ["python", "-m", "recray", "train", "popularity", "synthetic", "--launch.where", "local"]
        status, said = cluster.head.run(*trained, env=env)
        if status:
            raise SystemExit(said[-3000:])
        wholes = {job: undisturbed(cluster, home, job) for job in dict(chosen)}
        for job, who in chosen:
            rows.append(measured(cluster, home, job, who, wholes[job]))
            print(json.dumps(rows[-1]), flush=True)
    equal = sum(bool(row["equal"]) for row in rows)
    print(
        json.dumps(
            {"cases": len(rows), "equal": equal, "slowest_s": max(r["seconds_to_go_on"] for r in rows)}
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
