"""A DLRM run cut into slices: each on some number of processes, from the checkpoint of the one before."""

import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from recray import checkpoint
from recray.batch import RankingBatch
from recray.data.batches.rows import MemoryRows
from recray.data.row_block import MultiHot, RowBlock
from recray.models.dlrm import DLRM, DLRMConfig
from recray.ops.embedding_bags import EmbeddingConfig, Placement
from recray.schema import RowSchema, SparseFeature
from recray.train.context import Context
from recray.train.loop import LoopConfig, fit
from recray.train.optim import OptimConfig
from tests.ops.embedding_world import Backend, Sharding

SCHEMA = RowSchema(
    dense=("row", "x"),
    sparse=(
        SparseFeature(name="user", size=300),
        SparseFeature(name="item", size=200),
        SparseFeature(name="tags", size=40, multi_hot=True),
    ),
)
NUM_ROWS, BATCH, EPOCHS = 3_190, 32, 3  # 100 steps an epoch, of 31 or 32 rows
JOIN_S = 240


@dataclass(frozen=True)
class Slice:
    """Until which step, on how many processes, with which tables."""

    stop: int
    workers: int
    backend: Backend = "torch"
    sharding: Sharding = "auto"


def rows() -> RowBlock:
    rng = np.random.default_rng(5)
    dense_NF = np.stack([np.arange(NUM_ROWS), rng.random(NUM_ROWS)], axis=1).astype(np.float32)
    counts_N = rng.integers(0, 4, NUM_ROWS)
    tags = MultiHot(
        rng.integers(0, 40, counts_N.sum()).astype(np.int32), np.concatenate([[0], np.cumsum(counts_N)])
    )
    users_N, items_N = (rng.integers(0, size, NUM_ROWS).astype(np.int32) for size in (300, 200))
    labels_N = ((users_N + items_N) % 3 == 0).astype(np.float32)
    return RowBlock(SCHEMA, dense_NF, {"user": users_N, "item": items_N, "tags": tags}, labels_N)


class Recorded(MemoryRows):
    """Notes which rows were handed out at each step."""

    def __init__(self) -> None:
        super().__init__(rows(), BATCH, seed=2)
        self.seen: dict[int, list[int]] = {}

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> RankingBatch:
        batch = super().batch(epoch, step, rank, world_size)
        self.now = epoch * self.num_steps() + step
        self.seen[self.now] = batch.dense_BF[:, 0].long().tolist()
        return batch


class Stopped(Exception):
    """The process 'dies' here; nothing of it survives but its checkpoints."""


def new_model(placement: Placement, embedding: EmbeddingConfig) -> DLRM:
    config = DLRMConfig(embedding=embedding, embedding_dim=8, bottom=(16,), top=(16,), dense="minmax")
    model = DLRM(config, SCHEMA, placement, seed=1)
    model.set_dense_stats(torch.zeros(2), torch.tensor([float(NUM_ROWS), 1.0]), torch.zeros(2), torch.ones(2))
    return model


def _work(rank: int, piece: Slice, resume: Path | None, folder: Path, meet: str) -> None:
    torch.set_num_threads(1)
    if piece.workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=piece.workers)
    embedding = EmbeddingConfig(backend=piece.backend, sharding=piece.sharding, lr=0.02)
    model = new_model(Placement(rank, piece.workers), embedding)
    source, losses = Recorded(), {}
    plain_loss = model.loss

    def loss(batch: RankingBatch) -> dict[str, torch.Tensor]:
        result = plain_loss(batch)
        losses[source.now] = result["loss"].item() * batch.size / batch.total
        return result

    vars(model)["loss"] = loss  # in the place of the method

    def meet_others() -> None:
        if piece.workers > 1:
            dist.barrier()

    def keep(metrics: dict[str, float], written: Path | None) -> None:
        assert written is not None
        shutil.copytree(written, folder / "checkpoint", dirs_exist_ok=True)
        meet_others()
        at = checkpoint.progress(folder / "checkpoint")
        meet_others()
        if at["epoch"] * source.num_steps() + at["step"] == piece.stop:
            raise Stopped
        if rank == 0:
            shutil.rmtree(folder / "checkpoint")
        meet_others()

    context = Context(rank, piece.workers, resume_from=resume, report=keep)
    loop = LoopConfig(epochs=EPOCHS, patience=0, metric="none", checkpoint_every_steps=25)
    with contextlib.suppress(Stopped):
        fit(
            model,
            source,
            lambda _: {"none": (0.0, 1.0)},
            config=loop,
            optim=OptimConfig(method="adagrad", lr=0.02, schedule="cosine"),
            context=context,
        )
    kept = {step: [losses[step], source.seen[step]] for step in losses if step < piece.stop}
    (folder / f"{rank}.json").write_text(json.dumps(kept))
    os._exit(0)  # as abruptly as it can be; also spares the peers' shutdown


def run_slices(slices: list[Slice], folder: Path) -> dict[int, tuple[float, list[int]]]:
    """step -> (loss of the global batch, its rows in order) over all slices; later ones win."""
    found: dict[int, tuple[float, list[int]]] = {}
    resume = None
    for number, piece in enumerate(slices):
        own = folder / str(number)
        own.mkdir()
        args = (piece, resume, own, str(own / "meet"))
        context = start_processes(_work, args, nprocs=piece.workers, join=False, start_method="spawn")
        # One call waits for one of them.
        assert any(context.join(JOIN_S) for _ in range(piece.workers)), "the workers hang"
        parts = [json.loads((own / f"{rank}.json").read_text()) for rank in range(piece.workers)]
        for step in parts[0]:
            assert int(step) not in found, f"step {step} was done twice"
            loss = sum(part[step][0] for part in parts)
            found[int(step)] = (loss, [row for part in parts for row in part[step][1]])
        resume = own / "checkpoint"
    return found
