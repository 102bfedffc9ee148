"""Which interactions are for training, validation and test: masks, never copies.

Interactions are in order of time with ties in the order of the raw file, and every split keeps that.

Shapes: N interactions, U users, R those that are to be found, by user.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from recray.arrays import Bools, Float32s, Int64s
from recray.config import ConfigError, nearest
from recray.data.events.choices import Known, Repeats, Seen
from recray.data.events.dataset import Dataset
from recray.data.source import ABSOLUTE_TIMES, NO_CLOCK, ROW_NUMBERS, TIMES_PER_USER
from recray.schema import DataError, Learnt


@dataclass(frozen=True, kw_only=True)
class Split:
    """Three disjoint masks over the interactions that together cover them, and what those mean.

    What a part asks for is those of its interactions that are relevant; the others are history of what
    follows them.
    """

    name: str  # with its numbers, e.g. "global-time(0.8,0.1,0.1)"; goes onto the protocol card
    train_N: Bools
    validation_N: Bools
    test_N: Bools
    relevant_N: Bools | None = None  # what is to be found, of every part; None: all of it
    relevance: str = "all"  # the same in words
    weights_N: Float32s | None = None  # how much each counts in training, 0: never learnt; None: all alike
    seen: Seen = "remove"  # the choices that the card repeats, see ``EventChoices``
    repeats: Repeats = "keep"
    known: Known = "history"
    test_users: int = 0
    in_time: bool = True  # whether what is held out comes later: else nobody's last event is nearest to it

    @property
    def learnt_N(self) -> Bools:
        """What models learn from: the training part but for what has no weight."""
        return self.train_N if self.weights_N is None else self.train_N & (self.weights_N > 0)

    def learning(self, what: Learnt) -> "Split":
        """The same with more of it in the training part; what is learnt is no longer held out."""
        none_N = np.zeros_like(self.train_N)
        if what == "before test":
            return replace(self, train_N=self.train_N | self.validation_N, validation_N=none_N)
        if what == "all":
            return replace(self, train_N=~none_N, validation_N=none_N, test_N=none_N)
        return self


def leave_one_out(dataset: Dataset, relevant_N: Bools | None = None) -> Split:
    """Each user's last relevant interaction is the test, the one before is the validation.

    Parts are segments of a user's time: what lies between the two targets belongs to the validation part
    and is history of the test; what follows the test target belongs to the test part, so that nobody learns
    from it. Users with one relevant interaction are asked for it: every second one of them in the
    validation, the others in the test. Where nothing precedes the first target, the user stays in training
    whole (if all is relevant: users with fewer than three interactions): nothing could be learned about
    them otherwise.
    """
    order_N = np.argsort(dataset.user_ids_N, kind="stable")  # by user, each in order of time
    user_N = dataset.user_ids_N[order_N]
    ends_U = np.cumsum(np.bincount(user_N, minlength=dataset.num_users))
    starts_U = np.concatenate([[0], ends_U[:-1]])
    places_R = np.arange(len(order_N)) if relevant_N is None else np.flatnonzero(relevant_N[order_N])
    test_U, validation_U = _first_of_segments(places_R, user_N[places_R], starts_U, ends_U)
    at_N = np.arange(len(order_N))
    validation_N, test_N = np.empty(len(order_N), dtype=bool), np.empty(len(order_N), dtype=bool)
    test_N[order_N] = at_N >= test_U[user_N]
    validation_N[order_N] = (at_N >= validation_U[user_N]) & (at_N < test_U[user_N])
    return Split(
        name="leave-one-out", train_N=~(validation_N | test_N), validation_N=validation_N, test_N=test_N
    )


def _first_of_segments(
    places_R: Int64s, user_R: Int64s, starts_U: Int64s, ends_U: Int64s
) -> tuple[Int64s, Int64s]:
    """Where each user's test and validation begin, among interactions by user; ``ends_U`` where they do not.

    Args:
        places_R: of the relevant interactions; ``user_R``: whose they are.
    """
    test_U, validation_U = ends_U.copy(), ends_U.copy()
    counts_U = np.bincount(user_R, minlength=len(ends_U))
    last_U = np.cumsum(counts_U) - 1  # in places_R
    (several,) = np.nonzero(counts_U >= 2)
    several = several[places_R[last_U[several] - 1] > starts_U[several]]
    test_U[several], validation_U[several] = places_R[last_U[several]], places_R[last_U[several] - 1]
    (single,) = np.nonzero(counts_U == 1)
    single = single[places_R[last_U[single]] > starts_U[single]]
    test_U[single[::2]] = validation_U[single[::2]] = places_R[last_U[single[::2]]]
    validation_U[single[1::2]] = places_R[last_U[single[1::2]]]
    return test_U, validation_U


def global_time(dataset: Dataset, train: float = 0.8, validation: float = 0.1) -> Split:
    """One moment ends the training data, a later one the validation data, for all users alike.

    The moments are the times of the interactions at the given fractions; whatever happened at a
    moment belongs to what follows it, so equal times never straddle a boundary.

    Raises:
        ConfigError: the fractions leave nothing for training or test.
        DataError: the times are not comparable between users, or too many are equal.
    """
    test = _rest(train, validation)
    if dataset.manifest.options.get("times") == TIMES_PER_USER:
        raise DataError(
            f"{dataset.name} has {TIMES_PER_USER}, which are not comparable between users: "
            "use the leave-one-out or the random split"
        )
    times_N, num_rows = dataset.timestamps_N, len(dataset)
    first_validation = times_N[min(int(num_rows * train), num_rows - 1)]
    first_test = times_N[min(int(num_rows * (train + validation)), num_rows - 1)]
    before_validation, before_test = np.searchsorted(times_N, [first_validation, first_test])
    rows_N = np.arange(num_rows)
    split = Split(
        name=f"global-time({train:g},{validation:g},{test:g})",
        train_N=rows_N < before_validation,
        validation_N=(rows_N >= before_validation) & (rows_N < before_test),
        test_N=rows_N >= before_test,
    )
    _require_parts(dataset, split, validation)
    return split


def random_ratio(dataset: Dataset, train: float = 0.8, validation: float = 0.1, seed: int = 0) -> Split:
    """Each interaction falls into a part by chance, in exact proportion over the whole data set.

    Raises:
        ConfigError: the fractions leave nothing for training or test.
        DataError: there are too few interactions for the fractions.
    """
    test = _rest(train, validation)
    num_rows = len(dataset)
    order_N = np.random.default_rng(seed).permutation(num_rows)
    end_train, end_validation = round(num_rows * train), round(num_rows * (train + validation))
    parts_N = np.full(num_rows, 2, dtype=np.int8)
    parts_N[order_N[:end_validation]] = 1
    parts_N[order_N[:end_train]] = 0
    split = Split(
        name=f"random({train:g},{validation:g},{test:g},seed={seed})",
        train_N=parts_N == 0,
        validation_N=parts_N == 1,
        test_N=parts_N == 2,
    )
    _require_parts(dataset, split, validation)
    return split


def everything(dataset: Dataset) -> Split:
    """All of it is for training, and nothing can be measured."""
    all_N = np.ones(len(dataset), dtype=bool)
    return Split(name="all", train_N=all_N, validation_N=~all_N, test_N=~all_N)


def given(dataset: Dataset) -> Split:
    """The parts that a benchmark's files are; the name says which, by digest.

    Raises:
        DataError: the data does not say which part a row is of, or has none for training or test.
    """
    parts_N = dataset.given_parts_N
    if parts_N is None:
        raise DataError(
            f"{dataset.name} was not given in parts: prepare it from a benchmark's files for training, "
            "validation and test, or take another split"
        )
    split = Split(
        name=f"given({hashlib.sha256(parts_N.tobytes()).hexdigest()[:12]})",
        train_N=parts_N == 0,
        validation_N=parts_N == 1,
        test_N=parts_N == 2,
    )
    _require_parts(dataset, split, validation=0)
    return split


SPLITS: dict[str, Callable[[Dataset], Split]] = {
    "leave-one-out": leave_one_out,
    "global-time": global_time,
    "random": random_ratio,
    "given": given,
    "all": everything,
}


def split_by_name(dataset: Dataset, name: str, relevant_N: Bools | None = None) -> Split:
    """The split of that name with its default fractions.

    Args:
        relevant_N: what is to be found, which only leave-one-out needs to know; None: all.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name not in SPLITS:
        raise ConfigError(f"no split {name!r}{nearest(name, SPLITS)}")
    split = leave_one_out(dataset, relevant_N) if name == "leave-one-out" else SPLITS[name](dataset)
    return replace(split, in_time=_is_in_time(dataset, split))


