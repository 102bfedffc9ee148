"""A model of rows in a bundle: its weights, and how the values that people have become what it reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from recray.arrays import Float32s
from recray.bundles.weights import load_model, save_model
from recray.data.row_encoding import ENCODING, RowEncoding, read_encoding
from recray.models.dlrm import DLRM
from recray.store.bundle import Bundle
from recray.store.manifest import StoreError


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
        with torch.inference_mode():
            logits_N = self.model.score(self.encoding.of_values(rows).to_batch())
        probabilities_N: Float32s = logits_N.sigmoid().numpy()
        return probabilities_N


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
