"""How time and memory grow with the data: each step of a model's life at 1, 4, 16 ... million interactions.

    python -m benchmarks.growth [--millions 1 4 16] [--steps prepare two_tower sasrec gat examples ...]

Users and items grow with the interactions (one user to 40 of them, one item to 400). Each step runs in a
process of its own that reads what the steps before it left in a home made for the run. Seconds are those of
a processor, so that other work on the machine adds little. The last line is one JSON object, of the two
largest sizes: ``time_exponent`` is the worst step's slope of log seconds over log interactions,
``memory_growth`` the worst growth of the steps that stream.
"""

import argparse
import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from benchmarks.load import Load, watched
from benchmarks.streaming import private_bytes
from recray import paths
from recray.bundles.searcher import Searcher
from recray.config import override
from recray.data.events.examples import eval_examples
from recray.data.events.prepare import in_partitions, prepared_manifest
from recray.pipelines.train import fit
from recray.recipes import RECIPES
from recray.recipes.ranker import GBDT_RANKER
from recray.serve.versions import OpenedVersion, open_served
from recray.store import Store
from recray.train.context import LaunchConfig
from recray.train.run import AnyRecipe, Run, Unmeasured

RESULT = Path(__file__).parent / "results" / "growth.json"
EVENTS_PER_USER, EVENTS_PER_ITEM = 40, 400
START_S, DAYS = 1_600_000_000, 400
CHUNK = 4_000_000
LOOK_S = 0.02
USERS = 1_000  # that are asked


class Cost(NamedTuple):
    """Of one step at one size."""

    step: str
    interactions: int
    cpu_s: float
    peak_mib: float  # beyond the process's imports


def generate(path: Path, rows: int, seed: int = 0) -> None:
    """One Parquet file: user, item, rating, time; both sides with long tails, in no order."""
    users, items, writer = rows // EVENTS_PER_USER, rows // EVENTS_PER_ITEM, None
    for start in range(0, rows, CHUNK):
        rng, size = np.random.default_rng([seed, start]), min(CHUNK, rows - start)
        # The square of an even draw: the first tenth has a third of the events.
        table = pl.DataFrame(
            {
                "user_id": (users * rng.random(size) ** 2).astype(np.int64),
                "item_id": (items * rng.random(size) ** 2).astype(np.int64),
                "rating": rng.integers(1, 6, size).astype(np.float32),
                "timestamp": rng.integers(START_S, START_S + DAYS * 86_400, size),
            }
        ).to_arrow()
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def _run(model: str, data: str) -> tuple[AnyRecipe, Run]:
    """The model's own settings at the size of the data, for one epoch; as many users asked at any size."""
    recipe = RECIPES[model]
    asked = {"loop.epochs": 1, "data.test_users": USERS, "validation_users": USERS}
    return recipe, override(recipe.default(data), asked)


def _train(model: str, data: str) -> None:
    """One epoch by one worker, its validation included; nothing is published. Not on from an earlier run."""
    shutil.rmtree(paths.runs_dir() / f"growth-{model}", ignore_errors=True)
    fit(*_run(model, data), LaunchConfig(where="local", run=f"growth-{model}"))


def _two_tower(data: str) -> tuple[AnyRecipe, Run, Any, Any]:
    """What was trained, and what it was trained on."""
    recipe, run = _run("two_tower", data)
    opened = recipe.open(run)
    checkpoint = next((paths.runs_dir() / "growth-two_tower").glob("checkpoint_*"))
    return recipe, run, opened, recipe.restore(run, opened, checkpoint)


def _evaluate(data: str) -> None:
    recipe, run, opened, model = _two_tower(data)
    recipe.measure(run, opened, model)


def _publish(data: str) -> None:
    """Vectors, index and log."""
    recipe, run, opened, model = _two_tower(data)
    card = eval_examples(opened.dataset, opened.split, "test")[1]
    draft = dataclasses.replace(recipe.draft(run, opened, model, Unmeasured()), card=card)
    Store().publish(**vars(draft))


def _examples(data: str) -> None:
    """Training rows of trees, of the published candidates."""
    GBDT_RANKER.open(GBDT_RANKER.default(data))


