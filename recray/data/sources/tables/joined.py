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
    name = pieces[0].name
    require_one_kind(name, [piece.dtype for piece in pieces], labels)
    alike = [_in_utc(piece) for piece in pieces] if _zones_differ(pieces) else list(pieces)
    if any(_kind(piece.dtype) == "text" for piece in alike):
        return pl.concat([as_text(piece) for piece in alike])
    try:
        return pl.concat([piece.to_frame() for piece in alike], how="vertical_relaxed").to_series()
    except pl.exceptions.PolarsError:  # objects or lists of different things
        first = pieces[0].dtype
        other = next(n for n, piece in enumerate(pieces) if piece.dtype != first)
        raise _different(name, [(first, labels[0]), (pieces[other].dtype, labels[other])]) from None


def require_one_kind(name: str, dtypes: Sequence[pl.DataType], labels: Sequence[str]) -> None:
    """Numbers, times and text each go with their like, and all of them with text; Polars would make numbers
    of dates beside numbers.

    Raises:
        DataError: the files hold different things under that name.
    """
    of_kind: dict[str, tuple[pl.DataType, str]] = {}
    for dtype, label in zip(dtypes, labels, strict=True):
        if kind := _kind(dtype):
            of_kind.setdefault(kind, (dtype, label))
    if len(of_kind) > 1 and not ("text" in of_kind and of_kind.keys() <= {"text", "numbers", "times"}):
        raise _different(name, list(of_kind.values()))


def _different(name: str, found: Sequence[tuple[pl.DataType, str]]) -> DataError:
    (one, here), (other, there), *_ = found
    return DataError(
        f"column {name!r} has type {one} in {here} and {other} in {there}: write it as one type in all files"
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
