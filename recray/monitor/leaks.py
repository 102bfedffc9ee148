"""Leaks: ways in which data tells a model what it will not know when it is asked.

Kapoor and Narayanan, Leakage and the Reproducibility Crisis in Machine-Learning-Based Science, Patterns 2023.
The checks are in ``event_leaks.py`` and ``row_leaks.py``: they look at arrays or frames, know no data set,
and answer None where all is well.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recray.arrays import Float64s
from recray.schema import DataError

LEAKS = "leaks.json"
EXAMPLES = 3
_MOMENT = (
    r"^(?<day>\d{4}-\d{2}-\d{2})(?:[T ](?<h>\d{1,2}):(?<m>\d{2})(?::(?<s>\d{2}))?"
    r"[^+-]*(?:(?<zone>[+-]\d{2}):?(?<zone_m>\d{2})?)?)?"
)
FEW = 20  # cases below which nothing is said


@dataclass(frozen=True, kw_only=True)
class Leak:
    """One finding."""

    kind: str
    number: float
    text: str
    """What the number is, and the way out."""
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}: {self.text} (e.g. {'; '.join(self.examples)})"


def require_none(leaks: Sequence[Leak]) -> None:
    """
    Raises:
        DataError: there are leaks; says them all.
    """
    if leaks:
        raise DataError(
            f"{len(leaks)} leak{'s' if len(leaks) > 1 else ''}, and strict was asked for:\n"
            + "\n".join(map(str, leaks))
        )


def write_leaks(folder: Path, leaks: Sequence[Leak]) -> None:
    """Puts the findings into a bundle's folder; an empty list says that there was a look."""
    (folder / LEAKS).write_text(json.dumps([asdict(leak) for leak in leaks], indent=1, ensure_ascii=False))


def seconds_of(column: pl.Series) -> Float64s | None:
    """Unix seconds of a column of dates or moments, NaN where there is none; None for other columns.

    Texts are ISO 8601, those without a zone UTC.
    """
    if column.dtype == pl.String:
        if not column.str.contains(r"^\s*\d{4}-\d{2}-\d{2}").fill_null(value=True).all():
            return None
        parts = column.str.strip_chars().str.extract_groups(_MOMENT).struct.unnest()
        days = parts["day"].str.to_date(strict=False).cast(pl.Int64)
        hours, minutes, second, ahead, ahead_minutes = (
            parts[name].cast(pl.Int64).fill_null(0) for name in ("h", "m", "s", "zone", "zone_m")
        )
        is_behind = parts["zone"].str.starts_with("-").fill_null(value=False).cast(pl.Int64)
        clock = (hours - ahead) * 3600 + (minutes - ahead_minutes * (1 - 2 * is_behind)) * 60 + second
        seconds: Float64s = (days * 86_400.0 + clock).fill_null(float("nan")).to_numpy()
        return None if np.isnan(seconds).all() else seconds
    if column.dtype not in (pl.Date, pl.Datetime):
        return None
    moments = column.cast(pl.Datetime("us")).cast(pl.Int64)
    return moments.cast(pl.Float64).fill_null(float("nan")).to_numpy() / 1e6
