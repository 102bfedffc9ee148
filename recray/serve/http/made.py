"""An answer, and what is known of how it came about: for those who take it down."""

from typing import NamedTuple

from recray.arrays import Float32s
from recray.serve.http import answers
from recray.serve.position import Position


class WentBy(NamedTuple):
    """What a ranker went by, of S shown items and F features."""

    feature_names: tuple[str, ...]
    features_SF: Float32s  # in the order of the answer; rows of NaN: not ranked


class Made(NamedTuple):
    """An answer of its own."""

    answer: answers.Recommendations
    heard: tuple[Position, ...] = ()  # of the other deployments that took part
    rules: tuple[str, ...] = ()  # business rules that changed the list, in the order in which they acted
    went_by: WentBy | None = None  # None: nothing was ranked, or the answer was given before
