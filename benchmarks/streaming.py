"""Training on more rows than should be in memory: what a worker holds after 2 million and after all of them.

python -m benchmarks.streaming [--rows 25000000] [--reader ray]

Criteo-format rows are generated, prepared as any Criteo file is, and streamed by Ray Data into two Ray
Train workers, once. Each worker notes its private memory on the way, and adds up a hash of every row
that it was given; the sum over workers must be that of the prepared files. The last line is one JSON object.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from benchmarks.load import Load, watched
from recray import paths
from recray.batch import RankingBatch
from recray.data.batches.rows import StreamedRows
from recray.launch import launch
from recray.models.dlrm import DLRMConfig
from recray.recipes.dlrm import DLRM_RECIPE, DLRMRun, RowsConfig, open_rows
from recray.track.console import setup_logging
from recray.train.context import Context, LaunchConfig
from recray.train.loop import LoopConfig, fit

RESULT = Path(__file__).parent / "results" / "streaming.json"
FIRST_LOOK_ROWS = 2_000_000
UInt64s = npt.NDArray[np.uint64]


def private_bytes() -> int:
    """Memory of this process that is not shared with others, such as Ray's object store."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def row_hashes(batch: RankingBatch) -> int:
    """Sum over rows of a hash of all columns, modulo 2^64: the same in any order."""
    ids_FB = batch.sparse.values_N.numpy().reshape(len(batch.sparse.keys), -1).astype(np.uint64)
    dense_FB = batch.dense_BF.numpy().T.copy().view(np.uint32).astype(np.uint64)
    columns = np.concatenate([ids_FB, dense_FB, batch.labels_B.numpy().astype(np.uint64)[None]])
    odd_F: UInt64s = np.random.default_rng(0).integers(1, 2**63, len(columns), np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    mixed_B = (columns * odd_F[:, None]).sum(axis=0)
    mixed_B ^= mixed_B >> np.uint64(31)
    return int((mixed_B * np.uint64(0x9E3779B97F4A7C15)).sum())


@dataclass
class Watched:
    """A batch source that looks at the memory and at the rows that pass."""

    source: StreamedRows
    rows: int = 0  # of the global batches so far
    hashes: int = 0
    memory: list[tuple[int, int]] = field(default_factory=list)  # rows so far, bytes

    def num_steps(self) -> int:
        return self.source.num_steps()

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> RankingBatch:
        batch = self.source.batch(epoch, step, rank, world_size)
        self.hashes = (self.hashes + row_hashes(batch)) % 2**64
        before, self.rows = self.rows, self.rows + batch.total
        if before // 500_000 != self.rows // 500_000 or step == self.num_steps() - 1:
            self.memory.append((self.rows, private_bytes()))
        return batch


def train(run: DLRMRun, context: Context) -> None:
    """Trains once over the rows; reports memory, rows and hashes."""
    table = open_rows(run.data)
    assert run.data.reader != "memory"
    source = Watched(StreamedRows(table, "train", run.loop.batch_size, run.seed, reader=run.data.reader))
    started_s = time.perf_counter()
    model = DLRM_RECIPE.new(run, table, context)
    fit(
        model,
        source,
        lambda _: {run.loop.metric: (0.0, 1.0)},
        config=run.loop,
        optim=run.optim,
        context=Context(context.rank, context.world_size, context.device, progress=context.progress),
    )
    rate = source.rows / (time.perf_counter() - started_s)
    first = next(size for rows, size in source.memory if rows >= min(FIRST_LOOK_ROWS, source.rows // 2))
    seen = torch.tensor([first, source.memory[-1][1]], dtype=torch.int64)
    halves = torch.tensor([source.hashes >> 32, source.hashes % 2**32])
    if context.world_size > 1:
        dist.all_reduce(seen, dist.ReduceOp.MAX)
        dist.all_reduce(halves)
    found = ((int(halves[0]) << 32) + int(halves[1])) % 2**64
    wanted = sum(row_hashes(block.to_batch()) for block in table.blocks("train")) % 2**64
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "done").touch()
        metrics = {"first_bytes": float(seen[0]), "last_bytes": float(seen[1]), "rows_per_s": rate}
        metrics |= {"rows": float(source.rows), "each_row_once": float(found == wanted)}
        context.report(metrics, Path(folder))
    for rows, size in source.memory:
        print(f"rank {context.rank}: {rows:>12,} rows, {size / 2**20:,.0f} MiB", flush=True)


@watched
def main(load: Load) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=25_000_000, help="in all; four fifths are for training")
    parser.add_argument("--reader", choices=["ray", "threads"], default="ray")
    parser.add_argument("--batch", type=int, default=8192)
    args = parser.parse_args()
    setup_logging()
    reader: Literal["threads", "ray"] = args.reader
    dataset = f"synthetic-clicks?num_rows={args.rows}&ids=hashed&buckets=100000&max_values=100000"
    run = DLRMRun(
        data=RowsConfig(dataset=dataset, reader=reader),
        model=DLRMConfig(embedding_dim=8, bottom=(32,), top=(32,)),
        loop=LoopConfig(epochs=1, batch_size=args.batch, patience=0, metric="auc"),
    )
    began_s = time.perf_counter()
    table = open_rows(run.data)
    prepared_s = time.perf_counter() - began_s
    name = f"benchmark-streaming-{time.time_ns()}"
    metrics = launch(train, run, LaunchConfig(workers=2, run=name), "benchmark").metrics
    on_disk = sum(path.stat().st_size for path in table.folder.iterdir())
    result = {
        "rows_trained": int(metrics["rows"]),
        "each_row_once": bool(metrics["each_row_once"]),
        "mib_at_2m_rows": round(metrics["first_bytes"] / 2**20),
        "mib_at_the_end": round(metrics["last_bytes"] / 2**20),
        "memory_growth": round(metrics["last_bytes"] / metrics["first_bytes"] - 1, 4),
        "rows_per_s": round(metrics["rows_per_s"]),
        "prepared_s": round(prepared_s, 1),
        "prepared_gib": round(on_disk / 2**30, 2),
        "reader": reader,
    }
    print(f"prepared rows stay in {table.folder.relative_to(paths.home())} of RECRAY_HOME")
    load.finish(result, RESULT)


if __name__ == "__main__":
    main()
