"""What events mean: which of them are to be found, how much each counts in training, what may come back.

The data set says what happened, a run what that means to it. Both choices and data give a ``Meaning``;
splits hold it, so that whoever learns or measures goes by one and the same.

Shapes: N interactions, G pairs of a user and an item.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from recray.arrays import Bools, Float32s, Int64s
from recray.config import ConfigError, nearest
from recray.data.events.dataset import Dataset
from recray.schema import DataError

log = logging.getLogger(__name__)
Seen = Literal["remove", "keep"]
Repeats = Literal["keep", "merge"]
Known = Literal["training", "history", "everything"]
WEIGHTS = ("equal", "rating", "relevant")


@dataclass(frozen=True, kw_only=True)
class EventChoices:
    """What events mean to a run, and what its models may know."""

    weights: str = "equal"
    """How much an event counts in training: equal; rating: as much as its rating, or number of plays;
    relevant: only what is to be found; or by type, view=1,cart=3,purchase=5: a type that is not named is
    history and never learnt. Only proportions count."""
    target: tuple[str, ...] = ()
    """Types of events that are to be found, such as purchase; none: all."""
    relevant: float | None = None
    """Least rating of what is to be found; None: any."""
    repeats: Repeats = "keep"
    """merge: of a user's events with one item the last stays. It weighs as much as all of them together,
    since amounts add up (equal weights stay equal), and is to be found if any of them was."""
    seen: Seen = "remove"
    """Whether items of the user's history may be recommended again, when measured and when served."""
    known: Known = "history"
    """What models may know at test. training: the training part alone. history: what they read of a user also
    holds the validation part, which nobody learns from; published figures are measured so. everything: they
    are fitted again with the validation part, for as long as validation chose."""

    test_users: int = 0
    """How many users are asked at test, drawn once and the same for every model; 0: all. Where there are too
    many to ask: the interval says what is lost by it."""

    def __post_init__(self) -> None:
        type_weights(self.weights)
        if self.test_users < 0:
            raise ConfigError(f"test_users must not be negative, got {self.test_users}")
        if self.relevant is not None and not math.isfinite(self.relevant):
            raise ConfigError(f"relevant must be a rating, got {self.relevant}")


class Meaning(NamedTuple):
    """What the choices say of each interaction."""

    relevant_N: Bools | None = None  # whether it is to be found, wherever it is held out; None: all are
    relevance: str = "all"  # the same in words, for the card
    weights_N: Float32s | None = None  # as given, 0 or more; 0: history, never learnt; None: all alike


def type_weights(weights: str) -> dict[str, float]:
    """Weight of each event type that ``EventChoices.weights`` names; empty where it goes by something else.

    Raises:
        ConfigError: it is neither a word of ``WEIGHTS`` nor a list of types with weights of 0 or more.
    """
    if weights in WEIGHTS:
        return {}
    named = [part.strip().rpartition("=") for part in weights.split(",")]
    if not all(name for name, _, _ in named):
        raise ConfigError(
            f"weights {weights!r}: give {', '.join(WEIGHTS)} or types such as view=1,cart=3,purchase=5"
            f"{nearest(weights, WEIGHTS)}"
        )
    found = {name.strip(): _weight(number, weights) for name, _, number in named}
    if len(found) < len(named) or not any(found.values()):
        raise ConfigError(f"weights {weights!r}: give each type one weight, one of them at least above 0")
    return found


