"""Generative retrieval: a decoder over published semantic ids, trained, measured and restored."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from recray import checkpoint, models
from recray.bundles.codes import MODEL, read_codes
from recray.config import ConfigError
from recray.data.batches.sequences import SequenceBatches
from recray.models.decoder import Decoder, DecoderConfig
from recray.recipes.retrieval import (
    DataConfig,
    Prepared,
    batch_size_for,
    bundle_name,
    prepared,
    validation,
)
from recray.schema import SemanticSchema
from recray.semantic_ids import SemanticIds
from recray.store import Bundle, Store, StoreError
from recray.train.context import Context
from recray.train.loop import LoopConfig, fit
from recray.train.optim import OptimConfig


@dataclass(frozen=True, kw_only=True)
class DecoderRun:
    """Train a generative retriever on published semantic ids."""

    data: DataConfig = field(default_factory=DataConfig)
    semantic_ids: str = ""
    """Bundle of the map; empty: "<dataset>-semantic-ids", made by jobs/assign_semantic_ids.py."""
    version: str = "latest"
    """Version of that bundle, by number or name."""
    model: DecoderConfig = field(default_factory=DecoderConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    validation_users: int = 0
    """Users that validation looks at, drawn once by the seed; 0: all of them."""
    seed: int = 0
    """Of the initial weights, the order of the data and dropout."""

    def __post_init__(self) -> None:
        if self.validation_users < 0:
            raise ConfigError(f"validation_users must not be negative, got {self.validation_users}")


_WIDE = DecoderConfig(
    dim=384, num_heads=6, encoder_layers=4, decoder_layers=4, feedforward_dim=1024, dropout=0.2
)
_SMALL = DecoderConfig(dim=64, feedforward_dim=256, max_items=50, history_tokens="items")


def _run(dataset: str, model: DecoderConfig, **loop: Any) -> DecoderRun:
    optim = OptimConfig(lr=3e-3, weight_decay=0.01, warmup_steps=50, schedule="cosine")
    return DecoderRun(data=DataConfig(dataset=dataset), model=model, optim=optim, loop=LoopConfig(**loop))


def _full(dataset: str) -> DecoderRun:
    """For a GPU, in slices where need be: a run of one name goes on where it was."""
    run = _run(dataset, _WIDE, epochs=100, batch_size=256, patience=10, precision="bfloat16")
    optim = OptimConfig(lr=1e-3, weight_decay=0.05, warmup_steps=500, schedule="cosine", max_grad_norm=1.0)
    return replace(run, optim=optim, validation_users=5000)


DECODER_PRESETS: dict[str, tuple[str, DecoderRun]] = {
    "synthetic": ("generated data; needs no download", _run("synthetic", _SMALL, epochs=20, batch_size=64)),
    "ml-100k": ("MovieLens 100K, for a CPU", _run("ml-100k", _SMALL, epochs=12, batch_size=64)),
    "custom": ("your own events: --data.dataset FILE", _run("events.csv", _SMALL, epochs=20, batch_size=64)),
    "ml-1m": ("MovieLens 1M", _full("ml-1m")),
    "ml-32m": ("MovieLens 32M", _full("ml-32m")),
    "amazon-beauty": ("Amazon Reviews 2014, Beauty", _full("amazon-beauty")),
    "amazon-sports": ("Amazon Reviews 2014, Sports and Outdoors", _full("amazon-sports")),
    "amazon-toys": ("Amazon Reviews 2014, Toys and Games", _full("amazon-toys")),
}


class CodedData(NamedTuple):
    """A data set, its split, and the semantic ids of its items."""

    prepared: Prepared
    bundle: Bundle  # of the whole map, which may hold items that the data set does not
    ids: SemanticIds  # of the data set's items


def coded(run: DecoderRun, store: Store | None = None) -> CodedData:
    """The data of a run and the map that it is trained on.

    Raises:
        StoreError: no such map; it is made by jobs/train_rqvae.py and jobs/assign_semantic_ids.py.
        ConfigError: the map is of another catalogue.
    """
    data = prepared(run.data)
    name = run.semantic_ids or bundle_name(data.dataset, "semantic-ids")
    bundle = _map(store or Store(), name, run)
    if bundle.manifest.model != MODEL:
        raise StoreError(
            f"{bundle.reference} is a {bundle.manifest.model!r}, no map of semantic ids: name one that "
            "jobs/assign_semantic_ids.py published"
        )
    raw_ids, ids = read_codes(bundle)
    wanted = data.dataset.items["raw_id"].cast(str).to_list()
    if raw_ids[: len(wanted)] != wanted:
        raise ConfigError(
            f"{bundle.reference} was made for another catalogue than {data.dataset.name} has: "
            f"{len(raw_ids)} items there, {len(wanted)} here, in another order or others; "
            "assign semantic ids to this data set first (jobs/assign_semantic_ids.py)"
        )
    return CodedData(data, bundle, replace(ids, codes_IL=ids.codes_IL[: len(wanted)]))


def _map(store: Store, name: str, run: DecoderRun) -> Bundle:
    try:
        return store.open(name, run.version)
    except StoreError as error:
        rqvae = name.removesuffix("semantic-ids") + "rqvae"
        raise StoreError(
            f"a decoder needs semantic ids, and {error}. To make them: python jobs/train_rqvae.py custom "
            f"--data.dataset {run.data.dataset}, then python jobs/assign_semantic_ids.py {rqvae}"
        ) from None


def schema_of(ids: SemanticIds, num_users: int) -> SemanticSchema:
    return SemanticSchema(
        num_users=num_users, num_items=ids.num_items, code_sizes=ids.sizes, codes_digest=ids.digest
    )


def new_decoder(run: DecoderRun, ids: SemanticIds, num_users: int) -> Decoder:
    """An untrained decoder that knows the codes; equal seeds give equal weights."""
    torch.manual_seed(run.seed)
    model = models.build("decoder", run.model, schema_of(ids, num_users))
    assert isinstance(model, Decoder)
    model.set_semantic_ids(ids)
    return model


def train_decoder(run: DecoderRun, context: Context) -> Decoder:
    """Trains on the sequences of the training part, validates on the validation part."""
    data = coded(run)
    dataset = data.prepared.dataset
    model = new_decoder(run, data.ids, dataset.num_users)
    batches = _batches(run, data.prepared)
    # A warm-up that fills a short run would never reach the rate that was asked for.
    warmup_steps = min(run.optim.warmup_steps, run.loop.epochs * batches.num_steps() // 10)
    fit(
        model,
        batches,
        validation(data.prepared, context, users=run.validation_users, seed=run.seed),
        config=run.loop,
        optim=replace(run.optim, warmup_steps=warmup_steps),
        context=context,
        seed=run.seed,
        data=f"{dataset.name} {dataset.hash[:12]}, semantic ids {data.ids.digest[:12]}",
    )
    return model


def _batches(run: DecoderRun, data: Prepared) -> SequenceBatches:
    batches = SequenceBatches(
        data.dataset,
        data.split.train_N,
        run.loop.batch_size,
        run.model.max_items,
        every_position=run.model.encoder == "causal",
        seed=run.seed,
    )
    batches.global_batch_size = batch_size_for(run.loop, len(batches), least=8)
    return batches


def restore_decoder(run: DecoderRun, folder: Path) -> Decoder:
    """The decoder with the best weights of a run's checkpoint."""
    data = coded(run)
    model = new_decoder(run, data.ids, data.prepared.dataset.num_users)
    checkpoint.load_model(folder, model)
    return model.eval()