def _start(data: str) -> None:
    """What a replica reads, until it can be asked."""
    (name,) = Store().applications()
    bundles = open_served(Store(), name, "latest")
    bundles.verify()
    opened = OpenedVersion(bundles)
    Searcher(opened.retriever_files, opened.retriever_model)
    assert all((opened.event_log, opened.user_rows, opened.item_rows))


# In the order in which they read what was left.
STEPS: dict[str, Callable[[str], object]] = {
    "prepare": lambda data: prepared_manifest(data, reader=in_partitions()),
    "two_tower": partial(_train, "two_tower"),
    "sasrec": partial(_train, "sasrec"),
    "gat": partial(_train, "gat"),
    "evaluate": _evaluate,
    "publish": _publish,
    "examples": _examples,
    "start": _start,
    "start again": _start,
}


STREAMED = ("prepare",)  # whose memory is to stay as it is


def run_step(step: str, data: str) -> None:
    """In a process of its own: seconds of its processor, and the most memory of its own beyond that of the
    imports (pages of mapped files are the system's, which drops them where it has better use)."""
    before, peak, done = _private_mib(), 0.0, threading.Event()

    def look() -> None:
        nonlocal peak
        while not done.wait(LOOK_S):
            peak = max(peak, _private_mib())

    watcher = threading.Thread(target=look)
    watcher.start()
    began = time.process_time()
    try:
        STEPS[step](data)
    finally:
        seconds = time.process_time() - began
        done.set()
        watcher.join()
    print(json.dumps([seconds, peak - before]))


def _private_mib() -> float:
    return private_bytes() / 2**20


def measured(steps: Sequence[str], rows: int, home: Path) -> Iterator[Cost]:
    """Each step at one size, as it ends."""
    home.mkdir(parents=True, exist_ok=True)
    data = home / "events.parquet"
    generate(data, rows)
    environment = {**os.environ, "RECRAY_HOME": str(home), "OMP_NUM_THREADS": "1"}
    for step in steps:
        command = [sys.executable, "-m", "benchmarks.growth", "--step", step, "--data", str(data)]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        seconds, peak_mib = json.loads(done.stdout.splitlines()[-1])
        yield Cost(step, rows, round(seconds, 2), round(peak_mib, 1))


def _largest(costs: Sequence[Cost]) -> tuple[Cost, Cost]:
    *_, less, more = sorted(costs, key=lambda cost: cost.interactions)
    return less, more


def exponent(less: Cost, more: Cost) -> float:
    """The slope of log seconds over log interactions."""
    return math.log(more.cpu_s / less.cpu_s) / math.log(more.interactions / less.interactions)


@watched
def main(load: Load) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 4, 16])
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--home", type=Path, help="where data and versions are left; else they are removed")
    args = parser.parse_args()
    costs = list[Cost]()
    with tempfile.TemporaryDirectory() as scratch:
        for millions in args.millions:
            home = (args.home or Path(scratch)) / f"{millions:g}m"
            for cost in measured(args.steps, round(millions * 1e6), home):
                costs.append(cost)
                per_row = cost.peak_mib * 2**20 / cost.interactions
                print(
                    f"{millions:>6g} M {cost.step:>10}: {cost.cpu_s:8.1f} s {cost.peak_mib:8.0f} MiB, "
                    f"{per_row:.0f} bytes an interaction",
                    flush=True,
                )
            if not args.home:
                shutil.rmtree(home)
    result: dict[str, Any] = {"costs": [cost._asdict() for cost in costs]}
    if len(args.millions) > 1:
        pairs = {step: _largest([cost for cost in costs if cost.step == step]) for step in args.steps}
        slopes = {step: round(exponent(*pair), 3) for step, pair in pairs.items()}
        grown = {step: round(more.peak_mib / less.peak_mib - 1, 3) for step, (less, more) in pairs.items()}
        result |= {"time_exponents": slopes, "memory_growths": grown, "streamed": list(STREAMED)}
        result |= {
            "time_exponent": max(slopes.values()),
            "memory_growth": max(grown[step] for step in STREAMED),
        }
    load.finish(result, RESULT)


if __name__ == "__main__":
    if "--step" in sys.argv:
        run_step(sys.argv[sys.argv.index("--step") + 1], sys.argv[sys.argv.index("--data") + 1])
    else:
        main()
