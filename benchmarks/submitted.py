"""Every script of ``jobs/`` as a submitted job on a Ray cluster: status, words, files; some stopped midway.

python -m benchmarks.submitted [NAME ...]

The cluster is a node of ``benchmarks.nodes``; data is made up and tiny. A job is as it should be where
``ray job submit`` ends with 0 and its log says what was done; where a user was wrong, with another status and
one sentence. Of those that are stopped no process and no half-written file is left, and the same command goes
on. The last line is JSON.
"""

import json
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from benchmarks.nodes import Node, nodes, why_not
from tests.bundles.click_world import frame
from tests.jobs.world import REPO, criteo_folder, events_file, letor_folder
from tests.pipelines.days import by_taste, serve_a_day

CPUS = 4
ON_ONE = ("--launch.workers", "1")
BRIEF = (*ON_ONE, "--loop.epochs", "2")
CODES = ("--model.quantizer.codebook-size", "8", "--content.dim", "16", "--content.sketch", "0")
STARTED_S = 600.0  # within which a job is under way
LEFT_S = 20.0  # within which everything of a stopped job is gone
NOT_HERE = {"run_recbole": "builds an environment from a package registry"}


class Job(NamedTuple):
    """A submitted command, and what its log says where all went well."""

    script: str
    args: Sequence[str]
    says: str
    status: int = 0


class Stopped(NamedTuple):
    """A job that is stopped once a file shows that it is under way."""

    script: str
    args: Sequence[str]
    under_way: str  # in the log; or a glob in the home, after ""
    says: str  # the log of the same command given again


class Cluster:
    """The one node, and the home that it shares with this process."""

    def __init__(self, node: Node, home: Path) -> None:
        self.node, self.home = node, home
        self.env = {"RECRAY_HOME": str(home), "RAY_ADDRESS": "http://127.0.0.1:8265", "COLUMNS": "200"}

    def submit(self, job: Sequence[str], *options: str) -> tuple[int, str]:
        words = ["ray", "job", "submit", "--working-dir", str(REPO), *options, "--", "python", *job]
        return self.node.run(*words, env=self.env, timeout=400)

    def ray(self, *words: str) -> str:
        return self.node.run("ray", "job", *words, env=self.env)[1]

    def processes(self) -> set[str]:
        """Of jobs and their workers; idle ones are nobody's."""
        _, said = self.node.run("ps", "-eo", "pid,args")
        mine = re.compile(r"ray::(?!IDLE)\S+|python jobs/\S+|recray\.\S+")
        found = {line.strip() for line in said.splitlines() if mine.search(line)}
        return {line for line in found if "JobSupervisor" not in line and "dashboard" not in line}

    def half_written(self) -> set[str]:
        """Files and folders that somebody was about to rename."""
        found = {path for path in self.home.rglob(".*") if path.suffix != ".lock" and path.name != ".lock"}
        return {str(path.relative_to(self.home)) for path in found}


def done(cluster: Cluster, job: Job) -> dict[str, Any]:
    began = time.monotonic()
    status, said = cluster.submit([f"jobs/{job.script}.py", *job.args])
    right = (status == 0) == (job.status == 0) and re.search(job.says, said) is not None
    right &= "Traceback" not in said
    row = {"job": job.script, "right": right, "status": status, "seconds": round(time.monotonic() - began, 1)}
    return row if right else {**row, "said": said[-1500:]}


def stopped(cluster: Cluster, job: Stopped, name: str) -> dict[str, Any]:
    before, files = cluster.processes(), cluster.half_written()
    command = [f"jobs/{job.script}.py", *job.args]
    cluster.submit(command, "--no-wait", "--submission-id", name)
    deadline = time.monotonic() + STARTED_S
    while not any(cluster.home.glob(job.under_way)):
        if time.monotonic() > deadline:
            return {"stopped": job.script, "right": False, "said": cluster.ray("logs", name)[-1500:]}
        time.sleep(0.2)
    cluster.ray("stop", name)
    began = time.monotonic()
    while (left := cluster.processes() - before) and time.monotonic() - began < LEFT_S:
        time.sleep(0.5)
    gone_s = time.monotonic() - began
    half = cluster.half_written() - files
    status, said = cluster.submit(command)
    right = not left and not half and status == 0 and re.search(job.says, said) is not None
    row = {"stopped": job.script, "right": right, "gone_s": round(gone_s, 1)}
    more = {"left": sorted(left), "half_written": sorted(half), "status": status, "said": said[-1500:]}
    return row if right else {**row, **more}


