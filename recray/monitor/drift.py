"""Whether a window of a stream is like its reference, by thresholds that follow from the window itself.

Without any drift the population stability index of 200 rows has a median of 0.095, of 10,000 rows 0.002, and
rows of one user are no 200 independent ones. So no threshold is a constant. What a statistic is worth where
nothing moved is drawn from the sketches: each group of users gets a random weight (the multiplier bootstrap;
Kline & Santos, A score based approach to wild bootstrap inference, 2012; a group is a cluster), the
same in the window and in the reference, and every statistic of every column comes of the same weights. The
greatest of all, each in units of its own spread, has one threshold (Westfall & Young, Resampling-based
multiple testing, 1993): the chance that any column of an unchanged stream is beyond it is the one that was
asked for, however the columns hang together. That takes the place of a correction by Holm, which knows
nothing of that.

A shift can be certain and no matter. ``LEAST`` is what is no news; a threshold is the null's on top of it.
As ks, the roots of psi and chi-square, and the distance of mean embeddings obey the triangle inequality (psi
nearly), whatever moved by less than ``LEAST`` is not raised more often than what did not move.

Hours: p_R is put together from the reference's slots of the week in the window's proportions, so a window of
an evening is compared with evenings.

Shapes: G groups, S slots, J bins of a column, B draws, K tests.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recray.arrays import Bools, Float64s, Int64s
from recray.monitor.drift_report import Test
from recray.monitor.sketch import GROUPS, HASHED, Sketch, Watched

DRAWS = 2000
TAIL = 0.05  # beyond it the null's upper tail is taken as exponential, which of a normal maximum is more
LEAST_ROWS = 50  # of a slot of the week in the reference: the window's rows of others are left out
MOST = 0.8  # share of the window's rows that must be left then, for hours to be told apart
LEAST: dict[Test, float] = {"ks": 0.02, "psi": 0.1, "chi-square": 0.1, "mmd": 0.02, "collisions": 0.1}
"""Differences that are no news, in the units of ``_Statistic``: roots of psi and chi-square: .01 of these."""
FEW = 2.0  # groups with a value count as much as what the reference says of its spread
LEAST_GROUPS = 3  # of users, for pairs of them to be told apart
EVEN = 0.005  # put upon every share before they are divided by each other


class Shift(NamedTuple):
    """A column, in the reference and in the window."""

    column: Watched
    reference_J: Float64s  # shares
    window_J: Float64s
    psi: float


class Found(NamedTuple):
    """One test, in the units in which it is known."""

    name: str  # of the column
    test: Test
    statistic: float
    threshold: float
    p_value: float  # of all tests together


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two sketches differ in.

    Attributes:
        by_hours: whether hours of the week could be told apart.
        effective_items: 1 / the chance that two users were shown one item, reference and window: as many
            items shown equally often would do that; None: too few rows to say.
    """

    shifts: tuple[Shift, ...]
    found: tuple[Found, ...]
    by_hours: bool
    effective_items: tuple[float | None, float | None]


class _Statistic(NamedTuple):
    """What was measured, and what it would have been B times if nothing had moved."""

    name: str
    test: Test
    value: float
    null_B: Float64s


class _Difference(NamedTuple):
    """Of means: the window's less the reference's, by group of users what it is made of."""

    reference_J: Float64s
    difference_J: Float64s
    of_window_GJ: Float64s  # each adds up to nothing
    of_reference_GJ: Float64s
    size_G: Int64s  # rows of the window
    unsure_J: Float64s  # variance that too few rows of the window hide


