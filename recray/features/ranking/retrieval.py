"""How the item was found."""

import numpy as np

from recray.features.candidates import POPULAR, RETRIEVER
from recray.features.ranking.feature import Group, Value
from recray.features.ranking.known import KnownOfQuery
from recray.features.ranking.places import place_within

SCORE, SOURCE = Group[KnownOfQuery]("retrieval"), Group[KnownOfQuery]("retrieval")


@SCORE.feature("score")
def retrieval_score(known: KnownOfQuery) -> Value:
    """The retriever's score."""
    return known.query.retrieval_scores_K


@SCORE.feature("rank")
def retrieval_rank(known: KnownOfQuery) -> Value:
    """1 + how many candidates have a higher score."""
    return place_within(known.query.retrieval_scores_K)


@SCORE.feature("score")
def retrieval_gap(known: KnownOfQuery) -> Value:
    """The best candidate's score minus the score."""
    scores_K = known.query.retrieval_scores_K
    gap_K: Value = np.fmax.reduce(scores_K, initial=-np.inf) - scores_K
    return gap_K


@SOURCE.feature("flag")
def from_retriever(known: KnownOfQuery) -> Value:
    """1 where the retriever named the item."""
    named_K: Value = known.query.sources_K & RETRIEVER != 0
    return named_K


@SOURCE.feature("flag")
def from_popular(known: KnownOfQuery) -> Value:
    """1 where the item is among the popular ones proposed to everybody."""
    named_K: Value = known.query.sources_K & POPULAR != 0
    return named_K
