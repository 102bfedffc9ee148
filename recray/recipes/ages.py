"""How both stages do when the newest thing that they were told is old: the request comes later, nothing else.

Whatever looks at the time of a request may leave the range that it was trained in; this is where it shows.
"""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from recray.arrays import Int64s
from recray.batch import EvalExamples
from recray.contract import Scorer
from recray.data.events.examples import eval_examples, item_counts
from recray.eval.ages import AGES_S, METRIC, AtAge
from recray.eval.compare import compare
from recray.eval.lists import evaluate_lists
from recray.features.candidates import Candidates
from recray.features.examples import ranking_query
from recray.features.log_until import LogUntil
from recray.features.ranking import compute
from recray.recipes.two_stage import TwoStage
from recray.train.run import Part

log = logging.getLogger(__name__)
K = 10
MAX_QUERIES = 2_000  # a seeded draw, where there are more


def measure_ages(
    stages: TwoStage, ranker: Scorer, part: Part = "test", ages_s: Sequence[int] = AGES_S
) -> tuple[AtAge, ...]:
    """Lists of K, as they are served: each query's log ends with the query's own time, and it is asked
    ``age_s`` later."""
    examples, card = eval_examples(stages.data.dataset, stages.data.split, part)
    asked = _drawn(examples)
    candidates = stages.candidates(asked.queries)  # a retriever's own time stops with the log as well
    counts_I = item_counts(stages.data.dataset, stages.data.split.train_N)
    first = evaluate_lists([found.item_ids_K[:K] for found in candidates], asked, card, counts_I, ks=(K,))
    measured = []
    for age_s in ages_s:
        lists = list(_ranked(stages, ranker, asked, candidates, age_s))
        both = evaluate_lists(lists, asked, card, counts_I, ks=(K,))
        gain = compare(both, first, METRIC)
        measured.append(AtAge(age_s, first.means()[METRIC], both.means()[METRIC], gain.low, gain.high))
    return tuple(measured)


def _ranked(
    stages: TwoStage, ranker: Scorer, asked: EvalExamples, candidates: Sequence[Candidates], age_s: int
) -> Iterator[Int64s]:
    ended = LogUntil(stages.log)
    for b, found in enumerate(candidates):
        query = ranking_query(asked.queries, b, found, age_s=age_s)
        ended.end = int(asked.queries.request_times_B[b])
        scores_K = ranker.score(compute(ended, query, ranker.feature_names), found.item_ids_K)
        yield found.item_ids_K[np.argsort(-scores_K, kind="stable")[:K]]


def _drawn(examples: EvalExamples) -> EvalExamples:
    count = len(examples.queries.user_ids_B)
    if count <= MAX_QUERIES:
        return examples
    rows = np.sort(np.random.default_rng(0).choice(count, MAX_QUERIES, replace=False))
    return examples.take(torch.from_numpy(rows))
