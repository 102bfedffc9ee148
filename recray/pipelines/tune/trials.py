"""The trials of a search as one table."""

from pathlib import Path

import polars as pl

from recray.launch.tune_domains import label
from recray.pipelines.tune.search import Found


def write_trials(path: Path, found: Found) -> Path:
    """A Parquet file with a row for each trial, best first: how it ended, and a column for each setting."""
    rows = [
        {
            "trial": record.number,
            "status": record.status,
            str(found.space.goal): record.score,
            "best_epoch": record.best_epoch,
            "epochs": record.epochs,
            "duration_s": record.duration_s,
            "seed": record.seed,
            "reason": record.reason,
            **{name: label(value) for name, value in record.changes.items()},
        }
        for record in found.records
    ]
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
    return path
