"""Generative retrieval: a decoder over published semantic ids."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from recray import models
from recray.bundles.codes import MODEL, read_codes, read_titles
from recray.bundles.decoder import GenerativeFiles, with_codes, with_further_items, write_generative
from recray.bundles.naming import bundle_name
from recray.config import ConfigError, to_dict
from recray.data.batches.sequences import SequenceBatches
from recray.data.events.examples import item_counts
from recray.data.events.log import event_log
from recray.data.events.split_data import DataConfig, SplitData, open_split
from recray.models.decoder import Decoder, DecoderConfig
from recray.recipes.retriever import DataSize, GradientRecipe, GradientRun
from recray.schema import SemanticSchema
from recray.semantic_ids import SemanticIds
from recray.store import Bundle, Draft, Store, StoreError
from recray.train.context import Context
from recray.train.loop import LoopConfig
from recray.train.optim import OptimConfig
from recray.train.run import Measured


@dataclass(frozen=True, kw_only=True)
class DecoderRun(GradientRun):
    """Train a generative retriever on published semantic ids."""

    further_metrics = ()  # beyond the generated list the order is unknown
    model: DecoderConfig = field(default_factory=DecoderConfig)
    semantic_ids: str = ""
    """Bundle of the map; empty: "<dataset>-semantic-ids", made by `recray semantic-ids`."""
    version: str = "latest"
    """Version of that bundle, by number or name."""


@dataclass(frozen=True)
class CodedData(SplitData):
    """A data set, its split, and the semantic ids of its items."""

    bundle: Bundle  # of the whole map, which may hold items that the data set does not
    ids: SemanticIds  # of the data set's items


class DecoderRecipe(GradientRecipe[DecoderRun, CodedData]):
    """Histories of the training part, next item by next item, code by code."""

    def open(self, run: DecoderRun) -> CodedData:
        """The data of a run and the map that it is trained on.

        Raises:
            StoreError: no such map; it is made by `recray train rqvae` and `recray semantic-ids`.
            ConfigError: the map is of another catalogue.
        """
        data = open_split(run.data)
        bundle = _map(run, data.dataset.name)
        raw_ids, ids = read_codes(bundle)
        wanted = data.dataset.items["raw_id"].cast(str).to_list()
        if raw_ids[: len(wanted)] != wanted:
            raise ConfigError(
                f"{bundle.reference} was made for another catalogue than {data.dataset.name} has: "
                f"{len(raw_ids)} items there, {len(wanted)} here, in another order or others; "
                "assign semantic ids to this data set first (`recray semantic-ids`)"
            )
        ids = replace(ids, codes_IL=ids.codes_IL[: len(wanted)])
        return CodedData(data.dataset, data.split, bundle, ids)

    def exact(self, run: DecoderRun, data: CodedData) -> DecoderRun:
        codes = data.bundle.reference
        return replace(run, semantic_ids=codes.name, version=str(codes.version))

    def schema(self, run: DecoderRun, data: CodedData) -> SemanticSchema:
        return data.ids.schema(data.dataset.num_users)

    def new(self, run: DecoderRun, data: CodedData, context: Context = Context()) -> nn.Module:  # noqa: B008
        """A decoder that knows the codes."""
        torch.manual_seed(run.seed)
        model = models.build(self.model_name, run.model, self.schema(run, data))
        assert isinstance(model, Decoder)
        model.set_semantic_ids(data.ids)
        return model

    def batches(self, run: DecoderRun, data: CodedData) -> SequenceBatches:
        batches = SequenceBatches(
            data.dataset,
            data.split.train_N,
            run.loop.batch_size,
            run.model.max_items,
            every_position=run.model.encoder == "causal",
            seed=run.seed,
            weights_N=data.weights_N,
        )
        batches.global_batch_size = run.loop.batch_size_for(len(batches), least=8)
        return batches

    def identity(self, run: DecoderRun, data: CodedData) -> str:
        return f"{super().identity(run, data)}, semantic ids {data.ids.digest[:12]}"

    def draft(self, run: DecoderRun, data: CodedData, model: nn.Module, measured: Measured) -> Draft:
        """For all items of its map: also those that the data set does not have."""
        assert isinstance(model, Decoder)
        dataset = data.dataset
        raw_ids, ids = read_codes(data.bundle)
        counts_I = item_counts(dataset, data.split.train_N)
        files = GenerativeFiles(
            users=dataset.users,
            items=with_further_items(dataset.items, raw_ids, read_titles(data.bundle)),
            item_counts_I=np.pad(counts_I, (0, ids.num_items - len(counts_I))),
            codes=ids,
            log=event_log(dataset),
        )
        served = with_codes(model, run.model, ids, dataset.num_users)
        return Draft(
            name=bundle_name(dataset.name, self.name),
            write=lambda folder: write_generative(folder, served, files),
            model=self.model_name,
            config=to_dict(run.model),
            schema=ids.schema(dataset.num_users),
            card=measured.card,
            metrics=measured.means(),
            requires={"semantic_ids": data.bundle.reference},
        )


def _map(run: DecoderRun, data_name: str) -> Bundle:
    name = run.semantic_ids or bundle_name(data_name, "semantic-ids")
    try:
        bundle = Store().open(name, run.version)
    except StoreError as error:
        rqvae = name.removesuffix("semantic-ids") + "rqvae"
        raise StoreError(
            f"a decoder needs semantic ids, and {error}. To make them: recray train rqvae "
            f"{run.data.dataset}, then recray semantic-ids {rqvae}"
        ) from None
    if bundle.manifest.model != MODEL:
        raise StoreError(
            f"{bundle.reference} is a {bundle.manifest.model!r}, no map of semantic ids: name one that "
            "`recray semantic-ids` published"
        )
    return bundle


_WIDE = DecoderConfig(
    dim=384, num_heads=6, encoder_layers=4, decoder_layers=4, feedforward_dim=1024, dropout=0.2
)
_SMALL = DecoderConfig(dim=64, feedforward_dim=256, max_items=50, history_tokens="items")


def _small(dataset: str, epochs: int) -> DecoderRun:
    return DecoderRun(
        data=DataConfig(dataset=dataset),
        model=_SMALL,
        optim=OptimConfig(lr=3e-3, weight_decay=0.01, warmup_steps=50, schedule="cosine"),
        loop=LoopConfig(epochs=epochs, batch_size=64),
    )


def _full(dataset: str) -> DecoderRun:
    """For a GPU, in slices where need be: a run of one name goes on where it was."""
    return DecoderRun(
        data=DataConfig(dataset=dataset),
        model=_WIDE,
        optim=OptimConfig(lr=1e-3, weight_decay=0.05, warmup_steps=500, schedule="cosine", max_grad_norm=1.0),
        loop=LoopConfig(epochs=100, batch_size=256, patience=10, precision="bfloat16"),
        validation_users=5000,
    )


def _sized(size: DataSize) -> DecoderRun:
    """What a CPU trains: the paper's size is a preset."""
    return replace(
        _small("synthetic", 20 if size.interactions < 200_000 else 10), validation_users=size.validation_users
    )


DECODER = DecoderRecipe(
    "decoder",
    {
        "synthetic": ("generated data; needs no download", _small("synthetic", epochs=20)),
        "ml-100k": ("MovieLens 100K, for a CPU", _small("ml-100k", epochs=12)),
        "ml-1m": ("MovieLens 1M, for a GPU", _full("ml-1m")),
        "amazon-beauty": ("Amazon Reviews 2014, Beauty, for a GPU", _full("amazon-beauty")),
    },
    "generates semantic ids (TIGER, Rajput 2023)",
    sized=_sized,
)
