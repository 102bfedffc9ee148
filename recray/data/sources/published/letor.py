"""Learning to rank: LibSVM lines with query groups in a ``.query`` file, or LETOR's ``qid:`` in the line.

T. Qin and T.-Y. Liu, Introducing LETOR 4.0 Datasets, arXiv 1306.2597; the group files are LightGBM's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from recray.arrays import Bools, Float32s, Int64s
from recray.config import ConfigError
from recray.data.row_block import RowBlock
from recray.data.row_source import RawRows
from recray.data.sources.files.raw_files import find_raw, fingerprint, require_file, where_to_put
from recray.schema import DataError, RowSchema

MAX_FEATURES = 100_000  # rows are dense: each takes 4 bytes per feature number
MAX_GRADE = 30  # a grade's gain is 2^grade - 1


class _Lists(NamedTuple):
    dense_NF: Float32s
    labels_N: Float32s
    offsets_S: Int64s


@dataclass(frozen=True, kw_only=True)
class Letor:
    """``path`` None: ``<name>/`` in the raw folders. A feature that a line leaves out is 0."""

    name: str
    path: Path | None = None
    train: str = "rank.train"
    test: str = "rank.test"
    validation: float = 0.2
    """Share of the training file's queries that become the validation part, drawn by chance, whole."""

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1:
            raise ConfigError(f"validation must be between 0 and 1, got {self.validation}")

    @property
    def reader(self) -> str:
        return "letor"

    def options(self) -> dict[str, Any]:
        names = (self.train, self.test)
        files = (
            [fingerprint(self.path / n) for n in names] if self.path else [f"{self.name}/{n}" for n in names]
        )
        return {"files": files, "validation": self.validation}

    def rows(self, scratch: Path) -> RawRows:
        given, test = (_read(self._locate(name)) for name in (self.train, self.test))
        width = max(given.dense_NF.shape[1], test.dense_NF.shape[1])
        schema = RowSchema(dense=tuple(f"f{n}" for n in range(1, width + 1)), sparse=(), sessions=True)
        whole = _block(schema, given)
        if whole.num_units < 2:
            raise DataError(
                f"{self.train} of {self.name} has {whole.num_units} query and needs at least 2, one to "
                "train and one to validate"
            )
        queries = np.random.default_rng(0).permutation(whole.num_units)
        held = min(max(round(self.validation * len(queries)), 1), len(queries) - 1)
        return RawRows(
            schema=schema,
            parts={
                "train": [whole.select(np.sort(queries[held:]))],
                "validation": [whole.select(np.sort(queries[:held]))],
                "test": [_block(schema, test)],
            },
            split=f"file's test, random({1 - self.validation:g},{self.validation:g}) of the training queries",
        )

    def _locate(self, file: str) -> Path:
        if self.path is not None:
            return self.path / file
        found = find_raw(f"{self.name}/{file}")
        if found is None:
            raise DataError(f"{self.name} is not at hand: {where_to_put(f'{self.name}/{file}')}")
        return found


def is_letor(folder: Path, options: Mapping[str, object]) -> bool:
    """By names: of the files, of groups beside them, or of the options that name the files."""
    named = "train" in options or "test" in options
    return (
        named or any((folder / n).is_file() for n in (Letor.train, Letor.test)) or any(folder.glob("*.query"))
    )


def _block(schema: RowSchema, lists: _Lists) -> RowBlock:
    dense_NF = np.zeros((len(lists.labels_N), len(schema.dense)), np.float32)
    dense_NF[:, : lists.dense_NF.shape[1]] = lists.dense_NF
    return RowBlock(schema, dense_NF, {}, lists.labels_N, lists.offsets_S)


