"""Item content brought in a file: raw ids and their vectors.

* ``.parquet``: a column of raw ids and a column of vectors (lists of numbers), or further columns that
  are the dimensions;
* ``.csv``: a column of raw ids, and columns that are the dimensions;
* ``.safetensors``: ``vectors`` [rows, F], and the raw ids as a JSON list under ``raw_ids`` in the header;
* ``.npy``: [rows, F], with the raw ids beside it in ``<name>.ids.txt``, one per line.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import safetensors
from safetensors.numpy import load_file, save

from recray.arrays import Float32s
from recray.config import nearest
from recray.data.sources.files.raw_files import require_file
from recray.schema import DataError

_ID_COLUMNS = ("raw_id", "item_id", "item", "asin", "movieId")


@dataclass(frozen=True)
class FileEncoder:
    """Vectors by raw id, those of items that the data set does not have included."""

    raw_ids: tuple[str, ...]
    vectors_NF: Float32s

    @property
    def dim(self) -> int:
        return int(self.vectors_NF.shape[1])

    @cached_property
    def digest(self) -> str:
        digest = hashlib.sha256(json.dumps(self.raw_ids).encode())
        digest.update(np.ascontiguousarray(self.vectors_NF, "<f4").data)
        return digest.hexdigest()

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {raw_id: row for row, raw_id in enumerate(self.raw_ids)}

    def encode(self, items: pl.DataFrame) -> Float32s:
        """The vectors of the ``raw_id`` column, as they were brought; zero for an id not in the file."""
        rows_I = np.array([self._row_of.get(raw_id, -1) for raw_id in items["raw_id"].to_list()], np.int64)
        vectors_IF = np.zeros((len(items), self.dim), np.float32)
        vectors_IF[rows_I >= 0] = self.vectors_NF[rows_I[rows_I >= 0]]
        return vectors_IF

    def save(self, folder: Path) -> None:
        values = {"kind": "file", "raw_ids": self.raw_ids}
        (folder / "encoder.json").write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
        (folder / "encoder.safetensors").write_bytes(save({"vectors": self.vectors_NF}))

    @staticmethod
    def from_json(values: Mapping[str, Any], folder: Path) -> "FileEncoder":
        return FileEncoder(tuple(values["raw_ids"]), load_file(folder / "encoder.safetensors")["vectors"])


def read_vectors(path: Path) -> FileEncoder:
    """
    Raises:
        DataError: the file is not one of those above, an id occurs twice, or a number is not finite.
    """
    require_file(path)
    if path.suffix not in _READERS:
        raise DataError(f"{path}: vectors are read from {', '.join(_READERS)}, not {path.suffix!r} files")
    try:
        raw_ids, vectors = _READERS[path.suffix](path)
    except (pl.exceptions.PolarsError, safetensors.SafetensorError, ValueError, TypeError, OSError) as error:
        if isinstance(error, DataError):
            raise
        reason = (str(error).splitlines() or ["unreadable"])[0]
        raise DataError(f"{path} is not a readable {path.suffix} file of vectors: {reason}") from error
    return FileEncoder(tuple(raw_ids), _checked(path, raw_ids, vectors))


def _checked(path: Path, raw_ids: list[str], vectors: npt.NDArray[Any]) -> Float32s:
    if vectors.ndim != 2 or 0 in vectors.shape or len(vectors) != len(raw_ids):
        raise DataError(
            f"{path}: vectors of shape {vectors.shape} for {len(raw_ids):,} raw ids: there must be one row "
            "per id"
        )
    if not np.issubdtype(vectors.dtype, np.number) or np.iscomplexobj(vectors):
        raise DataError(f"{path}: vectors of type {vectors.dtype}: write numbers, e.g. float32")
    with np.errstate(over="ignore"):
        vectors_NF = np.ascontiguousarray(vectors, np.float32)
    wrong = np.flatnonzero(~np.isfinite(vectors_NF).all(axis=1))
    if len(wrong):
        raise DataError(
            f"{path}: the vector of {raw_ids[wrong[0]]!r} has a number that is missing or not finite in 32 "
            f"bits ({len(wrong):,} rows in all): leave such items out"
        )
    ids = pl.Series(raw_ids)
    twice = ids.filter(ids.is_duplicated())
    if len(twice):
        raise DataError(f"{path}: raw id {twice[0]!r} occurs more than once: keep one row per item")
    return vectors_NF


def _from_table(path: Path, table: pl.DataFrame) -> tuple[list[str], npt.NDArray[Any]]:
    name = next((c for c in _ID_COLUMNS if c in table.columns), None)
    if name is None:
        raise DataError(f"{path}: no column of raw ids{nearest('raw_id', table.columns)}; call it raw_id")
    if table[name].null_count():
        raise DataError(f"{path}: column {name!r} has an empty row: leave it out")
    raw_ids, rest = table[name].cast(pl.String).to_list(), table.drop(name)
    lists = [column for column in rest if isinstance(column.dtype, (pl.List, pl.Array))]
    if lists:
        if len(lists) > 1:
            raise DataError(
                f"{path}: several columns of vectors ({', '.join(c.name for c in lists)}): keep one"
            )
        return raw_ids, _from_lists(path, raw_ids, lists[0])
    others = [column.name for column in rest if not column.dtype.is_numeric()]
    if others:
        raise DataError(f"{path}: column {others[0]!r} is neither the raw id nor numbers: leave it out")
    return raw_ids, rest.cast(pl.Float64).to_numpy()


def _from_lists(path: Path, raw_ids: list[str], column: pl.Series) -> npt.NDArray[Any]:
    lengths = column.cast(pl.List(pl.Float64)).list.len()
    wrong = (lengths != lengths[0]).fill_null(True).arg_true() if len(lengths) else []
    if len(wrong):
        raise DataError(
            f"{path}: the vector of {raw_ids[wrong[0]]!r} has length {lengths[wrong[0]]}, the first one "
            f"{lengths[0]}: all must have one length"
        )
    return column.cast(pl.List(pl.Float64)).explode().to_numpy().reshape(len(raw_ids), -1)


def _from_safetensors(path: Path) -> tuple[list[str], npt.NDArray[Any]]:
    with safetensors.safe_open(path, "numpy") as file:
        header = file.metadata() or {}
        if "raw_ids" not in header or "vectors" not in file.keys():  # noqa: SIM118 (no dict)
            raise DataError(f"{path}: needs a tensor 'vectors' and a JSON list 'raw_ids' in its header")
        raw_ids = json.loads(header["raw_ids"])
        if not isinstance(raw_ids, list):
            raise DataError(f"{path}: raw_ids in its header is {raw_ids!r}, wanted a JSON list")
        return list(map(str, raw_ids)), file.get_tensor("vectors")


def _from_npy(path: Path) -> tuple[list[str], npt.NDArray[Any]]:
    ids = path.with_suffix(".ids.txt")
    if not ids.is_file():
        raise DataError(f"{path}: no {ids.name} beside it: write the raw ids there, one per line")
    vectors: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    return ids.read_text(encoding="utf-8").splitlines(), vectors


_READERS: dict[str, Callable[[Path], tuple[list[str], npt.NDArray[Any]]]] = {
    ".parquet": lambda path: _from_table(path, pl.read_parquet(path, glob=False)),
    ".csv": lambda path: _from_table(
        path,
        pl.read_csv(
            path, glob=False, infer_schema_length=None, schema_overrides=dict.fromkeys(_ID_COLUMNS, pl.String)
        ),
    ),
    ".npy": _from_npy,
    ".safetensors": _from_safetensors,
}
