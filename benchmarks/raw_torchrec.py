"""The peer of ``benchmarks.dlrm``: TorchRec's own DLRM in TorchRec's own loop, nothing of recray around it.

torchrun --nproc-per-node 2 -m benchmarks.raw_torchrec --rows 2000000 --steps 100

Rank 0 prints samples/s over all workers as one JSON line.
"""

import argparse
import json
import time
from typing import Any

import torch
import torch.distributed as dist
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from torch.nn import functional
from torchrec import EmbeddingBagCollection, KeyedJaggedTensor
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.models.dlrm import DLRM
from torchrec.modules.embedding_configs import EmbeddingBagConfig

from benchmarks.dlrm_world import (
    BOTTOM,
    DENSE,
    DIM,
    EPS,
    FEATURES,
    GLOBAL_BATCH,
    LEARNING_RATE,
    TOP,
    WARM_UP_STEPS,
    draw,
)


def sharded_model(rows: int) -> DistributedModelParallel:
    tables = [
        EmbeddingBagConfig(name=name, embedding_dim=DIM, num_embeddings=rows, feature_names=[name])
        for name in FEATURES
    ]
    collection = EmbeddingBagCollection(device=torch.device("meta"), tables=tables)
    model = DLRM(collection, DENSE, list(BOTTOM), [*TOP, 1], dense_device=torch.device("cpu"))
    fused = {"optimizer": EmbOptimType.EXACT_ROWWISE_ADAGRAD, "learning_rate": LEARNING_RATE, "eps": EPS}
    sharder: Any = EmbeddingBagCollectionSharder(fused_params=fused)
    planner = EmbeddingShardingPlanner(
        topology=Topology(world_size=dist.get_world_size(), compute_device="cpu")
    )
    plan = planner.collective_plan(model, [sharder], dist.group.WORLD)
    return DistributedModelParallel(model, device=torch.device("cpu"), plan=plan, sharders=[sharder])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    model = sharded_model(args.rows)
    dense = [p for name, p in model.named_parameters() if "embedding_bags" not in name]
    optimizer = torch.optim.AdamW(dense, lr=1e-3, fused=True)
    started_s = 0.0
    for step in range(WARM_UP_STEPS + args.steps):
        if step == WARM_UP_STEPS:
            dist.barrier()
            started_s = time.perf_counter()
        drawn = draw(step, rank, world_size, args.rows)
        lengths_N = torch.ones(drawn.ids_FB.numel(), dtype=torch.int64)
        ids = KeyedJaggedTensor(list(FEATURES), drawn.ids_FB.flatten(), lengths=lengths_N)
        logits_B = model(drawn.dense_BF, ids).squeeze(1)
        loss: Any = functional.binary_cross_entropy_with_logits(logits_B, drawn.labels_B)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    dist.barrier()
    rate = args.steps * GLOBAL_BATCH / (time.perf_counter() - started_s)
    if rank == 0:
        print(json.dumps({"samples_per_s": rate}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