def _weight(number: str, weights: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ConfigError(f"weights {weights!r}: {number!r} is no weight, which is a number of 0 or more")
    return value


def interpret(dataset: Dataset, choices: EventChoices) -> tuple[Dataset, Meaning]:
    """The data set, with repeats merged where that was chosen, and what its events mean.

    Raises:
        ConfigError: an event type that the data does not have.
        DataError: nothing is to be found, or nothing has a weight.
    """
    relevant_N, weights_N = _relevant(dataset, choices), _weights(dataset, choices)
    if choices.repeats == "merge":
        dataset, relevant_N, weights_N = _merged(dataset, relevant_N, weights_N)
    if choices.weights == "relevant" and relevant_N is not None:
        weights_N = relevant_N.astype(np.float32)
    weights_N = _unless_equal(dataset, weights_N)
    if weights_N is None and choices.weights != "equal":
        log.warning("%s: by weights %r all events weigh alike", dataset.name, choices.weights)
    return dataset, Meaning(relevant_N, _in_words(choices), weights_N)


def _in_words(choices: EventChoices) -> str:
    least = [] if choices.relevant is None else [f"rating >= {choices.relevant:g}"]
    return ", ".join([*sorted(choices.target), *least]) or "all"


def _relevant(dataset: Dataset, choices: EventChoices) -> Bools | None:
    if not choices.target and choices.relevant is None:
        return None
    relevant_N = np.ones(len(dataset), dtype=bool)
    if choices.target:
        wanted = _by_type(dataset, dict.fromkeys(choices.target, 1.0), "target")
        relevant_N &= wanted > 0
    if choices.relevant is not None:
        relevant_N &= dataset.ratings_N >= choices.relevant
    if not relevant_N.any():
        lowest, highest = dataset.ratings_N.min(), dataset.ratings_N.max()
        types = ", ".join(dataset.manifest.event_types) or "none"
        raise DataError(
            f"{dataset.name} has no event that is to be found ({_in_words(choices)}): "
            f"its ratings are {lowest:g} to {highest:g}, its types of events {types}"
        )
    return relevant_N


def _weights(dataset: Dataset, choices: EventChoices) -> Float32s | None:
    if named := type_weights(choices.weights):
        rest = [name for name in dataset.manifest.event_types if not named.get(name)]
        if rest:
            log.info("%s: %s weigh 0, so they are history and never learnt", dataset.name, ", ".join(rest))
        return _by_type(dataset, named, "weights")
    if choices.weights != "rating":
        return None
    if (lowest := dataset.ratings_N.min()) < 0:
        raise DataError(f"{dataset.name}: a rating of {lowest:g} cannot weigh: weights are 0 or more")
    return dataset.ratings_N


def _by_type(dataset: Dataset, values: Mapping[str, float], setting: str) -> Float32s:
    """The value of each event's type, 0 for the types without one."""
    types, places_N = dataset.manifest.event_types, dataset.event_types_N
    if places_N is None:
        raise ConfigError(
            f"{setting} names types of events, and {dataset.name} has none: prepare it with the column that "
            "says what users did"
        )
    for name in values:
        if name not in types:
            raise ConfigError(f"{setting}: {dataset.name} has no event type {name!r}{nearest(name, types)}")
    table = np.array([values.get(name, 0.0) for name in types], dtype=np.float32)
    return table[places_N]


def _merged(
    dataset: Dataset, relevant_N: Bools | None, weights_N: Float32s | None
) -> tuple[Dataset, Bools | None, Float32s | None]:
    """One event per user and item, at the place of its last."""
    pairs_N = dataset.user_ids_N * dataset.num_items + dataset.item_ids_N
    distinct_G, group_N = np.unique(pairs_N, return_inverse=True)
    last_G = np.empty(len(distinct_G), dtype=np.int64)
    last_G[group_N] = np.arange(len(pairs_N))  # the latest of several writes stays
    kept: Int64s = np.sort(last_G)
    if relevant_N is not None:
        relevant_N = (np.bincount(group_N, relevant_N) > 0)[group_N[kept]]
    if weights_N is not None:
        weights_N = np.bincount(group_N, weights_N)[group_N[kept]].astype(np.float32)
    types_N, parts_N = dataset.event_types_N, dataset.given_parts_N
    log.info("%s: %d events merged into %d", dataset.name, len(pairs_N), len(kept))
    shorter = replace(
        dataset,
        user_ids_N=dataset.user_ids_N[kept],
        item_ids_N=dataset.item_ids_N[kept],
        ratings_N=dataset.ratings_N[kept],
        timestamps_N=dataset.timestamps_N[kept],
        event_types_N=None if types_N is None else types_N[kept],
        given_parts_N=None if parts_N is None else parts_N[kept],
    )
    return shorter, relevant_N, weights_N


def _unless_equal(dataset: Dataset, weights_N: Float32s | None) -> Float32s | None:
    """Only proportions count, so equal ones are none."""
    if weights_N is None:
        return None
    largest = weights_N.max()
    if largest <= 0:
        raise DataError(f"{dataset.name}: no event has a weight above 0, so there is nothing to learn")
    return None if (weights_N == largest).all() else weights_N
