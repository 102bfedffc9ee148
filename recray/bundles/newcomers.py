"""Items that a published retriever has never heard of, and what it says of them.

A model that reads side features says it itself, by the computation that makes the vectors of cold items at
training's export: zeros in the place of an id's weights (``contract.ForgetsItems``), and the side features as
training encoded them. For all others an item is the mean of the learnt items that are most alike by content
(``likeness``): its vector, and so each of its scores, is the mean of theirs. An item of which nothing is
known has a vector of zeros or the lowest score.

Shapes: I items of the bundle, R rows that are told (new ones, and cold ones of the bundle), D vector dim.
"""

import copy
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recray import models
from recray.arrays import Bools, Int64s
from recray.batch import QueryBatch
from recray.bundles.likeness import Likeness
from recray.bundles.retriever import COUNT_COLUMN, RetrieverFiles
from recray.contract import ForgetsItems, Retriever, VectorRetriever, reads_history
from recray.data.events.side_features import ColumnEncoder, fit_side_features
from recray.models.side_features import rows_of_feature
from recray.ops.index_beside import IndexBeside
from recray.schema import FeatureSchema
from recray.store.manifest import BundleManifest

log = logging.getLogger(__name__)


class Told(NamedTuple):
    """What is said of items, as rows of a catalogue that goes on."""

    items: (
        pl.DataFrame
    )  # the whole catalogue: the bundle's items, changed where something was said, then new ones
    rows_R: Int64s  # those of which something is said, in the order of ``table``
    table: pl.DataFrame  # what: rows of ``items``


class Grown(NamedTuple):
    """A retriever over a catalogue that goes on."""

    files: RetrieverFiles
    model: nn.Module


class Newcomers:
    """Makes a retriever know further items; what it takes to read them is made when it is first wanted."""

    def __init__(self, manifest: BundleManifest, files: RetrieverFiles, model: nn.Module) -> None:
        self._manifest, self._files, self._model = manifest, files, model

    def grown(self, told: Told) -> Grown:
        """The same retriever with further items. Of which training has events stays what was learnt of it.

        The model's weights are shared with the one of the bundle, but for those that it has of each item.
        """
        counts_I = self._files.item_counts_I
        is_new_R = told.rows_R >= len(counts_I)
        is_cold_R = is_new_R | ~np.append(self._learnt_I, False)[np.where(is_new_R, -1, told.rows_R)]
        rows_R, table = told.rows_R[is_cold_R], told.table.filter(pl.Series(is_cold_R, dtype=pl.Boolean))
        num_items = len(told.items)
        files = replace(
            self._files,
            items=told.items.drop(COUNT_COLUMN, strict=False),
            item_counts_I=np.append(counts_I, np.zeros(num_items - len(counts_I), np.int64)),
        )
        if self._files.item_ID is None or not isinstance(self._model, VectorRetriever):
            stand_ins = self._likeness.stand_ins(table)
            return Grown(files, ScoredByLikeness(self._model, stand_ins, rows_R, len(counts_I), num_items))
        return self._with_vectors(files, rows_R, table, num_items)

    def _with_vectors(
        self, files: RetrieverFiles, rows_R: Int64s, table: pl.DataFrame, num_items: int
    ) -> Grown:
        old_ID, index = self._files.item_ID, self._files.index
        assert old_ID is not None
        assert index is not None
        if self._encoders:
            features = {name: e.encode(table[e.column]) for name, e in self._encoders.items()}
            model = _longer(self._model, self._per_item, num_items)
            _set_rows(model, features, torch.from_numpy(rows_R))
            assert isinstance(model, VectorRetriever)
            vectors_RD = model.item_vectors().numpy()[rows_R]
        else:
            stand_ins = self._likeness.stand_ins(table)
            model = _longer(self._model, self._per_item, num_items)
            _set_means(model, self._per_item, stand_ins, torch.from_numpy(rows_R))
            vectors_RD = stand_ins @ old_ID
        item_ID = np.zeros((num_items, old_ID.shape[1]), np.float32)
        item_ID[: len(old_ID)] = old_ID
        item_ID[rows_R] = vectors_RD
        return Grown(replace(files, item_ID=item_ID, index=IndexBeside(index, rows_R, vectors_RD)), model)

    @cached_property
    def _likeness(self) -> Likeness:
        return Likeness(self._files.items, self._learnt_I)

    @cached_property
    def _learnt_I(self) -> Bools:
        """Items that some event taught something: their weights, where there are any, were not forgotten."""
        weights = dict(self._model.named_parameters())
        learnt_I = self._files.item_counts_I > 0
        for name in self._per_item:
            if name in weights:
                learnt_I |= weights[name].detach().any(dim=1).numpy()
        return learnt_I

    @cached_property
    def _per_item(self) -> tuple[str, ...]:
        """Names of the model's weights that have a row for each item: those that grow with the catalogue."""
        small, large = (
            models.build(
                self._manifest.model, self._manifest.config, replace(self._schema, num_users=1, num_items=n)
            ).state_dict()
            for n in (1, 2)
        )
        return tuple(name for name, tensor in small.items() if tensor.shape != large[name].shape)

    @property
    def _schema(self) -> FeatureSchema:
        assert isinstance(self._manifest.schema, FeatureSchema)
        return self._manifest.schema

    @cached_property
    def _encoders(self) -> Mapping[str, ColumnEncoder]:
        """By the name of the weights that hold what they encode; none where the model reads no features."""
        read = {feature: name for name in self._per_item if (feature := rows_of_feature(name))}
        if not read:
            return {}
        found = {e.feature.name: e for e in fit_side_features(self._files.items)}
        # As training encoded them, or not at all: the code or the columns may have changed since.
        wrong = [f.name for f in self._schema.item if f.name not in found or found[f.name].feature != f]
        if wrong:
            log.warning(
                "%s: its items are encoded otherwise today (%s): new ones are known by those most "
                "alike; train it again to have it read them itself",
                self._manifest.reference,
                ", ".join(wrong),
            )
            return {}
        return {name: found[feature] for feature, name in read.items()}


