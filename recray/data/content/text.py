"""Item content by a sentence-transformers model: the only file that imports it, and only when asked.

Reimers and Gurevych, Sentence-BERT, EMNLP 2019. The model is a folder on disk, or a name that the
library finds in its cache or fetches from the Hugging Face hub.
"""

import datetime
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl

from recray.arrays import Float32s
from recray.config import ConfigError
from recray.features.columns import AVAILABILITY, KEYS, TEXTS
from recray.schema import DataError

log = logging.getLogger(__name__)

_BATCH = 64


@dataclass(frozen=True)
class SentenceEncoder:
    """Rows of item columns to unit vectors through one sentence each."""

    name: str  # folder, or name at the hub
    model: Any  # SentenceTransformer

    @property
    def dim(self) -> int:
        return int(self.model.get_embedding_dimension())

    @cached_property
    def digest(self) -> str:
        """sha256 over modules, vocabulary and weights: one model is the same from a folder or the hub."""
        vocabulary = sorted(self.model.tokenizer.get_vocab().items())
        digest = hashlib.sha256(f"{self.model!r} {vocabulary}".encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(np.ascontiguousarray(tensor.cpu().float().numpy(), "<f4").data)
        return digest.hexdigest()

    def encode(self, items: pl.DataFrame) -> Float32s:
        """float32 [rows, F] of unit length; zero where a row has no text."""
        sentences = [sentence_of(row) for row in items.iter_rows(named=True)]
        vectors_IF = np.zeros((len(items), self.dim), np.float32)
        told = [row for row, sentence in enumerate(sentences) if sentence]
        if told:
            vectors_IF[told] = self.model.encode(
                [sentences[row] for row in told], batch_size=_BATCH, normalize_embeddings=True
            )
        return vectors_IF

    def save(self, folder: Path) -> None:
        """The model's name and digest: its weights stay where they are."""
        values = {"kind": "sentence", "model": self.name, "digest": self.digest}
        (folder / "encoder.json").write_text(json.dumps(values), encoding="utf-8")

    @staticmethod
    def from_json(values: Mapping[str, Any], folder: Path) -> "SentenceEncoder":
        """
        Raises:
            DataError: the model of that name is not the one that made the vectors.
        """
        encoder = load_sentence_encoder(values["model"])
        if encoder.digest != values["digest"]:
            raise DataError(
                f"{encoder.name} was changed since the content in {folder} was made ("
                f"{encoder.digest[:12]}…, then {values['digest'][:12]}…): bring the old model back, or "
                "build the content and what was trained on it again"
            )
        return encoder


def load_sentence_encoder(name: str) -> SentenceEncoder:
    """
    Raises:
        ConfigError: the package is not installed, or the model is neither on disk nor to be fetched.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ConfigError(
            "content.method 'sentence' needs sentence-transformers: pip install 'recray[text]', or take "
            "method 'tfidf', which needs nothing"
        ) from error
    try:
        try:
            model = SentenceTransformer(name, device="cpu", local_files_only=True)
        except (OSError, ValueError):
            if Path(name).is_absolute() or not _hub_answers():
                raise
            model = SentenceTransformer(name, device="cpu")
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0]
        raise ConfigError(
            f"content.model {name!r} is neither a model's folder, nor in the cache, nor to be fetched "
            f"({reason}): put the model's folder on disk and give its path, or take method 'tfidf'"
        ) from error
    return SentenceEncoder(name, model.eval())


def _hub_answers() -> bool:
    """Asked once beforehand: the library itself tries for more than a minute where there is no network."""
    try:
        httpx.head(os.environ.get("HF_ENDPOINT") or "https://huggingface.co", timeout=10.0)
    except httpx.HTTPError as error:
        log.warning("the Hugging Face hub does not answer: %s", error)
        return False
    return True


def sentence_of(row: Mapping[str, Any]) -> str:
    """``title. text. description. column: value, value.`` of the columns that have a value.

    Raw ids, floats, dates and whether the item can be had are left out.
    """
    parts = [str(row[name]).strip() for name in TEXTS if row.get(name)]
    for name, value in row.items():
        if name in (*TEXTS, *KEYS, *AVAILABILITY) or isinstance(value, (float, datetime.date, type(None))):
            continue
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        if shown:
            parts.append(f"{name}: {shown}")
    return ". ".join(filter(None, parts))
