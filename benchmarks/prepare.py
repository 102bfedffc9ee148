"""How fast and in how much memory ``prepare`` makes a data set of 25 million MovieLens rows.

    python -m benchmarks.prepare [--rows 25000000] [--peer-rows 2500000]

Generates a zip in the format of MovieLens 25M, prepares it in a process of its own and reads that
process's peak memory. The peer, in the same run on a smaller slice of the same kind: the pipeline one
would write with pandas, with the same steps but no validation, report, manifest or crash safety. Then as
many rows of Parquet in memory, in partitions, and in partitions over Ray Data. The last line printed is one
JSON object.
"""

import importlib
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import tyro

from benchmarks import growth
from benchmarks.load import Load
from recray.cli.prepare import reader_named
from recray.data.events.prepare import prepare, prepared_manifest
from recray.data.sources.published.movielens import MovieLens
from recray.launch.cluster import join

USERS_25M, ITEMS_25M, ROWS_25M = 162_541, 59_047, 25_000_095
START_S, END_S = 789_652_009, 1_574_327_703  # first and last rating of the original
DUPLICATES_PER_MILLION = 40  # the original has none; a few make the duplicate step do its work
CHUNK_ROWS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class PrepareBenchmark:
    rows: int = 25_000_000
    """rows of the main run"""
    peer_rows: int = 2_500_000
    """rows on which pandas and recray are compared; 0 leaves the peer out"""
    folder: Path | None = None
    """where the zips are generated and kept; a temporary folder by default"""


