"""Trains one model for a few epochs and prints what each took: alone, by torchrun, or on Ray workers.

python -m benchmarks.scaling_worker MODEL PRESET EPOCHS [ray WORKERS]
"""

import functools
import json
import os
import sys

import torch
import torch.distributed as dist

from recray.config import override
from recray.launch import launch
from recray.recipes import RECIPES
from recray.train.context import Context, LaunchConfig


def main(model: str, preset: str, epochs: int, workers: int) -> None:
    recipe = RECIPES[model]
    run = override(recipe.presets[preset][1], {"loop.stop_after": epochs, "loop.patience": 0})
    rates: list[float] = []
    if workers:
        recipe.open(run)  # prepared before workers meet it
        work = functools.partial(recipe.work, learn="training")
        rates = [
            report["samples_per_s"]
            for report in launch(work, run, LaunchConfig(workers=workers), "scaling").history()
        ]
    else:
        torch.set_num_threads(1)
        rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if world > 1:
            dist.init_process_group("gloo")
        told = lambda samples, seconds: rates.append(samples / seconds)  # noqa: E731
        recipe.work(run, Context(rank=rank, world_size=world, trained=told))
        if rank:
            return
    print(json.dumps({"samples_per_s": rates}))


if __name__ == "__main__":
    model, preset, epochs, *ray = sys.argv[1:]
    main(model, preset, int(epochs), int(ray[1]) if ray else 0)