class Null:
    """The random weights of the groups, the same for every column."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.weights_BG = self.rng.standard_normal((DRAWS, GROUPS), np.float32)

    def differences(self, of: _Difference) -> Float64s:
        """difference_BJ where nothing moved.

        Spreads are known from few groups, so draws are divided as those of a t distribution are.
        """
        both_GJ = of.of_window_GJ - of.of_reference_GJ  # a user's rows of both: it is one person
        groups = max(int(both_GJ.any(1).sum()), 2)
        unbiased_GJ = both_GJ * np.sqrt(groups / (groups - 1.0))
        drawn_BJ = self.weights_BG @ unbiased_GJ.astype(np.float32)
        freedom = max(float(of.size_G.sum()) ** 2 / max(float((of.size_G**2).sum()), 1.0) - 1.0, 1.0)
        spread_B = np.sqrt(self.rng.chisquare(freedom, len(drawn_BJ)) / freedom)
        drawn_BJ /= spread_B[:, None].astype(np.float32)
        if of.unsure_J.any():
            more_BJ = self.rng.standard_normal(drawn_BJ.shape, np.float32)
            more_BJ *= np.sqrt(of.unsure_J).astype(np.float32)
            drawn_BJ += more_BJ - of.reference_J.astype(np.float32) * more_BJ.sum(1, keepdims=True)
        drawn: Float64s = drawn_BJ.astype(np.float64)
        return drawn


def compare(reference: Sketch, window: Sketch, chance: float, seed: int = 0) -> Comparison:
    """Every watched column of the window that the reference has, the items' vectors and how alike lists are.

    Args:
        chance: that anything at all is found in a window of an unchanged stream.
        seed: of the draws.
    """
    hours_S = _hours(reference, window)
    null, statistics, shifts = Null(seed), list[_Statistic](), list[Shift]()
    for column in reference.watched:
        counts = [_within(one.column(column.name)[1], hours_S) for one in (reference, window)]
        of = _difference(counts[0], counts[1])
        if of is not None:
            shifts.append(_shift(column, of))
            statistics += _of_column(column, of, null.differences(of))
    if (of := _vectors(reference, window, hours_S)) is not None:
        null_B = np.linalg.norm(null.differences(of), axis=1)
        statistics.append(_Statistic("item vectors", "mmd", float(np.linalg.norm(of.difference_J)), null_B))
    alike = _Alike.of(reference), _Alike.of(window)
    if alike[0] and alike[1]:
        statistics.append(_effective_items(alike[0], alike[1], null))
    return Comparison(
        shifts=tuple(shifts),
        found=tuple(_judged(statistics, chance)),
        by_hours=hours_S is not None,
        effective_items=(
            alike[0].effective_items if alike[0] else None,
            alike[1].effective_items if alike[1] else None,
        ),
    )


def _hours(reference: Sketch, window: Sketch) -> Bools | None:
    """Slots that can be compared; None: too much of the window is in others, so hours are not told apart."""
    if reference.slots == 1 or window.slots == 1:
        return None
    there_S, needed_S = (one.counts_GST.sum((0, 2)) / max(len(one.watched), 1) for one in (reference, window))
    there: Bools = there_S >= LEAST_ROWS
    return there if needed_S[there].sum() >= MOST * needed_S.sum() else None


def _within(counts_GSX: Float64s | Int64s, hours_S: Bools | None) -> Float64s:
    """By slots that can be compared, or all in one."""
    chosen = counts_GSX.sum(1, keepdims=True) if hours_S is None else counts_GSX[:, hours_S]
    return chosen.astype(np.float64)


def _difference(
    reference_GSJ: Float64s,
    window_GSJ: Float64s,
    rows: tuple[Float64s, Float64s] | None = None,
) -> _Difference | None:
    """
    Args:
        rows: rows_GS of both, over which sums are means; None: what the bins add up to.
    """
    of_reference_GS, of_window_GS = rows or (reference_GSJ.sum(2), window_GSJ.sum(2))
    in_window, in_reference_S = of_window_GS.sum(), of_reference_GS.sum(0)
    if not in_window or not in_reference_S.sum():
        return None
    share_S = of_window_GS.sum(0) / in_window
    per_row_S = np.divide(1.0, in_reference_S, out=np.zeros_like(share_S), where=in_reference_S > 0)
    mean_SJ = reference_GSJ.sum(0) * per_row_S[:, None]
    reference_J = share_S @ mean_SJ
    beyond_GJ = (window_GSJ - of_window_GS[:, :, None] * mean_SJ).sum(1)
    difference_J = beyond_GJ.sum(0) / in_window
    size_G = of_window_GS.sum(1)
    around_GSJ = reference_GSJ - of_reference_GS[:, :, None] * mean_SJ
    of_reference_GJ = np.einsum("gsj,s->gj", around_GSJ, share_S * per_row_S)
    of_window_GJ = (beyond_GJ - size_G[:, None] * difference_J) / in_window
    unsure_J = np.zeros_like(reference_J)
    if rows is None:
        # Nothing of a rare value in the window looks like certainty; the reference knows how it comes.
        usual_J = (of_reference_GJ**2).sum(0) * in_reference_S.sum() / in_window
        groups_J = (window_GSJ.sum(1) > 0).sum(0)
        unsure_J = np.maximum(usual_J - (of_window_GJ**2).sum(0), 0.0) * FEW / (FEW + groups_J)
    return _Difference(reference_J, difference_J, of_window_GJ, of_reference_GJ, size_G, unsure_J)


def _shift(column: Watched, of: _Difference) -> Shift:
    window_J = of.reference_J + of.difference_J
    return Shift(column, of.reference_J, window_J, float(_psi(window_J, of.reference_J)))


def _of_column(column: Watched, of: _Difference, null_BJ: Float64s) -> list[_Statistic]:
    shares_J, found_J = of.reference_J, of.difference_J
    moved_BJ = np.clip(shares_J + null_BJ, 0.0, None)
    psi = np.sqrt(_psi(np.clip(shares_J + found_J, 0.0, None), shares_J)), np.sqrt(_psi(moved_BJ, shares_J))
    tests = [_Statistic(column.name, "psi", float(psi[0]), psi[1])]
    if column.edges is None:
        weight_J = 1.0 / (shares_J + EVEN)
        chi_B = np.sqrt((null_BJ**2) @ weight_J)
        chi = float(np.sqrt((found_J**2) @ weight_J))
        return [_Statistic(column.name, "chi-square", chi, chi_B), *tests]
    distance_B = np.abs(np.cumsum(null_BJ, axis=1)).max(1)
    distance = float(np.abs(np.cumsum(found_J)).max())
    return [_Statistic(column.name, "ks", distance, distance_B), *tests]


def _psi(window_J: Float64s, reference_J: Float64s) -> Float64s:
    """Population stability index: sum (w - r) log(w / r), of shares that are moved towards even ones a
    little, so that an empty bin is no infinity. Rows of ``window_J`` are windows of their own."""
    even = EVEN * reference_J.shape[-1]
    window, reference = (window_J + EVEN) / (1 + even), (reference_J + EVEN) / (1 + even)
    index: Float64s = ((window - reference) * np.log(window / reference)).sum(-1)
    return index


def _vectors(reference: Sketch, window: Sketch, hours_S: Bools | None) -> _Difference | None:
    if reference.vectors_GSR.shape[2] != window.vectors_GSR.shape[2] or not window.vectors_GSR.size:
        return None
    sums = [_within(one.vectors_GSR, hours_S) for one in (reference, window)]
    rows = [_within(one.with_vector_GS[:, :, None], hours_S)[:, :, 0] for one in (reference, window)]
    return _difference(sums[0], sums[1], (rows[0], rows[1]))


class _Alike(NamedTuple):
    """How often two users are shown one item, and what each group adds to that."""

    chance: float  # without what buckets share by accident
    log_chance_G: Float64s  # of which its logarithm is made, around nothing
    size_G: Int64s

    @property
    def effective_items(self) -> float:
        return 1.0 / self.chance

    @classmethod
    def of(cls, sketch: Sketch) -> "_Alike | None":
        """None: too few users to say; of two there is one pair, and no other to tell its spread by.

        Pairs within a group may be of one user and are left out, so the chance is unbiased at any size.
        """
        shown_GH = sketch.items_GH.astype(np.float64)
        size_G, shown_H = shown_GH.sum(1), shown_GH.sum(0)
        pairs = size_G.sum() ** 2 - (size_G**2).sum()
        if not pairs or np.count_nonzero(size_G) < LEAST_GROUPS:
            return None
        same = (shown_H**2).sum() - (shown_GH**2).sum()
        hashed = same / pairs
        chance = (hashed - 1 / HASHED) / (1 - 1 / HASHED)
        if chance <= 0:
            return None
        own_G = 2 * ((shown_GH * (shown_H - shown_GH)).sum(1) - hashed * size_G * (size_G.sum() - size_G))
        log_chance_G = own_G / pairs / (hashed - 1 / HASHED)
        return cls(float(chance), log_chance_G - log_chance_G.mean(), sketch.items_GH.sum(1))


def _effective_items(reference: _Alike, window: _Alike, null: Null) -> _Statistic:
    """The logarithm of their ratio."""
    found = np.log(window.effective_items) - np.log(reference.effective_items)
    of = _Difference(
        np.zeros(1),
        np.array([found]),
        window.log_chance_G[:, None],
        reference.log_chance_G[:, None],
        window.size_G,
        np.zeros(1),
    )
    return _Statistic("effective items", "collisions", abs(float(found)), np.abs(null.differences(of)[:, 0]))


def _judged(statistics: list[_Statistic], chance: float) -> list[Found]:
    """Each against what the greatest of all would have been."""
    if not statistics:
        return []
    null_BK = np.stack([one.null_B for one in statistics], axis=1)
    mean_K, spread_K = null_BK.mean(0), np.maximum(null_BK.std(0), 1e-12)
    greatest_B = np.sort(((null_BK - mean_K) / spread_K).max(1))
    limit = _beyond(greatest_B, chance)
    found = []
    for one, mean, spread in zip(statistics, mean_K, spread_K, strict=True):
        least = LEAST[one.test]
        p_value = _chance_of(greatest_B, (one.value - least - mean) / spread)
        threshold = least + mean + limit * spread
        squared = 2 if one.test in ("psi", "chi-square") else 1
        found.append(Found(one.name, one.test, one.value**squared, float(threshold) ** squared, p_value))
    return found


def _tail(greatest_B: Float64s) -> tuple[float, float]:
    """Where the tail begins, and its mean beyond that."""
    begins = float(np.quantile(greatest_B, 1 - TAIL))
    return begins, max(float((greatest_B[greatest_B > begins] - begins).mean()), 1e-12)


def _beyond(greatest_B: Float64s, chance: float) -> float:
    """What is exceeded with that chance."""
    begins, mean = _tail(greatest_B)
    return (
        begins + mean * np.log(TAIL / chance) if chance < TAIL else float(np.quantile(greatest_B, 1 - chance))
    )


def _chance_of(greatest_B: Float64s, value: float) -> float:
    """That it is exceeded."""
    begins, mean = _tail(greatest_B)
    if value > begins:
        return float(TAIL * np.exp(-(value - begins) / mean))
    return float((greatest_B >= value).mean())
