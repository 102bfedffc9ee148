"""The rows of a file, scored by a published click model: a Parquet file with one more column."""

import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow.parquet as pq

from recray.bundles.clicks import RowScorer, open_scorer
from recray.schema import DataError
from recray.store.bundle import Bundle

SCORE = "score"
CHUNK_ROWS = 50_000


class ScoredFile(NamedTuple):
    """What was written."""

    rows: int
    unknown: Counter[str]  # of each column of categories that has any: values that training did not have


def score_file(bundle: Bundle, source: Path, target: Path, separator: str = ",") -> ScoredFile:
    """Writes ``target``: the columns of ``source`` in its order, and ``score``, the probability of a click.

    Args:
        source: CSV with the names of the columns above, kept as text, or Parquet; read a chunk at a time.

    Raises:
        StoreError: the bundle takes no raw values.
        ConfigError: a column that the model reads is missing.
        DataError: nothing that is read here, a column ``score``, no folder for the target, or a value that
            is no number.
    """
    scorer = open_scorer(bundle)
    rows = _scan(source, separator)
    if not target.parent.is_dir():
        raise DataError(f"{target}: there is no folder {target.parent}")
    with tempfile.TemporaryDirectory(prefix=".score-", dir=target.parent) as folder:
        staged = Path(folder) / "rows.parquet"
        try:
            written = _write(scorer, rows, staged)
        except DataError as error:
            raise DataError(f"{source}: {error}") from None
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{source} cannot be read: {error}") from error
        os.replace(staged, target)
    return written


def _write(scorer: RowScorer, rows: pl.LazyFrame, path: Path) -> ScoredFile:
    if SCORE in rows.collect_schema():
        raise DataError(f"it has a column {SCORE!r} already: rename it")
    count, unknown = 0, Counter[str]()
    schema = (
        rows.with_columns(pl.lit(0, pl.Float32).alias(SCORE)).collect_schema().to_frame().to_arrow().schema
    )
    with pq.ParquetWriter(path, schema) as writer:
        for chunk in rows.collect_batches(chunk_size=CHUNK_ROWS, maintain_order=True):
            scored = scorer.score_table(chunk)
            writer.write_table(chunk.with_columns(pl.Series(SCORE, scored.probabilities_N)).to_arrow())
            count += len(chunk)
            unknown.update(scored.unknown)
    return ScoredFile(count, unknown)


def _scan(source: Path, separator: str) -> pl.LazyFrame:
    if not source.is_file():
        raise DataError(f"there is no file {source}")
    if source.suffix == ".parquet":
        return pl.scan_parquet(source, glob=False)
    if source.suffix in (".csv", ".tsv"):
        separator = "\t" if source.suffix == ".tsv" else separator
        return pl.scan_csv(source, glob=False, separator=separator, infer_schema=False)
    raise DataError(f"{source}: rows are scored from .csv, .tsv and .parquet")