def jobs(home: Path) -> list[Job]:
    """In an order in which each finds what it builds on."""
    films, clicks = events_file(home), f"{criteo_folder(home)}?name=clicks"
    graph, letor = events_file(home, "graph"), str(letor_folder(home))
    frame().write_csv(home / "shop.csv")
    frame().drop("click").write_csv(home / "new.csv")
    (home / "experiment.json").write_text(json.dumps({**EXPERIMENT, "datasets": [films]}))
    shop = f"{home / 'shop.csv'}?name=shop"
    published = r"published \S+ version \d"
    return [
        Job("prepare", [films, "--item-content", "--content.dim", "8", "--content.sketch", "0"], "60 users"),
        Job("train", ["two_tower", "nobodys"], r"error: .*nobodys", status=1),
        Job("train", ["mamba", films, *BRIEF], published),
        *(Job(f"train_{name}", [films, *BRIEF], published) for name in EPOCHS),
        *(Job(f"train_{name}", [films, *ON_ONE], published) for name in AT_ONCE),
        Job("train_dlrm", [shop, *BRIEF], published),
        Job("train_lambdarank", [letor, *BRIEF], published),
        Job("train", ["dlrm", clicks, *BRIEF, "--loop.batch-size", "50"], published),
        Job("train_dlrm_ranker", [films, *ON_ONE], published),
        Job("train_ranker", [films, *ON_ONE, "--model.rounds", "5", "--promote"], "production of"),
        Job("train_rqvae", [films, *BRIEF, *CODES, "--alarm", "0"], published),
        Job("assign_semantic_ids", ["films-rqvae"], published),
        Job("train_decoder", [films, *BRIEF, "--promote"], "production of"),
        Job("extend_decoder", ["films-decoder"], "films-decoder|error: "),
        Job("build_index", ["films-two_tower", "--version", "1", "--index.kind", "exact"], published),
        Job("compare_links", [graph, "--data.split", "random", *ON_ONE], "two_tower: links and ranking"),
        Job("recommend", ["films-two_tower", "lists", "--version", "latest", "--k", "3"], "60 lists in"),
        Job("score", ["shop-dlrm", str(home / "new.csv"), "scored.parquet"], "600 rows scored"),
        Job("evaluate", [films, *COMPARED, "--json", "rows.json"], r"wrote \S*runs/raysubmit_\S+"),
        Job("evaluate", [films, *COMPARED, "--launch.where", "ray"], "60 users"),
        Job(
            "evaluate_served", [films, "--service.application", "films-two_tower", *LATEST], "served - first"
        ),
        Job("experiment", [str(home / "experiment.json")], "2 runs compared in"),
        Job("tune", ["two_tower", films, *SEARCH], published),
        Job("build_feedback", [RANKER, "--attribution", "1h", "--since", "2023-11-01"], r"\?name=films&"),
        Job("replay", [RANKER, "--lists", "20"], "answers scored again"),
        Job("drift", [RANKER], "page: "),
        Job("business", [RANKER, "--by", "day"], "lists of"),
        Job("retrain", [RANKER, *ON_ONE, "--gates.tolerance", "1"], "candidate: |refused|error: "),
        Job("demo", [films, "--port", "0", *ON_ONE], "user somebody-new"),
    ]


RANKER, LATEST = "films-ranker", ("--version", "latest")
EPOCHS, AT_ONCE = (
    ("two_tower", "ncf", "gat", "sasrec", "ss4rec"),
    ("popularity", "item_knn", "ease", "ials"),
)
COMPARED = ("--models", "popularity", "two_tower", "--seeds", "1")
SEARCH = ("--trials", "2", "--loop.epochs", "2", "--seeds", "1", "--launch.run", "searched")
EXPERIMENT = {"name": "tiny", "models": [{"model": "popularity"}, {"model": "item_knn"}]}


