"""Click logs in Criteo's text format, generated from a planted truth: any number of lines, block by block.

The log odds of a click are a constant, a weight for the latent value behind each integer column, a
weight for each category value, and the dot products of vectors planted on 13 pairs of categories: a
linear model finds the first three, a factorising one all of it. Values follow a power law. Each block
is a pure function of (seed, block number).
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv

from recray.arrays import Bools, Float32s, Int64s, UInt32s
from recray.config import ConfigError
from recray.data.parallel import in_parallel
from recray.data.row_source import Part, RawRows
from recray.data.sources.clicks.criteo import Blocks, click_rows
from recray.data.sources.clicks.criteo_text import CATEGORIES, COLUMNS, DENSE
from recray.data.sources.clicks.ids import ClickOptions
from recray.data.sources.files.text_blocks import TextBlock

BLOCK_ROWS = 32_768
FACTORS = 4  # of the planted vectors
BIAS, DENSE_SCALE, VALUE_SCALE, PAIR_SCALE = -1.6, 0.25, 0.2, 0.3
_SHARES: dict[Part, tuple[float, float]] = {"train": (0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1)}


class Truth(NamedTuple):
    """What decides about clicks; columns of F integers, C categories."""

    spread_F: Float32s  # log scale of the integers
    dense_weight_F: Float32s
    missing_F: Float32s  # shares
    missing_C: Float32s
    values: tuple[Float32s, ...]  # per category [size, 1 + FACTORS]: weight, and vector of its pair


class Drawn(NamedTuple):
    """Some lines before they are text."""

    labels_N: npt.NDArray[np.int8]
    dense_NF: Float32s  # whole numbers, NaN where missing
    values_NC: Int64s  # -1 where missing
    log_odds_N: Float32s  # of a click: no model can do better than this

    def rows(self, rows: slice) -> "Drawn":
        return Drawn(self.labels_N[rows], self.dense_NF[rows], self.values_NC[rows], self.log_odds_N[rows])


@dataclass(frozen=True, kw_only=True)
class SyntheticClicks(ClickOptions):
    """``num_rows`` lines, 80 % for training, the rest by halves."""

    name: str = "synthetic-clicks"
    num_rows: int = 200_000
    max_values: int = 1_000
    """Distinct values of the largest category; the smallest has 10."""
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_rows < 100 or not 10 <= self.max_values <= 100_000_000:
            raise ConfigError(
                f"num_rows={self.num_rows}, max_values={self.max_values}: they must be at least 100, and "
                "between 10 and 100,000,000"
            )

    @property
    def reader(self) -> str:
        return "synthetic-clicks"

    def options(self) -> dict[str, Any]:
        made = {"num_rows": self.num_rows, "max_values": self.max_values, "seed": self.seed}
        return {**made, **self.line_options()}

    def rows(self, scratch: Path) -> RawRows:
        parts: dict[Part, Blocks] = {}
        for part, (start, stop) in _SHARES.items():
            bounds = round(start * self.num_rows), round(stop * self.num_rows)
            parts[part] = functools.partial(self.text, *bounds)
        return click_rows(self, parts, "global-time(0.8,0.1,0.1)")

    def text(self, start: int = 0, stop: int | None = None) -> Iterator[TextBlock]:
        """Lines ``start`` to ``stop`` (None: the last) as text."""
        stop = self.num_rows if stop is None else stop
        truth = self.truth()

        def block(number: int) -> TextBlock:
            first = number * BLOCK_ROWS
            drawn = draw(truth, self.seed, number)
            rows = slice(max(start - first, 0), min(stop - first, BLOCK_ROWS))
            return TextBlock(self.name, first + rows.start + 1, _to_text(drawn.rows(rows)))

        yield from in_parallel(block, range(start // BLOCK_ROWS, -(-stop // BLOCK_ROWS)))

    def write(self, path: Path) -> None:
        """All lines as one file, as Criteo would publish it."""
        with path.open("wb") as file:
            for block in self.text():
                file.write(block.data)

    def truth(self) -> Truth:
        rng = np.random.default_rng([self.seed, 1])
        sizes = np.geomspace(10, self.max_values, len(CATEGORIES)).astype(int)
        scales = np.array([VALUE_SCALE] + [PAIR_SCALE] * FACTORS)
        missing_C = np.where(rng.random(len(CATEGORIES)) < 0.4, rng.uniform(0.01, 0.5, len(CATEGORIES)), 0)
        return Truth(
            spread_F=rng.uniform(0.5, 2, len(DENSE)).astype(np.float32),
            dense_weight_F=rng.normal(0, DENSE_SCALE, len(DENSE)).astype(np.float32),
            missing_F=rng.uniform(0, 0.4, len(DENSE)).astype(np.float32),
            missing_C=rng.permutation(missing_C).astype(np.float32),
            values=tuple(
                (rng.normal(size=(size, 1 + FACTORS)) * scales).astype(np.float32)
                for size in rng.permutation(sizes)
            ),
        )


def draw(truth: Truth, seed: int, number: int) -> Drawn:
    """Block ``number``: ``BLOCK_ROWS`` lines."""
    rng = np.random.default_rng([seed, 2, number])
    latent_NF = rng.standard_normal((BLOCK_ROWS, len(DENSE)), dtype=np.float32)
    log_odds_N = BIAS + latent_NF @ truth.dense_weight_F
    dense_NF = np.floor(np.exp(1 + latent_NF * truth.spread_F)) - 1
    dense_NF[rng.random(dense_NF.shape, dtype=np.float32) < truth.missing_F] = np.nan
    shape = (BLOCK_ROWS, len(CATEGORIES))
    # The cube of a uniform number: half of the lines have one of the first eighth of the values.
    sizes_C = np.array([len(table) for table in truth.values])
    values_NC = (rng.random(shape, dtype=np.float32) ** 3 * sizes_C).astype(np.int64)
    # What is missing in the line counted all the same: it is noise to any model.
    vectors_N = np.zeros((BLOCK_ROWS, FACTORS), np.float32)
    for c, table in enumerate(truth.values):
        drawn = table[values_NC[:, c]]
        log_odds_N += drawn[:, 0]
        if c % 2:
            log_odds_N += (vectors_N * drawn[:, 1:]).sum(axis=1)
        vectors_N = drawn[:, 1:]
    values_NC[rng.random(shape, dtype=np.float32) < truth.missing_C] = -1
    clicked_N = rng.random(BLOCK_ROWS, dtype=np.float32) < 1 / (1 + np.exp(-log_odds_N))
    return Drawn(clicked_N.astype(np.int8), dense_NF, values_NC, log_odds_N)


def _to_text(drawn: Drawn) -> bytes:
    columns = [pa.array(drawn.labels_N)]
    for f in range(len(DENSE)):
        numbers_N = drawn.dense_NF[:, f]
        missing_N = np.isnan(numbers_N)
        columns.append(pa.array(np.where(missing_N, 0, numbers_N).astype(np.int64), mask=missing_N))
    for c in range(len(CATEGORIES)):
        values_N = drawn.values_NC[:, c]
        # An odd factor is a bijection of 32 bits: other values, other digits.
        digits_N = (values_N * len(CATEGORIES) + c).astype(np.uint32) * np.uint32(0x9E3779B1)
        columns.append(_hex(digits_N, values_N < 0))
    sink = pa.BufferOutputStream()
    table = pa.table(columns, names=list(COLUMNS))
    csv.write_csv(
        table,
        sink,
        csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none", batch_size=8192),
    )
    return bytes(sink.getvalue())


def _hex(values_N: UInt32s, missing_N: Bools) -> pa.Array:
    """Eight hex digits each, spread over the bytes of a 64-bit word by halves."""
    words_N = values_N.astype(np.uint64)
    for bits, mask in ((16, 0x0000FFFF0000FFFF), (8, 0x00FF00FF00FF00FF), (4, 0x0F0F0F0F0F0F0F0F)):
        words_N = (words_N | words_N << np.uint64(bits)) & np.uint64(mask)
    letters_N = (words_N + np.uint64(0x0606060606060606)) >> np.uint64(4) & np.uint64(0x0101010101010101)
    words_N += np.uint64(0x3030303030303030) + letters_N * np.uint64(ord("a") - ord("9") - 1)
    text = pa.py_buffer(words_N.astype(">u8").tobytes())
    offsets = pa.py_buffer(np.arange(0, 8 * len(words_N) + 1, 8, dtype=np.int32).tobytes())
    valid = pa.array(~missing_N).buffers()[1]
    return pa.Array.from_buffers(pa.string(), len(words_N), [valid, offsets, text])
