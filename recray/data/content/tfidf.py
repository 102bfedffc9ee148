"""Item content by TF-IDF and truncated SVD, and a sketch of all terms: no model to fetch, no network.

Deerwester et al., Indexing by Latent Semantic Analysis, JASIS 41(6), 1990, gives what items share; the
SVD is randomised (Halko, Martinsson and Tropp, SIAM Review 53(2), 2011) with a fixed seed. What it
drops, the rare words that tell similar items apart, a random projection of the same TF-IDF rows keeps
(Sahlgren, An Introduction to Random Indexing, TKE 2005). Shapes: I items, V terms, F dimensions.
"""

import hashlib
import json
import logging
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors.numpy import load_file, save
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

from recray.arrays import Float32s, Float64s
from recray.data.content.terms import PLAIN_TEXTS, terms_of
from recray.features.columns import KEYS, text_columns
from recray.schema import DataError

log = logging.getLogger(__name__)

_SVD_SEED = 0
_NEGLIGIBLE = 1e-6  # of the largest singular value: such a dimension is rounding error


@dataclass(frozen=True)
class TfidfEncoder:
    """Rows of item columns to unit vectors. Each row's vector depends on that row alone."""

    terms: tuple[str, ...]  # those that at least two items have come first
    idf_V: Float64s
    components_VF: Float32s  # of the first terms
    bigrams: bool = False
    sketch: int = 0  # dimensions of the sketch, behind those of the SVD
    sketch_weight: float = 0.0  # its share of the squared length
    explained: float = 0.0  # share of the shared terms' squared TF-IDF that the SVD keeps
    texts: tuple[str, ...] = PLAIN_TEXTS  # columns that are read as words

    @property
    def dim(self) -> int:
        return int(self.components_VF.shape[1]) + self.sketch

    @cached_property
    def digest(self) -> str:
        """sha256 over all that decides a vector."""
        values = [self.terms, self.bigrams, self.sketch, self.sketch_weight]
        if self.texts != PLAIN_TEXTS:
            values.append(self.texts)
        digest = hashlib.sha256(json.dumps(values).encode())
        digest.update(np.ascontiguousarray(self.idf_V, "<f8").data)
        digest.update(np.ascontiguousarray(self.components_VF, "<f4").data)
        return digest.hexdigest()

    @cached_property
    def _vectorizer(self) -> TfidfVectorizer:
        vectorizer = _vectorizer(self.bigrams, self.texts, vocabulary=self.terms)
        vectorizer.idf_ = self.idf_V
        return vectorizer

    @cached_property
    def _signs_VF(self) -> Float32s:
        return np.array([signs_of(term, self.sketch) for term in self.terms], np.float32)

    def encode(self, items: pl.DataFrame) -> Float32s:
        """float32 [rows, F] of unit length; zero where a row has no known term. Unknown columns are
        read like known ones, absent ones are skipped."""
        if len(items) == 0:
            return np.zeros((0, self.dim), np.float32)
        tfidf_IV = self._vectorizer.transform(_rows(items))
        shared_IV = tfidf_IV[:, : len(self.components_VF)]
        shared_IF = _unit(np.asarray(shared_IV @ self.components_VF, np.float32))
        if not self.sketch:
            return shared_IF
        sketch_IF = _unit(np.asarray(tfidf_IV @ self._signs_VF, np.float32))
        share = self.sketch_weight
        return _unit(np.hstack([math.sqrt(1 - share) * shared_IF, math.sqrt(share) * sketch_IF]))

    def save(self, folder: Path) -> None:
        """``encoder.json`` and ``encoder.safetensors`` in an existing folder."""
        values = {
            "kind": "tfidf",
            "terms": self.terms,
            "bigrams": self.bigrams,
            "sketch": self.sketch,
            "sketch_weight": self.sketch_weight,
            "explained": self.explained,
            "texts": self.texts,
        }
        (folder / "encoder.json").write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
        tensors: dict[str, npt.NDArray[Any]] = {"idf": self.idf_V, "components": self.components_VF}
        (folder / "encoder.safetensors").write_bytes(save(tensors))

    @staticmethod
    def from_json(values: Mapping[str, Any], folder: Path) -> "TfidfEncoder":
        tensors = load_file(folder / "encoder.safetensors")
        return TfidfEncoder(
            terms=tuple(values["terms"]),
            idf_V=tensors["idf"],
            components_VF=tensors["components"],
            bigrams=values["bigrams"],
            sketch=values["sketch"],
            sketch_weight=values["sketch_weight"],
            explained=values["explained"],
            texts=tuple(values.get("texts", PLAIN_TEXTS)),
        )


