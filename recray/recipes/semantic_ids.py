"""From item content to a published map of semantic ids: train the RQ-VAE, measure it, assign codes."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from recray import checkpoint
from recray.arrays import Float32s
from recray.batch import ContentBatch
from recray.bundles.codes import (
    ENCODER,
    HISTORY,
    MODEL,
    QUALITY,
    REPORT,
    RUN,
    read_json,
    write_codes,
    write_titles,
)
from recray.bundles.weights import load_model, save_model
from recray.config import ConfigError, from_dict, to_dict
from recray.data.content.vectors import ContentConfig, ItemContent, item_content, load_encoder
from recray.data.events.dataset import Dataset
from recray.eval.semantic_ids import CodeQuality, code_quality
from recray.models.quantizer import QuantizerConfig
from recray.models.rqvae import RQVAE, RQVAEConfig
from recray.recipes.retrieval import MIN_STEPS, DataConfig, bundle_name, prepared
from recray.recipes.semantic_page import render
from recray.schema import DataError
from recray.semantic_ids import SemanticIds, disambiguate
from recray.store.bundle import Bundle
from recray.store.manifest import StoreError
from recray.store.store import Store
from recray.train.context import Context
from recray.train.loop import LoopConfig, Sums, TrainingError, fit
from recray.train.optim import OptimConfig

log = logging.getLogger(__name__)
History = list[dict[str, float]]  # metrics of each evaluation, with its epoch


@dataclass(frozen=True, kw_only=True)
class RQVAERun:
    """Train an RQ-VAE on what items say about themselves."""

    data: DataConfig = field(default_factory=DataConfig)
    content: ContentConfig = field(default_factory=ContentConfig)
    model: RQVAEConfig = field(default_factory=RQVAEConfig)
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(lr=5e-3, schedule="cosine", warmup_steps=50)
    )
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            epochs=25, batch_size=1024, metric="reconstruction", goal="min", patience=0
        )
    )
    alarm: float = 0.1
    """Stop where a level uses less than this share of its codes; 0 never does."""
    alarm_after_steps: int = 100
    """The alarm is silent before: codes first follow an encoder that still moves fast."""
    seed: int = 0
    """Of the initial weights, k-means, the order of the data and noise."""

    def __post_init__(self) -> None:
        if not 0 <= self.alarm <= 1:
            raise ConfigError(f"alarm must be a share in [0, 1], got {self.alarm}")
        if self.loop.accumulate > 1:
            raise ConfigError(
                f"loop.accumulate {self.loop.accumulate}: codes are revived and cooled by what a whole batch "
                "chose, so an RQ-VAE computes it in one part; lower loop.batch_size instead"
            )


def _run(dataset: str, **changes: Any) -> RQVAERun:
    return RQVAERun(data=DataConfig(dataset=dataset), **changes)


def _codes(size: int) -> RQVAEConfig:
    return RQVAEConfig(quantizer=QuantizerConfig(codebook_size=size))


RQVAE_PRESETS: dict[str, tuple[str, RQVAERun]] = {
    "synthetic": ("generated data; needs no download", _run("synthetic", model=_codes(32))),
    "amazon-beauty": ("Amazon Reviews 2014, Beauty", _run("amazon-beauty")),
    "amazon-sports": ("Amazon Reviews 2014, Sports and Outdoors", _run("amazon-sports")),
    "amazon-toys": ("Amazon Reviews 2014, Toys and Games", _run("amazon-toys")),
    # Codes that similar films share serve a decoder better here than codes that differ (docs/LOG.md).
    "ml-100k": (
        "MovieLens 100K",
        _run(
            "ml-100k",
            model=replace(_codes(64), autoencoder="none"),
            content=ContentConfig(sketch=0),
            loop=replace(RQVAERun().loop, epochs=1),
        ),
    ),
    "custom": ("your own items: --data.dataset FILE", _run("events.csv", model=_codes(64))),
    "ml-1m": ("MovieLens 1M", _run("ml-1m", model=_codes(128))),
    "ml-32m": ("MovieLens 32M", _run("ml-32m")),
}


class ContentBatches:
    """Every item once per epoch; near-equal items meet in one batch, where ``spread`` can part them.

    The batches of an epoch are slices along a random direction of the content space, in random order: a
    pure function of (seed, epoch). Otherwise items of a batch have nothing in common.
    """

    def __init__(self, content_IF: torch.Tensor, global_batch_size: int, seed: int) -> None:
        self.content_IF, self.global_batch_size, self.seed = content_IF, global_batch_size, seed
        self._epoch = -1
        self._items_I = self._slices = torch.empty(0, dtype=torch.int64)

    def num_steps(self) -> int:
        return -(-len(self.content_IF) // self.global_batch_size)

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> ContentBatch:
        """This worker's part of a global batch; the batches of an epoch differ by one item at most."""
        if epoch != self._epoch:
            self._draw(epoch)
        slice_ = int(self._slices[step])
        start, stop = (len(self.content_IF) * s // self.num_steps() for s in (slice_, slice_ + 1))
        size = stop - start
        mine = self._items_I[start + size * rank // world_size : start + size * (rank + 1) // world_size]
        return ContentBatch(self.content_IF[mine], size)

    def _draw(self, epoch: int) -> None:
        random = np.random.default_rng([self.seed, epoch])
        direction_F = torch.from_numpy(random.standard_normal(self.content_IF.shape[1], dtype=np.float32))
        self._items_I = (self.content_IF @ direction_F).argsort(stable=True)
        self._slices, self._epoch = torch.from_numpy(random.permutation(self.num_steps())), epoch


def content_of(run: RQVAERun) -> tuple[Dataset, ItemContent]:
    """The data set of a run and the content of its items; both are prepared where they are missing.

    Raises:
        DataError: the raw files are not at hand, or the items say nothing about themselves.
    """
    dataset = prepared(run.data).dataset
    return dataset, item_content(dataset, run.content)


def new_rqvae(run: RQVAERun, content: ItemContent) -> RQVAE:
    """Untrained; equal seeds give equal weights."""
    torch.manual_seed(run.seed)
    return RQVAE(run.model, content.schema)


def train_rqvae(run: RQVAERun, context: Context) -> RQVAE:
    """Trains on every item that has content; see ``train.loop.fit``.

    Raises:
        TrainingError: a level collapsed: names it and its usage.
    """
    dataset, content = content_of(run)
    content_IF = torch.from_numpy(content.vectors_IF[content.covered_I])
    model = new_rqvae(run, content).to(context.device)
    if context.resume_from is None:
        model.initialise(content_IF.to(context.device), run.seed)
    batch_size = min(run.loop.batch_size, max(64, len(content_IF) // MIN_STEPS))
    fit(
        model,
        ContentBatches(content_IF, batch_size, run.seed),
        _validation(run, content_IF),
        config=run.loop,
        optim=run.optim,
        context=with_history(context),
        seed=run.seed,
        data=f"{dataset.name} {dataset.hash[:12]} {content.schema.content_digest[:12]}",
    )
    return model


def restore(run: RQVAERun, folder: Path) -> tuple[RQVAE, History]:
    """The model with the best weights of a run's checkpoint, and how it came there."""
    model = new_rqvae(run, content_of(run)[1])
    checkpoint.load_model(folder, model)
    return model.eval(), json.loads((folder / HISTORY).read_text())


def measure(model: RQVAE, content_IF: torch.Tensor) -> tuple[CodeQuality, dict[str, float]]:
    """(quality of the codes, all metrics by name) over these items."""
    codes_IL = model.encode(content_IF)
    error_I = (model.decode(codes_IL).float() - content_IF).square().sum(dim=1)
    quality = code_quality(codes_IL.cpu().numpy(), model.code_sizes)
    return quality, {"reconstruction": float(error_I.mean()), **quality.metrics()}


def with_history(context: Context) -> Context:
    """The same context, whose checkpoints carry the metrics of every evaluation before them."""
    history: History = []
    if context.resume_from is not None:
        history = json.loads((context.resume_from / HISTORY).read_text())

    def report(metrics: dict[str, float], folder: Path | None) -> None:
        if "reconstruction" in metrics:
            history.append({k: v for k, v in metrics.items() if not k.startswith("best_")})
        if folder is not None and context.rank == 0:
            (folder / HISTORY).write_text(json.dumps(history))
        context.report(metrics, folder)

    return replace(context, report=report)


def _validation(run: RQVAERun, content_IF: torch.Tensor) -> Callable[[nn.Module], Sums]:
    """Metrics over all items, on every rank: whether codes collide cannot be summed from parts."""

    def validate(model: Any) -> Sums:
        device = next(model.parameters()).device
        quality, metrics = measure(model, content_IF.to(device))
        lowest = int(np.argmin(quality.usage_L))
        armed = int(model.quantizer.step) >= run.alarm_after_steps
        if armed and quality.usage_L[lowest] < run.alarm:
            raise TrainingError(
                f"level {lowest + 1} collapsed: {quality.usage_L[lowest]:.1%} of its codes are in use, the "
                f"alarm is at {run.alarm:.0%}. Lower optim.lr or model.quantizer.revive_every, or raise "
                "model.quantizer.sinkhorn_levels"
            )
        return {name: (value, 1.0) for name, value in metrics.items()}

    return validate


def publish_rqvae(run: RQVAERun, model: RQVAE, history: History, store: Store) -> Bundle:
    """Publishes a trained RQ-VAE as ``<dataset>-rqvae``, with the encoder of its content."""
    dataset, content = content_of(run)
    _, metrics = measure(model, torch.from_numpy(content.vectors_IF[content.covered_I]))

    def write(folder: Path) -> None:
        save_model(model, folder)
        (folder / ENCODER).mkdir()
        content.encoder.save(folder / ENCODER)
        (folder / HISTORY).write_text(json.dumps(history))
        (folder / RUN).write_text(json.dumps({"run": to_dict(run), "dataset_hash": dataset.hash}))

    return store.publish(
        bundle_name(dataset, "rqvae"),
        write,
        model="rqvae",
        config=to_dict(run.model),
        schema=content.schema,
        metrics=metrics,
    )


def publish_semantic_ids(bundle: Bundle, store: Store, extra: pl.DataFrame | None = None) -> Bundle:
    """Publishes the codes of every item of an RQ-VAE's data set as ``<dataset>-semantic-ids``.

    Args:
        extra: further items (``raw_id`` and side columns) that the data set does not have; their codes
            come after those of the data set's items, which they do not change.

    Raises:
        DataError: the data set is no longer the one that the RQ-VAE was trained on, or the further items
            do not have its columns and types.
        StoreError: the bundle is damaged or no RQ-VAE.
    """
    if extra is not None and "raw_id" not in extra.columns:
        raise DataError(f"further items need a column raw_id; there are {', '.join(extra.columns)}")
    if bundle.manifest.model != "rqvae":
        raise StoreError(
            f"{bundle.reference} is a {bundle.manifest.model!r}: name a bundle of jobs/train_rqvae.py"
        )
    bundle.verify()
    model, saved = load_model(bundle), read_json(bundle, RUN)
    assert isinstance(model, RQVAE)
    run = from_dict(RQVAERun, saved["run"])
    dataset, encoder = prepared(run.data).dataset, load_encoder(bundle.folder / ENCODER)
    if dataset.hash != saved["dataset_hash"]:
        raise DataError(
            f"{bundle.reference} was trained on other data than {dataset.name} is now: "
            "train it again with jobs/train_rqvae.py"
        )
    raw_ids, vectors_IF = dataset.items["raw_id"].to_list(), encoder.encode(dataset.items)
    if extra is not None:
        extra_NF = encoder.encode(_conform(extra, dataset.items.schema, run.content.method == "file"))
        extra_ids = extra["raw_id"].cast(pl.String).to_list()
        if (unknown := np.flatnonzero(~extra_NF.any(axis=1))).size:
            log.warning(
                "nothing is known of %d further items (the first is %r): their codes say nothing",
                *(len(unknown), extra_ids[unknown[0]]),
            )
        raw_ids, vectors_IF = raw_ids + extra_ids, np.concatenate([vectors_IF, extra_NF])
    ids, quality, metrics = assign(model, vectors_IF)
    history: History = read_json(bundle, HISTORY)

    def write(folder: Path) -> None:
        write_codes(folder, raw_ids, ids)
        if extra is not None:
            write_titles(folder, extra)
        (folder / QUALITY).write_text(json.dumps(quality.to_json(), indent=1))
        (folder / REPORT).write_text(render(dataset.name, ids, quality, history, metrics), encoding="utf-8")

    return store.publish(
        bundle_name(dataset, "semantic-ids"),
        write,
        model=MODEL,
        config={"sizes": list(ids.sizes), "disambiguated": True, "digest": ids.digest},
        metrics=metrics,
        requires={"rqvae": bundle.reference},
    )


def assign(model: RQVAE, vectors_IF: Float32s) -> tuple[SemanticIds, CodeQuality, dict[str, float]]:
    """Semantic ids of these items, disambiguated; quality and metrics are of the codes before that.

    Items without content count: all of them have the codes of the zero vector and collide.
    """
    content_IF = torch.from_numpy(vectors_IF)
    ids = disambiguate(model.encode(content_IF).numpy(), model.code_sizes)
    quality, metrics = measure(model, content_IF)
    without_I = ~vectors_IF.any(axis=1)
    if without_I.any():
        log.info("%d of %d items have no content and share their codes", without_I.sum(), len(vectors_IF))
    return ids, quality, {**metrics, "without_content": float(without_I.mean())}


def _conform(extra: pl.DataFrame, schema: pl.Schema, by_raw_id: bool) -> pl.DataFrame:
    """Further items with the columns and types of the data set's items; other columns say nothing."""
    raw_id = extra["raw_id"].cast(pl.String)
    if by_raw_id:
        return raw_id.to_frame()
    wanted: dict[str, pl.DataType] = {name: dtype for name, dtype in schema.items() if name != "raw_id"}
    if missing := [name for name in wanted if name not in extra.columns]:
        log.warning("the further items lack columns that the data set has: %s", ", ".join(missing))
    if "title" in wanted or "text" in wanted:  # both are words, whichever of them the data set has
        wanted = {"title": pl.String(), "text": pl.String(), **wanted}
    found = [_cast(extra[name], dtype) for name, dtype in wanted.items() if name in extra.columns]
    if not found:
        raise DataError(
            f"the further items say nothing about themselves (columns: {', '.join(extra.columns)}): bring "
            f"at least one of {', '.join(wanted)}"
        )
    return pl.DataFrame([raw_id, *found])


def _cast(values: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Values of a data set's column, in its type; text of a list column is split at "|"."""
    if values.dtype.is_float():
        values = values.fill_nan(None)
    given = values
    if isinstance(dtype, pl.List) and values.dtype == pl.String:
        given = values.str.split("|")
    try:
        cast = given.cast(dtype, strict=False)
        lost = given.is_not_null() & cast.is_null()
        if dtype.is_integer() and given.dtype.is_float():
            lost = lost | (given != cast.cast(given.dtype)).fill_null(False)
    except pl.exceptions.PolarsError:
        cast, lost = given, given.is_not_null()
    if lost.any():
        raise DataError(
            f"column {values.name!r} of the further items has {values.filter(lost)[0]!r} where the data set "
            f"has {dtype}: correct it, leave it empty, or leave the column out"
        )
    return cast


def read_items(path: Path) -> pl.DataFrame:
    """Further items from a table with a column ``raw_id``; .csv and .tsv give text, so ``007`` stays that.

    Raises:
        DataError: no such file, an unknown ending, or no table.
    """
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        ".parquet": pl.read_parquet,
        ".csv": lambda file: pl.read_csv(file, infer_schema=False),
        ".tsv": lambda file: pl.read_csv(file, infer_schema=False, separator="\t", quote_char=None),
    }
    if path.suffix not in readers:
        raise DataError(f"{path}: items come as {', '.join(readers)}")
    try:
        table = readers[path.suffix](path)
        return table.with_columns(pl.col("raw_id").cast(pl.String)) if "raw_id" in table.columns else table
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: no readable table of items: {error}") from error
