"""Lists for everybody (``recray recommend``) beside a bare loop over the same stages, and after a kill.

``python -m benchmarks.batch`` publishes an application of 60,000 items and asks for the lists of 100,000
users by two workers, which are killed half-way and go on. Beside it, in turns and in one process: some of the
users by the command's own work, and by a loop that does nothing but run the stages.
"""

import itertools
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import tyro

from benchmarks.load import Load
from benchmarks.serving_world import APPLICATION, NOW, WorldSize, publish_world
from benchmarks.turns import medians, ratio, taking_turns
from recray.folders import write_whole
from recray.pipelines.recommend import BatchConfig, part_of
from recray.serve.clock import StageClock
from recray.serve.place.pipeline import Pipeline
from recray.serve.query import Query
from recray.serve.stages.listed import StagesConfig, open_ranking, open_retrieval, run
from recray.serve.state import RequestState
from recray.serve.versions import OpenedVersion, open_served
from recray.store import Store

NOTHING = np.empty(0, np.int64)
TOGETHER = 200


@dataclass(frozen=True)
class BatchBenchmark:
    users: int = 100_000
    items: int = 60_000
    k: int = 20
    rounds: int = 30
    """Turns of each side in one process."""


def beside_the_loop(store: Store, k: int, rounds: int, folder: Path) -> dict[str, list[float]]:
    """Milliseconds for ``TOGETHER`` lists: by the command's work, its file included, and by bare stages."""
    bundles = open_served(store, APPLICATION)
    pipeline, opened = Pipeline(bundles), OpenedVersion(bundles)
    stages = [open_retrieval(StagesConfig(), opened), *open_ranking(StagesConfig(), opened)]
    raw_ids, config = list(pipeline.catalogue.user_rows), BatchConfig(k=k, at=NOW)
    begins = {
        side: itertools.cycle(range(0, len(raw_ids) - TOGETHER, TOGETHER)) for side in ("batch", "loop")
    }

    def batch() -> None:
        begin = next(begins["batch"])
        write_whole(folder / "part.parquet", part_of(pipeline, config, raw_ids[begin : begin + TOGETHER]))

    def loop() -> None:
        begin = next(begins["loop"])
        for user in range(begin, begin + TOGETHER):
            run(stages, RequestState(Query(user, None, NOTHING, NOW, k), StageClock()))

    return taking_turns({"batch": batch, "loop": loop}, rounds)


def killed_and_resumed(config: BatchBenchmark, home: Path) -> dict[str, float]:
    """All users by two workers, which are killed when half of the files are there."""
    folder = home / "lists"
    command = [sys.executable, "-m", "recray", "recommend", APPLICATION, str(folder), "--k", str(config.k)]
    command += ["--at", str(NOW), "--launch.workers", "2"]
    environment = {**os.environ, "RECRAY_HOME": str(home)}
    began = time.perf_counter()
    first = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
    wanted = config.users // BatchConfig().users_per_part // 2
    while len(list(folder.glob("part-*.parquet"))) < wanted and first.poll() is None:
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    there = len(list(folder.glob("part-*.parquet")))
    subprocess.run(command, env=environment, check=True)
    seconds = time.perf_counter() - began
    found = pl.scan_parquet(folder / "part-*.parquet").group_by("user").len().collect()
    lengths = set(found["len"])
    if len(found) != config.users or lengths != {config.k}:
        raise SystemExit(f"{len(found)} of {config.users} users, lists of {lengths} items")
    return {
        "parts_at_the_kill": there,
        "seconds": round(seconds, 1),
        "users_s": round(config.users / seconds),
    }


def main() -> None:
    config = tyro.cli(BatchBenchmark, description=__doc__)
    logging.basicConfig(level=logging.WARNING)
    with Load() as load, tempfile.TemporaryDirectory() as name:
        home = Path(name)
        publish_world(home / "store", WorldSize(num_items=config.items, num_users=config.users))
        times = beside_the_loop(Store(home / "store"), config.k, config.rounds, home)
        print(f"for {TOGETHER} lists in one process: {medians(times)}", flush=True)
        whole = killed_and_resumed(config, home)
        print(f"two workers, killed half-way and resumed: {whole}", flush=True)
        result = {
            "benchmark": "batch",
            **vars(config),
            "batch_vs_loop": ratio(times, "loop", "batch"),
            **medians(times),
            "resumed": whole,
        }
        load.finish(result)


if __name__ == "__main__":
    main()