def fit_tfidf(
    items: pl.DataFrame,
    *,
    dim: int,
    bigrams: bool = False,
    max_terms: int = 50_000,
    power: float = 0.5,
    sketch: int = 0,
    sketch_weight: float = 0.5,
) -> TfidfEncoder:
    """The encoder of a catalogue, over its ``max_terms`` most frequent terms.

    With the SVD ``X = U S V'`` of the terms that at least two items have, an item's first dimensions
    are its row of ``U S^power`` (Levy, Goldberg and Dagan, TACL 3, 2015, section 3.3, call the power
    p). The last ``sketch`` dimensions are the sum of its terms' signs, weighted by TF-IDF. Both parts
    have unit length before they are joined by ``sketch_weight``. There are ``dim`` dimensions in all,
    fewer where the terms span fewer.

    Raises:
        DataError: no two items share a word or a label.
    """
    texts = tuple(dict.fromkeys((*PLAIN_TEXTS, *text_columns(items))))
    told = items.drop(_identifiers(items, texts))
    vectorizer = _vectorizer(bigrams, texts, min_df=1 if sketch else 2, max_features=max_terms)
    try:
        tfidf_IV = vectorizer.fit_transform(_rows(told))
    except ValueError as error:  # how scikit-learn says that no term is left
        raise _nothing_shared(items) from error
    is_shared_V = tfidf_IV.getnnz(axis=0) >= 2
    if not is_shared_V.any():
        raise _nothing_shared(items)
    order_V = np.argsort(~is_shared_V, kind="stable")
    shared_IV = tfidf_IV[:, is_shared_V]
    # One thread: the order of additions, and so the digest, must not depend on the machine's cores.
    with threadpool_limits(limits=1):
        _, singular_F, axes_FV = randomized_svd(
            shared_IV, min(dim - sketch, *shared_IV.shape), n_iter=7, random_state=_SVD_SEED
        )
    kept = singular_F > _NEGLIGIBLE * singular_F[0]
    weighted_FV = axes_FV[kept] * singular_F[kept, None] ** (power - 1)
    return TfidfEncoder(
        terms=tuple(map(str, vectorizer.get_feature_names_out()[order_V])),
        idf_V=np.asarray(vectorizer.idf_, np.float64)[order_V],
        components_VF=np.ascontiguousarray(weighted_FV.T, np.float32),
        bigrams=bigrams,
        sketch=sketch,
        sketch_weight=sketch_weight if sketch else 0.0,
        texts=texts,
        explained=float((singular_F[kept] ** 2).sum() / shared_IV.multiply(shared_IV).sum()),
    )


def _identifiers(items: pl.DataFrame, texts: Collection[str]) -> list[str]:
    """Text columns that name an item rather than say anything about it: most of their values are unique."""
    labels = [c for c in items if c.dtype == pl.String and c.name not in (*KEYS, *texts)]
    return [c.name for c in labels if c.drop_nulls().n_unique() > 0.5 * max(len(c.drop_nulls()), 1)]


def _nothing_shared(items: pl.DataFrame) -> DataError:
    return DataError(
        f"no two of the {len(items):,} items share a word or a label (columns: "
        f"{', '.join(items.columns)}): bring vectors in a file (--content.method file), or titles and labels "
        "in a RecBole .item file beside a .inter file; a table of events has none (docs/data.md)"
    )


def signs_of(term: str, size: int) -> npt.NDArray[np.int8]:
    """``size`` numbers of -1 and 1 that depend on the term alone: the bits of its BLAKE2b hash."""
    digests = (
        hashlib.blake2b(f"{block} {term}".encode(), digest_size=64).digest()
        for block in range(-(-size // 512))
    )
    bits = np.unpackbits(np.frombuffer(b"".join(digests), np.uint8))[:size]
    return bits.astype(np.int8) * np.int8(2) - np.int8(1)


def _unit(vectors_IF: Float32s) -> Float32s:
    norms_I = np.linalg.norm(vectors_IF, axis=1, keepdims=True)
    unit_IF: Float32s = np.divide(
        vectors_IF, norms_I, out=np.zeros_like(vectors_IF), where=norms_I > _NEGLIGIBLE
    )
    return unit_IF


def _rows(items: pl.DataFrame) -> Iterator[dict[str, Any]]:
    return items.iter_rows(named=True)


def _vectorizer(bigrams: bool, texts: Collection[str], **options: object) -> TfidfVectorizer:
    return TfidfVectorizer(
        analyzer=lambda row: list(terms_of(row, bigrams=bigrams, texts=texts)), sublinear_tf=True, **options
    )
