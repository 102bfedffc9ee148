"""Versions that were trained on different data, asked the same: what all of them know of one data set."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from recray.arrays import Bools, Float64s, Int64s
from recray.bundles.ranker import read_candidate_config, read_ranker
from recray.bundles.retriever import read_catalogue
from recray.config import ConfigError
from recray.data.events.dataset import Dataset, places_of
from recray.data.events.examples import eval_examples, item_counts
from recray.data.events.split_data import SplitData
from recray.eval.evaluate import Evaluation, evaluate
from recray.features.candidates import CandidateConfig
from recray.recipes.two_stage import TwoStage
from recray.schema import DataError, FeatureSchema, SemanticSchema
from recray.store import Bundle, Store


@dataclass(frozen=True)
class Contender:
    """A retriever, and the ranker of its candidates where there is one."""

    retriever: Bundle
    ranker: Bundle | None = None

    @property
    def first(self) -> Bundle:
        """The bundle that names of the store point at."""
        return self.ranker or self.retriever

    @staticmethod
    def of(store: Store, bundle: Bundle) -> "Contender":
        """
        Raises:
            ConfigError: neither of them.
        """
        needed = bundle.manifest.requires.get("retriever")
        if needed is not None:
            return Contender(store.resolve(needed), bundle)
        if not isinstance(bundle.manifest.schema, FeatureSchema | SemanticSchema):
            raise ConfigError(f"{bundle.reference} is a {bundle.manifest.model!r}: it recommends nothing")
        return Contender(bundle)


def ask_the_same(
    contenders: Sequence[Contender], data: SplitData, ks: Sequence[int] = (10,)
) -> list[Evaluation]:
    """Metrics of each on the test part of the data: the same users, items and queries, users as the data
    numbers them.

    Events of users and items that one of them does not know are left out for all. The models answer that were
    measured: none has learnt the test part as long as its own data ended before it, or held it out alike.

    Raises:
        DataError: no user is left of whom something is to be found.
    """
    catalogues = [read_catalogue(one.retriever.measured) for one in contenders]
    kept_N = np.logical_and.reduce([_known(data.dataset, *catalogue) for catalogue in catalogues])
    if not (kept_N & data.split.test_N).any():
        raise DataError(
            "the versions have no user and item of the test part in common: train production again by hand"
        )
    return [
        _measured(one, _as_known_to(data, kept_N, *catalogue), data.dataset.users["raw_id"], ks)
        for one, catalogue in zip(contenders, catalogues, strict=True)
    ]


def known_events(one: Contender, dataset: Dataset) -> Bools:
    """known_N: the events whose user and item a version knows."""
    return _known(dataset, *read_catalogue(one.retriever.measured))


def paired_differences(first: Evaluation, second: Evaluation, metric: str) -> Float64s:
    """What the second has more than the first, user by user; the users are those of ``ask_the_same``."""
    gain_U: Float64s = second.per_query[metric] - first.per_query[metric]
    return gain_U


def _measured(one: Contender, data: SplitData, users: pl.Series, ks: Sequence[int]) -> Evaluation:
    ranker = read_ranker(one.ranker.measured) if one.ranker else None
    config = read_candidate_config(one.ranker.measured) if one.ranker else CandidateConfig()
    stages = TwoStage(one.retriever, data, config, same_data=False)
    examples, card = eval_examples(data.dataset, data.split, "test")
    counts_I = item_counts(data.dataset, data.split.train_N)
    found = evaluate(
        stages.score_items if ranker is None else lambda queries: stages.ranked_by(ranker, queries),
        examples,
        card,
        counts_I,
        ks=ks,
    )
    # Each version numbers users in its own way.
    ids_U = places_of(data.dataset.users["raw_id"].gather(found.user_ids_U), users)
    order_U = ids_U.argsort()
    per_query = {name: values_U[order_U] for name, values_U in found.per_query.items()}
    return replace(found, per_query=per_query, user_ids_U=ids_U[order_U])


def _as_known_to(data: SplitData, kept_N: Bools, users: pl.DataFrame, items: pl.DataFrame) -> SplitData:
    """The kept events, in the ids of a version."""
    dataset, split = data.dataset, data.split
    user_U, item_I = _places(dataset, users, items)
    known = replace(
        dataset,
        manifest=replace(dataset.manifest, num_users=len(users), num_items=len(items)),
        user_ids_N=user_U[dataset.user_ids_N[kept_N]],
        item_ids_N=item_I[dataset.item_ids_N[kept_N]],
        ratings_N=dataset.ratings_N[kept_N],
        timestamps_N=dataset.timestamps_N[kept_N],
        event_types_N=None if dataset.event_types_N is None else dataset.event_types_N[kept_N],
        users=users,
        items=items,
    )
    return SplitData(
        known,
        replace(
            split,
            train_N=split.train_N[kept_N],
            validation_N=split.validation_N[kept_N],
            test_N=split.test_N[kept_N],
            relevant_N=None if split.relevant_N is None else split.relevant_N[kept_N],
            weights_N=None if split.weights_N is None else split.weights_N[kept_N],
        ),
    )


def _known(dataset: Dataset, users: pl.DataFrame, items: pl.DataFrame) -> Bools:
    user_U, item_I = _places(dataset, users, items)
    known_N: Bools = (user_U[dataset.user_ids_N] >= 0) & (item_I[dataset.item_ids_N] >= 0)
    return known_N


def _places(dataset: Dataset, users: pl.DataFrame, items: pl.DataFrame) -> tuple[Int64s, Int64s]:
    """user_U and item_I: what the data's users and items are to a version; -1: unknown."""
    return (
        places_of(dataset.users["raw_id"], users["raw_id"]),
        places_of(dataset.items["raw_id"], items["raw_id"]),
    )
