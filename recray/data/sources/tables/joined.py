"""One column from those of several files, which need not be of one type."""

from collections.abc import Sequence

import polars as pl

from recray.schema import DataError


def pieces_of(name: str, frames: Sequence[pl.DataFrame]) -> list[pl.Series]:
    """The column in each file; empty where a file has none of that name."""
    return [
        frame[name] if name in frame.columns else pl.Series(name, [None] * len(frame), dtype=pl.Null)
        for frame in frames
    ]


def joined(pieces: Sequence[pl.Series], labels: Sequence[str]) -> pl.Series:
    """All values, file by file: numbers of several widths become one, and what is text in one file is text.

    Args:
        pieces: the column in each file, of one name. labels: the files.

    Raises:
        DataError: the files hold different things under that name.
    """
    if len(pieces) == 1:
        return pieces[0]
    alike = [_in_utc(piece) for piece in pieces] if _zones_differ(pieces) else list(pieces)
    kinds = [_kind(piece.dtype) for piece in alike]
    found = {kind for kind in kinds if kind}
    if "text" in found and found <= {"text", "numbers", "times"}:
        return pl.concat([as_text(piece) for piece in alike])
    if len(found) <= 1:
        try:
            return pl.concat([piece.to_frame() for piece in alike], how="vertical_relaxed").to_series()
        except pl.exceptions.PolarsError:
            pass  # of objects or lists of different things
    first = next(n for n, kind in enumerate(kinds) if kind)
    others = [n for n, piece in enumerate(pieces) if kinds[n] and piece.dtype != pieces[first].dtype]
    other = next((n for n in others if kinds[n] != kinds[first]), others[0])
    raise DataError(
        f"column {pieces[0].name!r} has type {pieces[first].dtype} in {labels[first]} and "
        f"{pieces[other].dtype} in {labels[other]}: write it as one type in all files"
    )


def as_text(column: pl.Series) -> pl.Series:
    """Whole numbers are written without decimals, also where they are stored as floats."""
    if column.dtype.is_float() and bool((column == column.floor()).all()):
        column = column.cast(pl.Int64, strict=False)
    return column.cast(pl.String)


def _kind(dtype: pl.DataType) -> str:
    if dtype == pl.Null:
        return ""
    if dtype == pl.String or isinstance(dtype, (pl.Categorical, pl.Enum)):
        return "text"
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        return "times"
    if dtype.is_numeric() or dtype == pl.Boolean:
        return "numbers"
    return type(dtype).__name__


def _zones_differ(pieces: Sequence[pl.Series]) -> bool:
    return len({p.dtype.time_zone for p in pieces if isinstance(p.dtype, pl.Datetime)}) > 1


def _in_utc(piece: pl.Series) -> pl.Series:
    """Times with a zone as those without one are taken."""
    if not isinstance(piece.dtype, pl.Datetime) or piece.dtype.time_zone is None:
        return piece
    return piece.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
