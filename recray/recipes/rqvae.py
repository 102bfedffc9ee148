"""RQ-VAE: item content to codebooks, the first half of semantic ids."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from recray.bundles.codes import ENCODER
from recray.bundles.naming import bundle_name
from recray.bundles.weights import save_model
from recray.config import ConfigError, to_dict
from recray.data.batches.content import ContentBatches
from recray.data.content.vectors import ContentConfig, ItemContent, item_content
from recray.data.events.dataset import Dataset
from recray.data.events.prepare import load_or_prepare, prepared_manifest
from recray.data.events.split_data import DataConfig
from recray.eval.semantic_ids import MeasuredCodes, code_quality
from recray.models.quantizer import QuantizerConfig
from recray.models.rqvae import RQVAE, RQVAEConfig
from recray.store import Draft
from recray.train.context import Context
from recray.train.loop import LoopConfig, Sums, TrainingError, fit
from recray.train.optim import OptimConfig
from recray.train.run import DataFacts, Measured, Part, TorchRecipe, require_seed


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
        require_seed(self.seed)
        if not 0 <= self.alarm <= 1:
            raise ConfigError(f"alarm must be a share in [0, 1], got {self.alarm}")
        if self.loop.accumulate > 1:
            raise ConfigError(
                f"loop.accumulate {self.loop.accumulate}: codes are revived and cooled by what a whole batch "
                "chose, so an RQ-VAE computes it in one part; lower loop.batch_size instead"
            )


@dataclass(frozen=True)
class ContentData:
    """The items of a data set and what they say about themselves."""

    dataset: Dataset
    content: ItemContent

    @cached_property
    def covered_IF(self) -> Tensor:
        """The vectors of the items that have content."""
        return torch.from_numpy(self.content.vectors_IF[self.content.covered_I])


class RQVAERecipe(TorchRecipe[RQVAERun, ContentData, RQVAE]):
    """Trains on every item that has content: none is held out, so nothing is left to refit it on."""

    def default(self, dataset: str) -> RQVAERun:
        items = prepared_manifest(dataset).num_items
        size = next((codes for codes in (32, 64, 128) if items <= 50 * codes), 256)
        return _run(dataset, codes=size)

    def open(self, run: RQVAERun) -> ContentData:
        """Data set and content, both prepared where they are missing.

        Raises:
            DataError: the raw files are not at hand, or the items say nothing about themselves.
            ConfigError: a codebook is larger than the number of items.
        """
        dataset = load_or_prepare(run.data.dataset, k_core=run.data.k_core)
        data = ContentData(dataset, item_content(dataset, run.content))
        size, items = run.model.quantizer.codebook_size, len(data.covered_IF)
        if items < size:
            raise ConfigError(
                f"model.quantizer.codebook_size {size} for {items} items with content: lower it to at most "
                "that"
            )
        return data

    def facts(self, data: ContentData) -> DataFacts:
        covered, items = len(data.covered_IF), data.dataset.num_items
        dim = data.content.schema.content_dim
        text = f"content of {covered:,} of {items:,} items, {dim} dimensions"
        return DataFacts(data.dataset.name, data.dataset.hash, text)

    def loop(self, run: RQVAERun) -> LoopConfig:
        return run.loop

    def new(self, run: RQVAERun, data: ContentData, context: Context = Context()) -> RQVAE:  # noqa: B008
        torch.manual_seed(run.seed)
        return RQVAE(run.model, data.content.schema)

    def fit(self, run: RQVAERun, data: ContentData, model: RQVAE, context: Context) -> None:
        """See ``train.loop.fit``.

        Raises:
            TrainingError: a level collapsed: names it and its usage.
        """
        model.to(context.device)
        if context.resume_from is None:
            model.initialise(data.covered_IF.to(context.device), run.seed)
        batch_size = run.loop.batch_size_for(len(data.covered_IF))
        fit(
            model,
            ContentBatches(data.covered_IF, batch_size, run.seed),
            _validation(run, data.covered_IF),
            config=run.loop,
            optim=run.optim,
            context=context,
            seed=run.seed,
            data=f"{data.dataset.name} {data.dataset.hash[:12]} {data.content.schema.content_digest[:12]}",
        )

    def measure(self, run: RQVAERun, data: ContentData, model: RQVAE, part: Part = "test") -> MeasuredCodes:
        """Over every item that has content: there is no part of them that is held out."""
        return measure_codes(model, data.covered_IF)

    def draft(self, run: RQVAERun, data: ContentData, model: RQVAE, measured: Measured) -> Draft:
        """With the encoder of its content, for further items."""

        def write(folder: Path) -> None:
            save_model(model, folder)
            (folder / ENCODER).mkdir()
            data.content.encoder.save(folder / ENCODER)

        return Draft(
            name=bundle_name(data.dataset.name, self.name),
            write=write,
            model=self.name,
            config=to_dict(run.model),
            schema=data.content.schema,
            metrics=measured.means(),
        )


def measure_codes(model: RQVAE, content_IF: Tensor) -> MeasuredCodes:
    """Quality of the codes of these items, and the mean squared error of what they keep."""
    codes_IL = model.encode(content_IF)
    error_I = (model.decode(codes_IL).float() - content_IF).square().sum(dim=1)
    return MeasuredCodes(code_quality(codes_IL.cpu().numpy(), model.code_sizes), float(error_I.mean()))


def _validation(run: RQVAERun, content_IF: Tensor) -> Callable[[nn.Module], Sums]:
    """Metrics over all items, on every rank: whether codes collide cannot be summed from parts."""

    def validate(model: nn.Module) -> Sums:
        assert isinstance(model, RQVAE)
        found = measure_codes(model, content_IF.to(next(model.parameters()).device))
        lowest = int(np.argmin(found.quality.usage_L))
        armed = int(model.quantizer.step) >= run.alarm_after_steps
        if armed and (usage := found.quality.usage_L[lowest]) < run.alarm:
            raise TrainingError(
                f"level {lowest + 1} collapsed: {usage:.1%} of its codes are in use, the "
                f"alarm is at {run.alarm:.0%}. Lower optim.lr or model.quantizer.revive_every, or raise "
                "model.quantizer.sinkhorn_levels"
            )
        return {name: (value, 1.0) for name, value in found.means().items()}

    return validate


def _run(dataset: str, *, codes: int = 256) -> RQVAERun:
    model = RQVAEConfig(quantizer=QuantizerConfig(codebook_size=codes))
    return RQVAERun(data=DataConfig(dataset=dataset), model=model)


def _kmeans(dataset: str, *, codes: int) -> RQVAERun:
    """Codes that similar items share serve a decoder better here than codes that differ (docs/LOG.md)."""
    run = _run(dataset, codes=codes)
    return replace(
        run,
        model=replace(run.model, autoencoder="none"),
        content=ContentConfig(sketch=0),
        loop=replace(run.loop, epochs=1),
    )


RQVAE_RECIPE = RQVAERecipe(
    "rqvae",
    {
        "synthetic": ("generated data; needs no download", _run("synthetic", codes=32)),
        "amazon-beauty": ("Amazon Reviews 2014, Beauty", _run("amazon-beauty")),
        "ml-100k": ("MovieLens 100K", _kmeans("ml-100k", codes=64)),
        "ml-1m": ("MovieLens 1M", _run("ml-1m", codes=128)),
    },
    "item content to semantic ids (Rajput et al. 2023)",
)