def _read(path: Path) -> _Lists:
    require_file(path)
    # What is not UTF-8 is most often in a comment; elsewhere its token is refused below.
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    lines = pl.Series("line", text.split("\n")).str.split("#").list.first()
    lines = lines.str.replace_all("\t", " ")
    tokens = (
        pl.DataFrame({"row": np.arange(len(lines)), "token": lines.str.strip_chars().str.split(" ")})
        .explode("token")
        .filter(pl.col("token") != "")
    )
    rows, kept = np.unique(tokens["row"].to_numpy(), return_inverse=True)  # blank lines are no rows
    if not len(rows):
        raise DataError(f"{path} holds no rows, only blank lines and comments: is it complete?")
    first_N = np.r_[True, np.diff(kept) > 0]
    labels = tokens.filter(first_N)["token"]
    pairs = tokens.filter(~first_N)["token"].str.splitn(":", 2).struct.unnest()
    lines_N = tokens["row"].to_numpy()
    labels_N = _numbers(path, labels, lines_N[first_N], "label", pl.Float32).to_numpy()
    wrong_N = ~((labels_N >= 0) & (labels_N <= MAX_GRADE))
    way_out = f"is not between 0 and {MAX_GRADE}: number the grades from 0, the least relevant, on"
    _refuse(path, wrong_N, labels, lines_N[first_N], "label", way_out)
    is_query = (pairs["field_0"] == "qid").to_numpy()
    at_N, row_of = lines_N[~first_N], kept[~first_N]
    queries = _numbers(path, pairs["field_1"].filter(is_query), at_N[is_query], "query id", pl.Int64)
    _require_one_each(path, row_of[is_query], lines_N[first_N])
    pairs, at_N, row_of = pairs.filter(~is_query), at_N[~is_query], row_of[~is_query]
    names, texts = pairs["field_0"], pairs["field_1"]
    indices = _numbers(path, names, at_N, "feature number", pl.Int64).to_numpy()
    values = _numbers(path, texts, at_N, "feature value", pl.Float32).to_numpy()
    way_out = f"is not between 1 and {MAX_FEATURES:,}: number the features from 1 on without gaps"
    _refuse(path, (indices < 1) | (indices > MAX_FEATURES), names, at_N, "feature number", way_out)
    cell_N = row_of * (MAX_FEATURES + 1) + indices
    again_N = np.ones(len(cell_N), dtype=bool)
    again_N[np.unique(cell_N, return_index=True)[1]] = False
    way_out = "stands twice in its line: a feature has one value in each"
    _refuse(path, again_N, names, at_N, "feature number", way_out)
    way_out = "does not fit into 32 bits: scale the feature down, or leave it out where it is unknown"
    _refuse(path, ~np.isfinite(values), texts, at_N, "feature value", way_out)
    dense_NF = np.zeros((len(rows), int(indices.max(initial=0))), np.float32)
    dense_NF[row_of, indices - 1] = values
    return _Lists(dense_NF, labels_N, _offsets(path, queries.to_numpy(), len(rows)))


def _numbers(path: Path, texts: pl.Series, lines_N: Int64s, what: str, dtype: type[pl.DataType]) -> pl.Series:
    numbers = texts.cast(dtype, strict=False)
    bad = numbers.is_null() | numbers.is_nan() if dtype == pl.Float32 else numbers.is_null()
    way_out = "is not a number: a line is 'label number:value ...', separated by spaces"
    _refuse(path, bad.to_numpy(), texts, lines_N, what, way_out)
    return numbers


def _refuse(path: Path, bad_N: Bools, texts: pl.Series, lines_N: Int64s, what: str, way_out: str) -> None:
    if bad_N.any():
        at = int(bad_N.argmax())
        raise DataError(f"{path}, line {lines_N[at] + 1}: {what} {texts[at]!r} {way_out}")


def _require_one_each(path: Path, query_rows: Int64s, lines_N: Int64s) -> None:
    """A ``qid:`` in each line, or in none."""
    count_N = np.bincount(query_rows, minlength=len(lines_N))
    if len(query_rows) and (count_N != 1).any():
        at = int((count_N != 1).argmax())
        raise DataError(
            f"{path}, line {lines_N[at] + 1}: it has {count_N[at]} qid, and {int((count_N == 1).sum())} of "
            f"{len(count_N)} lines have one: write one in each, or in none and the number of lines of each "
            f"query into {path.name}.query"
        )


def _offsets(path: Path, queries_N: Int64s, num_rows: int) -> Int64s:
    """Where each query begins, from the ``qid:`` of every line or else from the file of group sizes."""
    if len(queries_N) == num_rows:
        starts = np.flatnonzero(np.r_[True, np.diff(queries_N) != 0])
        if len(np.unique(queries_N[starts])) < len(starts):
            raise DataError(f"{path}: the lines of a query do not lie together: sort them by qid")
        return np.append(starts, num_rows)
    groups = path.with_name(path.name + ".query")
    if not groups.is_file():
        raise DataError(
            f"{path}: 0 of {num_rows} lines have a qid: write one in each, or the number of "
            f"lines of each query into {groups.name}"
        )
    texts = pl.Series(groups.read_text(encoding="utf-8-sig", errors="replace").split(), dtype=pl.String)
    sizes = _numbers(groups, texts, np.arange(len(texts)), "group size", pl.Int64)
    sizes_S = sizes.to_numpy()
    smallest = min(sizes_S.tolist(), default=0)
    if smallest < 1 or sizes_S.sum() != num_rows:
        raise DataError(
            f"{groups}: group sizes must be 1 or more and sum to the {num_rows} lines of {path.name}, "
            f"got a smallest of {smallest} and a sum of {sizes_S.sum()}"
        )
    return np.concatenate([[0], np.cumsum(sizes_S)])
