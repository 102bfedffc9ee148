"""A small table of clicks, and a DLRM that is trained on it and published."""

from pathlib import Path

import numpy as np
import polars as pl

from recray.models.dlrm import DLRMConfig
from recray.pipelines.train import Trained, train
from recray.recipes.dlrm import DLRM_RECIPE, DLRMRun, RowsConfig
from recray.store import Store
from recray.train.context import LaunchConfig
from recray.train.loop import LoopConfig

NUM_ROWS = 600


def frame() -> pl.DataFrame:
    """A click depends on country and slot together."""
    rng = np.random.default_rng(0)
    country, slot = rng.integers(3, size=NUM_ROWS), rng.integers(2, size=NUM_ROWS)
    chance = np.where((country == 0) == (slot == 0), 0.85, 0.15)
    return pl.DataFrame(
        {
            "click": (rng.random(NUM_ROWS) < chance).astype(int),
            "country": pl.Series(["DE", "AT", "CH"]).gather(country),
            "slot_id": slot,
            "price": [None if n % 5 == 0 else n % 17 for n in range(NUM_ROWS)],
            "time": range(NUM_ROWS),
        }
    )


def trained(dataset: Path | str, store: Path, seed: int = 0) -> Trained:
    run = DLRMRun(
        data=RowsConfig(dataset=str(dataset)),
        model=DLRMConfig(embedding_dim=8, bottom=(8,), top=(16,), dense="standard"),
        loop=LoopConfig(metric="auc", epochs=20, batch_size=64, patience=0),
        refit=False,  # what answers is what was measured
        seed=seed,
    )
    return train(DLRM_RECIPE, run, LaunchConfig(where="local"), Store(store))
