"""What an application really shows, measured offline: the list of stages that is served, run on a split.

Of a version that was fitted again on everything, the models that were measured answer: what is served has
learnt what is asked for.
Each query goes alone through the stages that a replica opens, with the history that the split gives it
(a replica takes the log's: the same events, but for those at the very second of the request).

Shapes: B queries.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from recray.arrays import Int64s
from recray.batch import QueryBatch
from recray.bundles.same_data import require_same_data
from recray.config import ConfigError
from recray.data.events.dataset import Dataset
from recray.data.events.examples import Target, eval_examples, item_counts
from recray.data.events.splits import Split
from recray.eval.ages import as_words
from recray.eval.diversity import Diversity
from recray.eval.evaluate import Evaluation
from recray.eval.lists import evaluate_lists
from recray.eval.metrics import check_ks
from recray.features.log_until import LogUntil
from recray.features.request import Context
from recray.serve.clock import StageClock
from recray.serve.place.config import ServiceConfig
from recray.serve.query import History, Query
from recray.serve.stages.listed import StagesConfig, open_ranking, open_retrieval, run
from recray.serve.state import RequestState
from recray.serve.versions import OpenedVersion, ServedBundles, open_served

log = logging.getLogger(__name__)


class ServedResult(NamedTuple):
    """The same queries, as the first stage finds them and as they are shown; cards say what was served."""

    first_stage: Evaluation
    served: Evaluation
    lists: list[Int64s]  # as they are shown, one per query


def measure_served(
    config: ServiceConfig,
    dataset: Dataset,
    split: Split,
    *,
    target: Target = "test",
    version: int | str | None = None,
    ks: Sequence[int] = (10,),
    age_s: int = 0,
    context: Context | None = None,
) -> ServedResult:
    """Metrics of the first stage's order, and of the whole list with its rules, diversity and second source.

    Args:
        version: of the application, by number or name; None: the one that ``config.name`` points at.
        age_s: the log of each query ends where the query's history does, and it is asked so much later.
        context: of every request.
    Raises:
        ConfigError: a bundle is not in the store, or was trained on other data or another split; or the part
            to measure on is what the ranker learned from.
    """
    check_ks(ks)
    store, version = config.open_store(), config.name if version is None else version
    bundles = open_served(store, config.application, version, config.second_source)
    bundles.verify()
    for bundle in bundles.by_role.values():
        require_same_data(bundle, dataset, split)
    if bundles.ranker and target == "validation":
        raise ConfigError(f"{bundles.ranker.reference} learned from the validation part: measure on test")
    opened = OpenedVersion(bundles.measured, LogUntil)
    examples, card = eval_examples(dataset, split, target)
    found, shown = lists_of(config, opened, examples.queries, max(ks), age_s=age_s, context=context)
    counts_I, what = item_counts(dataset, split.train_N), _served(bundles, config)
    if age_s:
        what += f", asked {as_words(age_s)} later"
    log.info("%s: %d lists made", what, len(shown))
    diversity = Diversity(opened.item_vectors())

    def evaluated(lists: list[Int64s], served: str) -> Evaluation:
        found = evaluate_lists(lists, examples, replace(card, served=served), counts_I, ks=ks)
        unlike = {f"diversity@{k}": np.array([diversity.of(one[:k]) for one in lists]) for k in ks}
        return replace(found, per_query=found.per_query | unlike)

    return ServedResult(evaluated(found, f"first stage of {what}"), evaluated(shown, what), shown)


def lists_of(
    config: StagesConfig,
    opened: OpenedVersion,
    queries: QueryBatch,
    k: int,
    *,
    age_s: int = 0,
    context: Context | None = None,
) -> tuple[list[Int64s], list[Int64s]]:
    """What the first stage finds for each query, and what is shown, best first.

    Args:
        opened: told ``LogUntil``, so that its log ends where each query's history does.
    """
    first, others = open_retrieval(config, opened), open_ranking(config, opened)
    found, shown = [], []
    for query in _queries(queries, k):
        if isinstance(ending := opened.event_log, LogUntil):
            ending.end = query.time
        query = replace(query, time=query.time + age_s, context=context or {})
        state = first(RequestState(query, StageClock()))
        found.append(state.item_ids_S[: query.k])
        shown.append(run(others, state).item_ids_S)
    return found, shown


def _queries(queries: QueryBatch, k: int) -> Iterator[Query]:
    offsets_B, nothing = queries.history.offsets_B.tolist(), np.empty(0, np.int64)
    for b, (first, last) in enumerate(pairwise(offsets_B)):
        past = History(
            queries.history.values_N[first:last].numpy(), queries.history_times_N[first:last].numpy()
        )
        time = int(queries.request_times_B[b])
        yield Query(int(queries.user_ids_B[b]), None, nothing, time, k, past=past)


def _served(bundles: ServedBundles, config: StagesConfig) -> str:
    """The versions and the options that are not at their defaults, for the card."""
    versions = " + ".join(str(bundle.reference) for bundle in bundles.by_role.values())
    return ", ".join([versions, *(f"{name}={value}" for name, value in config.changed().items())])
