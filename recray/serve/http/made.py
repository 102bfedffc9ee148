"""An answer, and what is known of how it came about: for those who take it down."""

from collections.abc import Mapping
from typing import NamedTuple

from recray.arrays import Float32s
from recray.serve.http import answers
from recray.serve.position import Position
from recray.serve.version import Version


class WentBy(NamedTuple):
    """What a ranker went by, of S shown items and F features."""

    feature_names: tuple[str, ...]
    features_SF: Float32s  # in the order of the answer; NaN: missing; rows of NaN: not ranked


class Made(NamedTuple):
    """An answer of its own."""

    answer: answers.Recommendations
    heard: tuple[Position, ...] = ()  # of the other deployments that took part
    rules: tuple[str, ...] = ()  # business rules that changed the list, in the order in which they acted
    went_by: WentBy | None = None  # None: nothing was ranked
    versions: tuple[Mapping[str, Version], ...] = ()  # of each item; empty: all are of the answer's