def stops(home: Path) -> list[Stopped]:
    models = [{"model": "popularity"}, {"model": "item_knn"}, {"model": "ease"}]
    (home / "long.json").write_text(json.dumps({"name": "long", "datasets": ["synthetic"], "models": models}))
    lists = ["synthetic-popularity", str(home / "lists"), *LATEST, "--users-per-part", "2"]
    search = ["two_tower", "synthetic", "--trials", "4", "--loop.epochs", "3", "--seeds", "0", "--no-publish"]
    run = ["two_tower", "synthetic", *ON_ONE, "--loop.epochs", "8", "--launch.run", "stopped"]
    cells = "runs/experiments/long/cells/*/cell.json"
    trials = "runs/tune-two_tower-synthetic/trials/*.json"
    return [
        Stopped("recommend", [*lists, *ON_ONE], "lists/part-000003.parquet", "parts are there"),
        Stopped("train", [*run, "--loop.patience", "0"], "runs/stopped/checkpoint_*1", "resumed at epoch"),
        Stopped("experiment", [str(home / "long.json"), *ON_ONE], cells, "[1-2] of them done before"),
        Stopped("tune", [*search, *ON_ONE], trials, "best: trial"),
    ]


def served(cluster: Cluster) -> dict[str, Any]:
    """A server runs until its job is stopped."""
    before = cluster.processes()
    cluster.submit(
        ["jobs/serve.py", "--application", RANKER, "--port", "0"], "--no-wait", "--submission-id", "served"
    )
    deadline = time.monotonic() + 180
    while "serving at" not in cluster.ray("logs", "served") and time.monotonic() < deadline:
        time.sleep(1)
    said = cluster.ray("logs", "served")
    cluster.ray("stop", "served")
    began = time.monotonic()
    while (left := cluster.processes() - before) and time.monotonic() - began < LEFT_S:
        time.sleep(0.5)
    right = "serving at" in said and not left
    row = {"stopped": "serve", "right": right, "gone_s": round(time.monotonic() - began, 1)}
    return row if right else {**row, "left": sorted(left), "said": said[-1500:]}


def main(names: Sequence[str]) -> None:
    if reason := why_not():
        raise SystemExit(reason)
    folder = Path(tempfile.mkdtemp(prefix="submitted-"))
    home = folder / "home"
    home.mkdir()
    rows: list[dict[str, Any]] = []

    def told(row: dict[str, Any]) -> None:
        rows.append(row)
        print(json.dumps(row), flush=True)

    subnet = f"10.{random.randrange(16, 250)}.{os.getpid() % 250}"
    with nodes([], subnet=subnet, folder=folder / "nodes") as made:
        made.add(cpus=CPUS, env={"RECRAY_HOME": str(home)})  # of a job, not what the one who submits it has
        cluster = Cluster(made.head, home)
        for job in jobs(home):
            if not names or job.script in names:
                told(done(cluster, job))
            if job.script == "train_ranker" and rows and rows[-1]["right"]:
                with mock.patch.dict(os.environ, {"RECRAY_HOME": str(home)}):
                    serve_a_day(RANKER, 0, by_taste)
        if not names or "serve" in names:
            told(served(cluster))
        for number, stop in enumerate(stops(home)):
            if names and f"stop-{stop.script}" not in names:
                continue
            if stop.script == "recommend":
                cluster.submit(["jobs/train_popularity.py", "synthetic"])
            told(stopped(cluster, stop, f"stopped-{number}"))
    scripts = {path.stem for path in (REPO / "jobs").glob("*.py")} - NOT_HERE.keys()
    missing = [] if names else sorted(scripts - {str(row.get("job", row.get("stopped"))) for row in rows})
    right = sum(bool(row["right"]) for row in rows)
    print(json.dumps({"jobs": len(rows), "right": right, "without": NOT_HERE, "missing": missing}))


if __name__ == "__main__":
    main(sys.argv[1:])