def _is_in_time(dataset: Dataset, split: Split) -> bool:
    """Whether each user's events are in order of time, and those held out are the last.

    Rows without times are in the order of their file, which may be any; positions in sequences are an order,
    but of a benchmark's parts, whose lines are mostly sets.
    """
    times = dataset.manifest.options.get("times", ABSOLUTE_TIMES)
    if split.name.startswith("random") or times == ROW_NUMBERS:
        return False
    if not split.name.startswith("given"):
        return True
    held_N = split.validation_N | split.test_N
    last_U, first_U = np.full(dataset.num_users, -1), np.full(dataset.num_users, len(dataset))
    np.maximum.at(last_U, dataset.user_ids_N[split.train_N], np.flatnonzero(split.train_N))
    np.minimum.at(first_U, dataset.user_ids_N[held_N], np.flatnonzero(held_N))
    return times not in NO_CLOCK and bool((last_U < first_U).all())


def _rest(train: float, validation: float) -> float:
    test = round(1 - train - validation, 12)
    if not (math.isfinite(test) and train > 0 and validation >= 0 and test > 0):
        raise ConfigError(
            f"train={train} and validation={validation} leave {test:g} for the test: "
            "train and what is left must be above 0, validation not below it"
        )
    return test


def _require_parts(dataset: Dataset, split: Split, validation: float) -> None:
    sizes = {
        "train": int(split.train_N.sum()),
        "validation": int(split.validation_N.sum()) if validation else 1,
        "test": int(split.test_N.sum()),
    }
    for part, size in sizes.items():
        if size == 0:
            raise DataError(
                f"{split.name} of {dataset.name} leaves no interaction for {part} "
                f"({len(dataset)} interactions at {len(np.unique(dataset.timestamps_N))} distinct times): "
                "choose other fractions, other parts or another split"
            )