def _longer(model: nn.Module, per_item: tuple[str, ...], num_items: int) -> nn.Module:
    """A copy that shares all weights, but for those of each item, behind which stand zeros."""
    tensors: dict[int, Tensor] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    longer = copy.deepcopy(model, dict(tensors))
    for name in per_item:
        folder, _, leaf = name.rpartition(".")
        owner = longer.get_submodule(folder)
        old: Tensor = getattr(owner, leaf)
        grown = old.new_zeros(num_items, *old.shape[1:])
        grown[: len(old)] = old.detach()
        is_parameter = isinstance(old, nn.Parameter)
        setattr(owner, leaf, nn.Parameter(grown, requires_grad=False) if is_parameter else grown)
        if isinstance(owner, nn.Embedding):
            owner.num_embeddings = num_items
    return longer


@torch.no_grad()
def _set_rows(model: nn.Module, features: Mapping[str, Tensor], rows_R: Tensor) -> None:
    """What side features say of some items, of which nothing else is known."""
    for name, values in features.items():
        model.get_buffer(name)[rows_R] = values
    if isinstance(model, ForgetsItems):
        model.forget_items(rows_R)


@torch.no_grad()
def _set_means(model: nn.Module, per_item: tuple[str, ...], stand_ins: sp.csr_array, rows_R: Tensor) -> None:
    """Means of the weights of the items that stand in."""
    state = model.state_dict()
    for name in per_item:
        weights = state[name]
        if weights.is_floating_point():
            means = stand_ins @ weights[: stand_ins.shape[1]].numpy()
            weights[rows_R] = torch.from_numpy(means).to(weights.dtype)


class ScoredByLikeness(nn.Module):
    """A retriever without vectors over further items: each scores as the mean of those that stand in for it.

    In a history, a further item counts as the one most like it; without one it is left out.

    Args:
        stand_ins: weights_RI.
        rows_R: of the further items.
        num_known: items of the model.
    """

    def __init__(
        self, model: nn.Module, stand_ins: sp.csr_array, rows_R: Int64s, num_known: int, num_items: int
    ) -> None:
        super().__init__()
        assert isinstance(model, Retriever)
        self._scored, self.reads_history = model, reads_history(model)
        self._stand_ins, self._rows_R, self._num_items = stand_ins, rows_R, num_items
        self._is_alike_R = np.diff(stand_ins.indptr) > 0
        best_I = np.arange(num_items)
        best_I[num_known:] = -1
        for row, r in zip(rows_R[self._is_alike_R], np.flatnonzero(self._is_alike_R), strict=True):
            if row >= num_known:
                first, last = stand_ins.indptr[r : r + 2]
                best_I[row] = stand_ins.indices[first + stand_ins.data[first:last].argmax()]
        self._best_I = torch.from_numpy(best_I)

    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI."""
        best_N = self._best_I[queries.history.values_N]
        history = queries.history._replace(values_N=best_N).keep(best_N >= 0)
        times_N = queries.history_times_N[best_N >= 0]
        known = self._scored.score_items(queries._replace(history=history, history_times_N=times_N))
        scores_BI = known.new_empty(len(known), self._num_items)
        scores_BI[:, : known.shape[1]] = known
        more_BR = torch.from_numpy((self._stand_ins @ known.numpy().T).T).to(known.dtype)
        lowest_B1 = known.amin(dim=1, keepdim=True) - 1.0
        is_alike_R = torch.from_numpy(self._is_alike_R)
        scores_BI[:, torch.from_numpy(self._rows_R)] = torch.where(is_alike_R, more_BR, lowest_B1)
        return scores_BI
