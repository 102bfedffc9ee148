"""A DataFrame of pandas, Polars or Arrow as a data set: kept once as Parquet, then a table like any other."""

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, cast, runtime_checkable
from urllib.parse import urlencode

import polars as pl

from recray import paths
from recray.config import ConfigError
from recray.folders import write_whole
from recray.schema import DataError


@runtime_checkable
class _Pandas(Protocol):
    """What is asked of a pandas DataFrame; a Series has no columns."""

    @property
    def columns(self) -> Iterable[object]: ...

    def items(self) -> Iterable[tuple[object, object]]: ...


def frame_table(frame: object, name: str, **options: object) -> str:
    """Keeps the frame in the home folder and returns what names it wherever a data set is named.

    Args:
        frame: of pandas, Polars or Arrow, or anything with Arrow's C stream interface; a pandas index is
        no column. name: of the data set, in bundles and on cards. Other content under it is another state
        of the same. options: of ``InteractionTable``, e.g. ``user="visitor"``, or of ``ClickTable``, e.g.
        ``label="bought"``; ``items`` and ``users`` may be frames too.

    Raises:
        ConfigError: it is no frame, or the name would not do as the name of a file.
        DataError: a column is of a type that no table holds, or the home folder cannot be written to.
    """
    if not name or not name.replace("-", "").replace("_", "").isalnum():
        raise ConfigError(f"name={name!r}: give the data set a name of letters, digits, - and _")
    told = {
        key: str(_kept(value, f"{name}-{key}"))
        if key in ("items", "users") and not _is_place(value)
        else value
        for key, value in options.items()
    }
    return f"{_kept(frame, name)}?{urlencode({'name': name, **told})}"


def _is_place(value: object) -> bool:
    return isinstance(value, (str, Path))


def _kept(frame: object, name: str) -> Path:
    content = _parquet(_polars(frame))
    path = paths.home() / "frames" / f"{name}-{hashlib.sha256(content).hexdigest()[:8]}.parquet"
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        except OSError as error:
            raise DataError(
                f"{name} cannot be kept in {path.parent} ({error.strerror or error}): make room there or let "
                "it be written to; RECRAY_HOME names another place"
            ) from error
    return path


def _polars(frame: object) -> pl.DataFrame:
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if type(frame).__module__.partition(".")[0] == "pandas":
        return _of_pandas(frame)
    if not hasattr(frame, "__arrow_c_stream__"):
        raise ConfigError(f"a {type(frame).__name__} is no DataFrame: give one of pandas, Polars or Arrow")
    try:
        return pl.DataFrame(frame)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise DataError(f"the frame cannot be read ({_sentence(error)}): convert that column") from error


def _of_pandas(frame: object) -> pl.DataFrame:
    if not isinstance(frame, _Pandas):
        raise ConfigError(f"a {type(frame).__name__} is no DataFrame: call its to_frame()")
    columns: dict[str, pl.Series] = {}
    for key, values in frame.items():
        name = str(key)
        if name in columns:
            raise DataError(f"the frame has two columns called {name!r}: rename one, or leave one out")
        try:
            columns[name] = cast(pl.Series, pl.from_pandas(values))
        except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"column {name!r} of the frame cannot be read ({_sentence(error)}): make it one type, e.g. "
                f"frame[{name!r}] = frame[{name!r}].astype(str)"
            ) from error
    return pl.DataFrame(columns)


def _sentence(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _parquet(frame: pl.DataFrame) -> bytes:
    content = io.BytesIO()
    try:
        frame.write_parquet(content)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"the frame cannot be kept ({_sentence(error)}): convert that column") from error
    return content.getvalue()