def generate(path: Path, num_rows: int, seed: int = 0) -> None:
    """A zip with ``ratings.csv`` and ``movies.csv`` like MovieLens 25M's, sorted by user and film."""
    rng = np.random.default_rng(seed)
    num_users = max(10, round(USERS_25M * num_rows / ROWS_25M))
    num_duplicates = num_rows * DUPLICATES_PER_MILLION // 1_000_000
    users_N, items_N = _distinct_pairs(rng, num_users, num_rows - num_duplicates)
    again = rng.integers(len(users_N), size=num_duplicates)
    order_N = np.argsort(np.r_[users_N, users_N[again]], kind="stable")
    film_ids_I = np.sort(rng.choice(np.arange(1, 209_172), size=ITEMS_25M, replace=False))
    table = pl.DataFrame(
        {
            "userId": users_N + 1,
            "movieId": film_ids_I[items_N],
            "rating": rng.integers(1, 11, size=len(users_N)).astype(np.float32) / 2,
            "timestamp": rng.integers(START_S, END_S, size=len(users_N)),
        }
    )
    table = pl.concat([table, table[again]])[order_N]
    movies = pl.DataFrame(
        {"movieId": film_ids_I, "title": [f"Film {i} (1999)" for i in film_ids_I], "genres": "Comedy|Drama"}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("ml-25m/movies.csv", movies.write_csv())
        with archive.open("ml-25m/ratings.csv", "w", force_zip64=True) as member:
            for start in range(0, len(table), CHUNK_ROWS):
                chunk = table[start : start + CHUNK_ROWS]
                member.write(chunk.write_csv(include_header=start == 0, float_precision=1).encode())


def _distinct_pairs(rng: np.random.Generator, num_users: int, size: int) -> tuple[Any, Any]:
    """Exactly ``size`` different (user, item) pairs, sorted, with long tails on both sides."""
    activity_U = rng.lognormal(sigma=1.2, size=num_users)
    popularity_I = 1 / np.arange(1, ITEMS_25M + 1) ** 0.8
    place_I = rng.permutation(ITEMS_25M)
    pairs = np.empty(0, dtype=np.int64)
    while len(pairs) < size:
        draws = int((size - len(pairs)) * 1.3) + 1000
        users = np.searchsorted(np.cumsum(activity_U), rng.random(draws) * activity_U.sum())
        items = np.searchsorted(np.cumsum(popularity_I), rng.random(draws) * popularity_I.sum())
        new = np.minimum(users, num_users - 1) * ITEMS_25M + place_I[np.minimum(items, ITEMS_25M - 1)]
        pairs = np.unique(np.r_[pairs, new])
    if len(pairs) > size:
        pairs = np.sort(rng.permutation(pairs)[:size])
    return pairs // ITEMS_25M, pairs % ITEMS_25M


def prepare_with_recray(path: Path, folder: Path) -> int:
    return len(prepare(MovieLens(name="ml-25m", archive=path), folder))


def prepare_with_pandas(path: Path, folder: Path) -> int:
    """The same rows and numbering, without checks, quality report, manifest or crash safety."""
    pd = importlib.import_module("pandas")  # of the dev extra: not a dependency of recray
    with zipfile.ZipFile(path) as archive:
        ratings = pd.read_csv(archive.open("ml-25m/ratings.csv"))
        movies = pd.read_csv(archive.open("ml-25m/movies.csv"))
    ratings = ratings.drop_duplicates()
    ratings["user_id"], users = pd.factorize(ratings["userId"], sort=True)
    ratings["item_id"], items = pd.factorize(ratings["movieId"], sort=True)
    ratings = ratings.sort_values("timestamp", kind="stable")
    folder.mkdir(parents=True)
    ratings[["user_id", "item_id", "rating", "timestamp"]].to_parquet(folder / "interactions.parquet")
    pd.DataFrame({"raw_id": users}).to_parquet(folder / "users.parquet")
    movies.set_index("movieId").loc[items].reset_index().to_parquet(folder / "items.parquet")
    return len(ratings)


def prepare_table(how: Literal["memory", "partitions", "ray"], path: Path, folder: Path) -> int:
    """The Parquet table of the same rows; ``ray``: by the tasks of a cluster of this machine, which is up."""
    os.environ["RECRAY_HOME"] = str(folder)
    return prepared_manifest(str(path), reader=reader_named(how)).num_interactions


TASKS: dict[str, Callable[[Path, Path], int]] = {
    "recray": prepare_with_recray,
    "pandas": prepare_with_pandas,
    "memory": partial(prepare_table, "memory"),
    "partitions": partial(prepare_table, "partitions"),
    "ray": partial(prepare_table, "ray"),
}


def run_child(task: str, path: Path, folder: Path) -> None:
    if task == "ray":  # a cluster is there before data is prepared by it
        join()
    started = time.monotonic()
    rows = TASKS[task](path, folder)
    seconds = time.monotonic() - started
    print(json.dumps({"rows_kept": rows, "seconds": round(seconds, 2), "peak_gib": round(peak_gib(), 2)}))


def peak_gib() -> float:
    """Highest resident memory of this process so far, file pages that it maps included.

    Linux hands ``ru_maxrss`` down from the parent, so its own ``VmHWM`` is read where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure(task: str, path: Path, folder: Path) -> dict[str, Any]:
    """Runs one task in a process of its own: its time without imports, its peak resident memory."""
    command = [sys.executable, "-m", "benchmarks.prepare", "child", task, str(path), str(folder)]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


def run(config: PrepareBenchmark, folder: Path) -> dict[str, Any]:
    def archive(num_rows: int) -> Path:
        path = folder / f"ml-25m-{num_rows}.zip"
        if not path.exists():
            print(f"generating {num_rows:,} rows into {path}", flush=True)
            generate(path, num_rows)
        return path

    main = archive(config.rows)
    with tempfile.TemporaryDirectory(dir=folder) as targets:
        result = {"rows": config.rows, **measure("recray", main, Path(targets) / "main")}
        print(f"recray, {config.rows:,} rows: {result['seconds']} s, {result['peak_gib']} GiB", flush=True)
        if config.peer_rows:
            small = archive(config.peer_rows)
            own = measure("recray", small, Path(targets) / "own")
            peer = measure("pandas", small, Path(targets) / "peer")
            result["peer"] = {"rows": config.peer_rows, "recray": own, "pandas": peer}
            result["recray_vs_pandas_seconds"] = round(own["seconds"] / peer["seconds"], 3)
            print(
                f"{config.peer_rows:,} rows: recray {own['seconds']} s, pandas {peer['seconds']} s",
                flush=True,
            )
    result["table"] = of_table(config, folder)
    return result


def of_table(config: PrepareBenchmark, folder: Path) -> dict[str, Any]:
    """The same interactions as a Parquet table, by each reader in turn."""
    path = folder / f"growth-{config.rows}.parquet"
    if not path.exists():
        growth.generate(path, config.rows)
    found: dict[str, Any] = {}
    for how in ("memory", "partitions", "ray"):
        with tempfile.TemporaryDirectory(dir=folder) as home:
            found[how] = measure(how, path, Path(home))
        print(f"{how}, {config.rows:,} rows of Parquet: {found[how]}", flush=True)
    for how in ("partitions", "ray"):
        found[f"{how}_vs_memory_seconds"] = round(found[how]["seconds"] / found["memory"]["seconds"], 2)
    return found


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        logging.basicConfig(level=logging.INFO, format="%(relativeCreated)6d ms  %(message)s")
        task, path, target = sys.argv[2:]
        run_child(task, Path(path), Path(target))
        return
    config = tyro.cli(PrepareBenchmark, description=__doc__)
    with Load() as load, tempfile.TemporaryDirectory() as temporary:
        folder = config.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        load.finish(run(config, folder))


if __name__ == "__main__":
    main()
