"""What recray costs around DLRM: samples/s under Ray Train against TorchRec's own loop under torchrun.

python -m benchmarks.dlrm [--rounds 3] [--rows 2000000] [--gpu]

Eight tables, two workers, equal batches, sizes and optimizers on every side. The sides take turns, so
that what else the machine does falls on all of them; a ratio is the median over rounds. With --gpu: one
process on the GPU with the *torch* backend, no peer. The last line is one JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from benchmarks import dlrm_world as world
from benchmarks.load import Load, watched
from recray.batch import KeyedJagged, RankingBatch
from recray.launch import launch
from recray.models.dlrm import DLRM, DLRMConfig
from recray.ops.embedding_bags import EmbeddingConfig, Placement
from recray.ops.embedding_plan import bytes_per_rank
from recray.schema import RowSchema, SparseFeature
from recray.track.console import setup_logging
from recray.train.context import Context, LaunchConfig
from recray.train.loop import LoopConfig, Sums, fit
from recray.train.optim import OptimConfig

Backend = Literal["torch", "torchrec"]
WORKERS = 2
RESULT = Path(__file__).parent / "results" / "dlrm.json"


@dataclass(frozen=True)
class Run:
    """One measurement."""

    backend: Backend = "torchrec"
    rows: int = 2_000_000
    steps: int = 100


class Clocked:
    """The batches of ``dlrm_world``; notes when the warm-up was over."""

    def __init__(self, run: Run) -> None:
        self.run, self.started_s = run, 0.0

    def num_steps(self) -> int:
        return world.WARM_UP_STEPS + self.run.steps

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> RankingBatch:
        if step == world.WARM_UP_STEPS:
            self.started_s = time.perf_counter()
        drawn = world.draw(step, rank, world_size, self.run.rows)
        ids = KeyedJagged(world.FEATURES, drawn.ids_FB.flatten(), torch.ones_like(drawn.ids_FB))
        return RankingBatch(drawn.dense_BF, ids, drawn.labels_B)


def timed(run: Run, context: Context) -> None:
    """Trains for some steps and reports samples/s over all workers."""
    embedding = EmbeddingConfig(backend=run.backend, lr=world.LEARNING_RATE, eps=world.EPS)
    config = DLRMConfig(
        embedding=embedding, embedding_dim=world.DIM, bottom=world.BOTTOM[:-1], top=world.TOP, dense="none"
    )
    schema = RowSchema(
        dense=tuple(f"d{i}" for i in range(world.DENSE)),
        sparse=tuple(SparseFeature(name=name, size=run.rows) for name in world.FEATURES),
    )
    model = DLRM(config, schema, Placement(context.rank, context.world_size, context.device))
    assert model.embeddings is not None
    load = bytes_per_rank(model.embeddings.plan, context.world_size)
    source = Clocked(run)

    def stop_the_clock(_: nn.Module) -> Sums:
        if context.device.type == "cuda":
            torch.cuda.synchronize()
        elapsed_s = time.perf_counter() - source.started_s
        rate = run.steps * world.GLOBAL_BATCH / elapsed_s
        share = max(load) / sum(load)
        return {"samples_per_s": (rate, 1.0), "max_rank_share": (share, 1.0)}

    loop = LoopConfig(epochs=1, metric="samples_per_s", patience=0)
    optim = OptimConfig(lr=1e-3)
    kept: dict[str, float] = {}
    # The checkpoint of two gigabytes would say nothing here.
    quiet = replace(context, report=lambda metrics, _: kept.update(metrics))
    fit(model, source, stop_the_clock, config=loop, optim=optim, context=quiet)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "done").touch()
        context.report(kept, Path(folder))


def measured(run: Run, config: LaunchConfig) -> dict[str, float]:
    name = f"benchmark-dlrm-{run.backend}-{time.time_ns()}"
    return launch(timed, run, replace(config, run=name), "benchmark").metrics


def raw_torchrec(run: Run) -> float:
    """Samples/s of the peer."""
    torchrun = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(WORKERS),
    ]
    peer = ["-m", "benchmarks.raw_torchrec", "--rows", str(run.rows), "--steps", str(run.steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, *peer], env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        raise SystemExit(f"the raw TorchRec loop failed:\n{done.stderr[-2000:]}")
    rate: float = json.loads(done.stdout.strip().splitlines()[-1])["samples_per_s"]
    return rate


def against_peers(rows: int, rounds: int) -> dict[str, object]:
    ray = LaunchConfig(where="ray", workers=WORKERS)
    rates: dict[str, list[float]] = {"ray_torchrec": [], "raw_torchrec": [], "ray_torch": []}
    share = 0.0
    for _ in range(rounds):
        for backend in ("torchrec", "torch"):
            found = measured(Run(backend=backend, rows=rows), ray)
            rates[f"ray_{backend}"].append(found["samples_per_s"])
            share = max(share, found["max_rank_share"])
        rates["raw_torchrec"].append(raw_torchrec(Run(rows=rows)))
        print("  ".join(f"{name} {values[-1]:,.0f}/s" for name, values in rates.items()), flush=True)

    def ratio(over: str, under: str) -> float:
        pairs = zip(rates[over], rates[under], strict=True)
        return round(statistics.median(a / b for a, b in pairs), 3)

    medians = {f"{name}_samples_per_s": round(statistics.median(v)) for name, v in rates.items()}
    return {
        **medians,
        "ray_vs_raw_torchrec": ratio("ray_torchrec", "raw_torchrec"),
        "torch_vs_torchrec": ratio("ray_torch", "ray_torchrec"),
        "max_rank_share": round(share, 4),
    }


def cost_by_rows(rows: int, rounds: int) -> dict[str, float]:
    """Microseconds per sample for 1, 4 and 16 sixteenths of the rows: *torch* backend, one process."""
    torch.set_num_threads(1)
    costs: dict[str, list[float]] = {}
    for _ in range(rounds):
        for times in (1, 4, 16):
            run = Run(backend="torch", rows=rows // 16 * times)
            rate = measured(run, LaunchConfig(where="local"))["samples_per_s"]
            costs.setdefault(f"{times}x", []).append(1e6 / rate)
    return {name: round(statistics.median(values), 2) for name, values in costs.items()}


@watched
def main(load: Load) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--gpu", action="store_true")
    args = parser.parse_args()
    setup_logging()
    result: dict[str, object]
    if args.gpu:
        local = LaunchConfig(where="local", gpu=True)
        rates = [measured(Run(backend="torch", rows=args.rows), local) for _ in range(args.rounds)]
        result = {"gpu_torch_samples_per_s": round(statistics.median(r["samples_per_s"] for r in rates))}
    else:
        result = against_peers(args.rows, args.rounds)
        result["us_per_sample_by_rows"] = cost_by_rows(args.rows, args.rounds)
    result |= {"tables": world.NUM_TABLES, "rows": args.rows, "dim": world.DIM, "batch": world.GLOBAL_BATCH}
    load.finish(result, RESULT.with_name("dlrm-gpu.json") if args.gpu else RESULT)


if __name__ == "__main__":
    main()
