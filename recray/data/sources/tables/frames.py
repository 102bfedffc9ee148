"""A DataFrame of pandas, Polars or Arrow as a data set: kept once as Parquet, then a table like any other."""

import hashlib
import io
from pathlib import Path
from urllib.parse import urlencode

import polars as pl

from recray import paths
from recray.config import ConfigError
from recray.folders import write_whole
from recray.schema import DataError


def frame_table(frame: object, name: str, **options: object) -> str:
    """Keeps the frame in the home folder and returns what names it wherever a data set is named.

    Args:
        frame: of pandas, Polars or Arrow, or anything with Arrow's C stream interface; a pandas index is
        no column. name: of the data set, in bundles and on cards. Other content under it is another state
        of the same. options: of ``InteractionTable``, e.g. ``user="visitor"``, or of ``ClickTable``, e.g.
        ``label="bought"``; ``items`` and ``users`` may be frames too.

    Raises:
        ConfigError: it is no frame, or the name would not do as the name of a file.
        DataError: a column is of a type that no table holds.
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
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    return path


def _polars(frame: object) -> pl.DataFrame:
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    try:
        if type(frame).__module__.partition(".")[0] == "pandas":
            return pl.from_pandas(frame)
        if hasattr(frame, "__arrow_c_stream__"):
            return pl.DataFrame(frame)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"the frame cannot be read ({str(error).splitlines()[0]}): convert that column"
        ) from error
    raise ConfigError(f"a {type(frame).__name__} is no DataFrame: give one of pandas, Polars or Arrow")


def _parquet(frame: pl.DataFrame) -> bytes:
    content = io.BytesIO()
    try:
        frame.write_parquet(content)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"the frame cannot be kept ({str(error).splitlines()[0]}): convert that column"
        ) from error
    return content.getvalue()
