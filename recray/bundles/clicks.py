"""A model of rows in a bundle: its weights, and how the values that people have become what it reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl
import torch
from torch import nn

from recray.arrays import Float32s
from recray.bundles.weights import load_model, save_model
from recray.data.row_encoding import ENCODING, RowEncoding, read_encoding
from recray.models.dlrm import DLRM
from recray.store.bundle import Bundle
from recray.store.manifest import StoreError


class ScoredRows(NamedTuple):
    """What a model says of N rows."""

    probabilities_N: Float32s  # of a click, in the order of the rows
    unknown: dict[str, int]  # of each column of categories that has any: values that training did not have


@dataclass(frozen=True)
class RowScorer:
    """A published model of rows that is given raw values."""

    model: DLRM
    encoding: RowEncoding

    def score(self, rows: Sequence[Mapping[str, object]]) -> Float32s:
        """probabilities_N of a click, in the order of the rows.

        Args:
            rows: by name of the column, as they stood in the table: ``{"country": "DE", "price": 9.9}``.
                What a row leaves out is missing, a category that training did not have is unknown.

        Raises:
            ConfigError: a column that the model does not know.
            DataError: a column of numbers is given something else.
        """
        return self.score_table(self.encoding.table(rows)).probabilities_N

    def score_table(self, columns: pl.DataFrame) -> ScoredRows:
        """The same of a table; what the model does not read may stand in it too.

        Raises:
            ConfigError: a column that the model reads is missing.
            DataError: a value of a column of numbers is none.
        """
        read = self.encoding.read(columns)
        with torch.inference_mode():
            logits_N = self.model.score(read.rows.to_batch())
        return ScoredRows(logits_N.sigmoid().numpy(), read.unknown)


def scores_rows(bundle: Bundle) -> bool:
    """Whether the bundle is a model of rows, and no retriever or ranker."""
    return bundle.manifest.model == "dlrm"


def save_scorer(model: nn.Module, encoding: RowEncoding | None, folder: Path) -> None:
    """Writes weights and, where raw values are known, their encoding into a bundle's folder."""
    save_model(model, folder)
    if encoding:
        encoding.write(folder)


def open_scorer(bundle: Bundle) -> RowScorer:
    """
    Raises:
        StoreError: no model of rows, or its rows were not made of values that could be given.
    """
    if ENCODING not in bundle.manifest.files:
        raise StoreError(
            f"{bundle.reference} takes no raw values: train a DLRM on a table of clicks, or on Criteo's logs "
            "with ids=vocabulary"
        )
    model = load_model(bundle)
    assert isinstance(model, DLRM)
    return RowScorer(model, read_encoding(bundle.path(ENCODING)))
