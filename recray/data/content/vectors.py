"""Item content: what items say about themselves, as one vector per item, kept with the data set.

Built once per data set and config in ``<data set>/content/<digest>``, atomically, manifest last, and
checked when it is read. The encoder is kept beside the vectors: it turns items that the data set does
not have (cold start) into vectors of the same space.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from recray.arrays import Bools, Float32s
from recray.config import ConfigError
from recray.data.content.file import FileEncoder, read_vectors
from recray.data.content.quality import measure_content, render_content
from recray.data.content.text import SentenceEncoder, load_sentence_encoder
from recray.data.content.tfidf import TfidfEncoder, fit_tfidf
from recray.data.events.dataset import QUALITY, QUALITY_PAGE, Dataset
from recray.data.sources.files.raw_files import fingerprint
from recray.folders import build_once, digest, file_sha256
from recray.schema import ContentSchema, DataError

log = logging.getLogger(__name__)

FORMAT = 1
MANIFEST, VECTORS, ENCODER = "manifest.json", "vectors.safetensors", "encoder"


@dataclass(frozen=True, kw_only=True)
class ContentConfig:
    """How items become vectors."""

    method: Literal["tfidf", "sentence", "file"] = "tfidf"
    """tfidf: words and labels, offline; sentence: a sentence-transformers model; file: vectors of yours."""
    dim: int = 256
    """Dimensions of tfidf, the sketch included; fewer where the data gives fewer."""
    sketch: int = 32
    """Dimensions of tfidf that hold a sketch of all terms, the rare ones included, which tell similar
    items apart; at most half of them, 0 for none."""
    sketch_weight: float = 0.5
    """The sketch's share of a vector's squared length."""
    power: float = 0.5
    """Weight of the singular values in tfidf: 1 is plain LSA, 0 gives every dimension the same weight."""
    bigrams: bool = False
    """Pairs of neighbouring words count as terms of tfidf too."""
    max_terms: int = 50_000
    """Terms of tfidf, the most frequent ones."""
    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Of sentence: a model's folder, or its name at the Hugging Face hub."""
    path: str = ""
    """Of file: .parquet, .csv, .npy or .safetensors with raw ids and vectors; see docs/data.md."""

    def __post_init__(self) -> None:
        for name in ("dim", "max_terms"):
            if getattr(self, name) < 1:
                raise ConfigError(f"content.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("power", "sketch_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"content.{name} lies between 0 and 1, got {getattr(self, name)}")
        if self.sketch < 0:
            raise ConfigError(f"content.sketch must be at least 0, got {self.sketch}")
        if (self.method == "file") != bool(self.path):
            raise ConfigError(
                f"content.method is {self.method!r} and content.path {self.path!r}: "
                "a path belongs to method 'file', and only to it"
            )
        if self.path:
            object.__setattr__(self, "path", str(Path(self.path).expanduser().absolute()))
        if Path(self.model).expanduser().is_dir():
            object.__setattr__(self, "model", str(Path(self.model).expanduser().absolute()))

    def options(self) -> dict[str, Any]:
        """All that decides the vectors of a given data set."""
        chosen: dict[str, Any] = {"method": self.method, "format": FORMAT}
        if self.method == "tfidf":
            return chosen | self.tfidf_options()
        if self.method == "sentence":
            return chosen | {"model": self.model}
        return chosen | {"file": fingerprint(Path(self.path))}

    def tfidf_options(self) -> dict[str, Any]:
        """Arguments of ``fit_tfidf``."""
        names = ("dim", "sketch_weight", "power", "bigrams", "max_terms")
        return {"sketch": min(self.sketch, self.dim // 2), **{name: getattr(self, name) for name in names}}


class ContentEncoder(Protocol):
    """Rows of item side columns to vectors of one space."""

    @property
    def dim(self) -> int: ...

    @property
    def digest(self) -> str:
        """Equal digests give equal vectors."""

    def encode(self, items: pl.DataFrame) -> Float32s:
        """float32 [rows, F]; zero where a row says nothing. Columns as in ``Dataset.items``."""

    def save(self, folder: Path) -> None:
        """Into an existing folder, for ``load_encoder``; JSON and safetensors, no pickle."""


@dataclass(frozen=True)
class ItemContent:
    """The content of a data set's items."""

    vectors_IF: Float32s  # row i is item i
    schema: ContentSchema
    covered_I: Bools  # items that have any content; the others' vectors are zero
    encoder: ContentEncoder
    duplicates: int  # covered items whose vector is that of an earlier item: no codes can tell them apart
    folder: Path

    @property
    def coverage(self) -> float:
        """Share of items that have content."""
        return float(self.covered_I.mean())

    def summary(self) -> str:
        return (
            f"item content: {self.schema.content_dim} dimensions, {self.coverage:.1%} of the items covered, "
            f"{self.duplicates:,} with the vector of another one; {self.folder / QUALITY_PAGE}"
        )


def item_content(dataset: Dataset, config: ContentConfig) -> ItemContent:
    """The content vectors of all items, built where they are missing.

    Safe to kill at any moment and to run several times at once.

    Raises:
        ConfigError: the method's package or model is not at hand.
        DataError: the items have no content, the file of vectors is wrong, or what is kept was damaged.
    """
    options = {**config.options(), "dataset": dataset.hash}
    folder = dataset.folder / "content" / f"{config.method}-{digest(options)}"
    build_once(
        folder,
        lambda built: bool(_read_manifest(built, options)),
        lambda target, _: _build(dataset, config, options, target),
    )
    return _load(folder, options)


def load_encoder(folder: Path) -> ContentEncoder:
    """The encoder that ``save`` wrote.

    Raises:
        ConfigError: it is a sentence-transformers model that is not at hand.
        DataError: the folder holds none, or one that this version does not know.
    """
    path = folder / "encoder.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        kind = values["kind"]
        if kind in _LOADERS:
            return _LOADERS[kind](values, folder)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, (ConfigError, DataError)):
            raise
        raise DataError(f"{folder} holds no content encoder ({error}): build the content again") from error
    raise DataError(f"{path}: encoder of kind {kind!r}; this version knows {', '.join(_LOADERS)}")


_LOADERS: dict[str, Callable[[Mapping[str, Any], Path], ContentEncoder]] = {
    "tfidf": TfidfEncoder.from_json,
    "sentence": SentenceEncoder.from_json,
    "file": FileEncoder.from_json,
}


def _fit(dataset: Dataset, config: ContentConfig) -> ContentEncoder:
    if config.method == "sentence":
        return load_sentence_encoder(config.model)
    if config.method == "file":
        return read_vectors(Path(config.path))
    return fit_tfidf(dataset.items, **config.tfidf_options())


def _build(dataset: Dataset, config: ContentConfig, options: dict[str, Any], target: Path) -> None:
    started = time.monotonic()
    encoder = _fit(dataset, config)
    vectors_IF = encoder.encode(dataset.items)
    covered_I = np.asarray(vectors_IF.any(axis=1))
    if not covered_I.any():
        _refuse_empty(dataset, config)
    quality = measure_content(dataset.name, config.method, dataset.items, vectors_IF, covered_I)
    (target / QUALITY).write_text(json.dumps(quality.to_json(), indent=2), encoding="utf-8")
    (target / QUALITY_PAGE).write_text(render_content(quality), encoding="utf-8")
    (target / ENCODER).mkdir()
    encoder.save(target / ENCODER)
    # Not save_file: its files are readable by their owner alone.
    (target / VECTORS).write_bytes(save({"vectors": vectors_IF, "covered": covered_I}))
    files = [VECTORS, *(f"{ENCODER}/{path.name}" for path in sorted((target / ENCODER).iterdir()))]
    manifest = {
        "options": options,
        "dim": encoder.dim,
        "encoder": encoder.digest,
        "duplicates": quality.duplicates,
        "files": {name: file_sha256(target / name) for name in files},
    }
    (target / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    log.info(
        "%s: content of %s of %s items, %d dimensions, in %.1f s",
        *(
            dataset.name,
            f"{covered_I.sum():,}",
            f"{len(covered_I):,}",
            encoder.dim,
            time.monotonic() - started,
        ),
    )


def _refuse_empty(dataset: Dataset, config: ContentConfig) -> None:
    if config.method == "file":
        example = dataset.items["raw_id"][0]
        raise DataError(
            f"{config.path} has a vector for none of the items of {dataset.name}: its raw ids must be those "
            f"of the data set, e.g. {example!r}"
        )
    raise DataError(
        f"{dataset.name}: no item has a word or a label (columns: {', '.join(dataset.items.columns)}): "
        "bring vectors in a file (--content.method file)"
    )


def _read_manifest(folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = manifest["options"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is missing or damaged ({error}): delete {folder} and run again") from error
    if found != json.loads(json.dumps(options)):
        raise DataError(f"{folder} holds other content ({found}, wanted {options}): delete it and run again")
    return manifest


def _load(folder: Path, options: Mapping[str, Any]) -> ItemContent:
    manifest = _read_manifest(folder, options)
    for name, expected in manifest["files"].items():
        if not (folder / name).is_file() or file_sha256(folder / name) != expected:
            raise DataError(f"{folder / name} is missing or was changed: delete {folder} and run again")
    tensors = load_file(folder / VECTORS)
    return ItemContent(
        vectors_IF=tensors["vectors"],
        schema=ContentSchema(content_dim=manifest["dim"], content_digest=manifest["encoder"]),
        covered_I=tensors["covered"],
        encoder=load_encoder(folder / ENCODER),
        duplicates=manifest["duplicates"],
        folder=folder,
    )
