"""Thresholds hold where nothing moved, however rows hang together; what moved is found by name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recray.config import ConfigError
from recray.monitor import drift
from recray.monitor.drift import Comparison, compare
from recray.monitor.drift_files import read_latest, write_latest
from recray.monitor.drift_report import DriftReport
from recray.monitor.findings import bar_labels, findings
from recray.monitor.reference import load_sketch, sample_of, save_sketch
from recray.monitor.sketch import (
    SLOTS,
    Rows,
    Sketch,
    Watched,
    added,
    fourier_features,
    slots_of,
    watched_labels,
    watched_numbers,
)
from recray.schema import DataError

MONDAY, HOUR_S, DAY_S = 1_767_571_200.0, 3600.0, 86_400.0


def rows(
    seed: int, users: int, each: int, *, of_user: float = 0.7, shift: float = 0.0, rare: float = 0.01
) -> Rows:
    """``each`` rows of each user, whose values resemble each other; all on Monday, but of other users."""
    rng = np.random.default_rng(seed)
    own_U = rng.normal(0, of_user, users)
    user_N = np.repeat(np.arange(users), each)
    n = len(user_N)
    values = own_U[user_N] + rng.normal(0, np.sqrt(1 - of_user**2), n) + shift
    kind_N = np.where(
        np.repeat(rng.random(users) < rare, each), "rare", np.where(own_U[user_N] > 0, "a", "b")
    )
    return Rows(
        at_N=MONDAY + rng.uniform(0, DAY_S, n),
        users=pl.Series([f"{seed}-{user}" for user in user_N]),
        answers=pl.Series(user_N),
        columns=pl.DataFrame({"value": values, "other": rng.normal(size=n), "kind": kind_N}),
        items=pl.Series(rng.integers(50, size=n).astype(str)),
    )


def sketch_of(*parts: Rows, slots: int = SLOTS) -> Sketch:
    watched = [
        watched_numbers("value", "features", parts[0].columns["value"]),
        watched_numbers("other", "features", parts[0].columns["other"]),
        watched_labels("kind", "context", pl.Series("kind", ["a", "b", "rare"])),
    ]
    sketch = Sketch.empty(watched, slots=slots)
    for part in parts:
        sketch.add(part)
    return sketch


def same_columns(reference: Sketch, *parts: Rows) -> Sketch:
    sketch = Sketch.empty(reference.watched, slots=reference.slots)
    for part in parts:
        sketch.add(part)
    return sketch


def raised(compared: Comparison) -> set[str]:
    return {one.name for one in compared.found if one.statistic > one.threshold}


@pytest.mark.parametrize(("users", "each"), [(40, 30), (600, 2)])
def test_the_null_is_held_however_rows_hang_together(
    monkeypatch: pytest.MonkeyPatch, users: int, each: int
) -> None:
    """At a chance of 20 % for all columns together, without what is no news, 40 windows raise 8 or so; of a
    binomial, 17 and more come once in a thousand times."""
    monkeypatch.setattr(drift, "LEAST", dict.fromkeys(drift.LEAST, 0.0))
    monkeypatch.setattr(drift, "DRAWS", 300)

    def without_items(seed: int, users: int) -> Rows:
        return rows(seed, users, each)._replace(items=None)

    reference = sketch_of(without_items(10**6, 20 * users), slots=1)
    found = [
        raised(compare(reference, same_columns(reference, without_items(seed, users)), 0.2, seed))
        for seed in range(40)
    ]
    assert sum(map(bool, found)) < 17


def test_rows_of_one_user_are_no_rows_of_many() -> None:
    """The same rows, once each of a user of its own, once of twenty users: what is sure of many is chance of
    few."""
    reference = sketch_of(rows(1, 2000, 5), slots=1)
    moved = rows(2, 20, 100, shift=0.2)
    of_many = moved._replace(users=pl.Series([f"u{n}" for n in range(len(moved.at_N))]))
    few, many = (compare(reference, same_columns(reference, one), 0.01) for one in (moved, of_many))
    assert raised(few) <= {"kind"} - {"kind"}
    assert "value" in raised(many)


def test_what_moved_is_found_and_what_did_not_is_not() -> None:
    reference = sketch_of(rows(1, 2000, 5), slots=1)
    compared = compare(reference, same_columns(reference, rows(2, 800, 5, shift=0.5)), 0.001)
    assert raised(compared) == {"value"}
    shown = findings(compared, reference, same_columns(reference, rows(2, 800, 5, shift=0.5)))
    assert shown[0].name == "value"
    assert shown[0].alarm
    assert {test.test for test in shown[0].tests} == {"ks", "psi"}


def test_the_index_is_that_of_a_slow_loop() -> None:
    window, reference = [0.2, 0.5, 0.3, 0.0], [0.3, 0.4, 0.2, 0.1]
    even, expected = drift.EVEN, 0.0
    for w, r in zip(window, reference, strict=True):
        w, r = (w + even) / (1 + 4 * even), (r + even) / (1 + 4 * even)
        expected += (w - r) * np.log(w / r)
    assert float(drift._psi(np.array(window), np.array(reference))) == pytest.approx(expected)


def test_the_distance_is_that_of_the_distribution_functions() -> None:
    reference, window = rows(1, 500, 4), rows(2, 500, 4, shift=0.4)
    sketch = sketch_of(reference, slots=1)
    compared = compare(sketch, same_columns(sketch, window), 0.01)
    (found,) = (one for one in compared.found if (one.name, one.test) == ("value", "ks"))
    edges = sketch.watched[0].edges
    assert edges is not None
    of_reference, of_window = (one.columns["value"].to_numpy() for one in (reference, window))
    slow = max(abs((of_reference < edge).mean() - (of_window < edge).mean()) for edge in edges)
    assert found.statistic == pytest.approx(slow)


def test_an_evening_is_compared_with_evenings() -> None:
    def evening(seed: int, hours: Sequence[int]) -> Rows:
        rng = np.random.default_rng(seed)
        one = rows(seed, 400, 4)
        hour_N = rng.choice(hours, len(one.at_N))
        value = one.columns["value"] + 1.5 * (hour_N >= 16)
        return one._replace(at_N=MONDAY + hour_N * HOUR_S, columns=one.columns.with_columns(value=value))

    reference = sketch_of(evening(1, range(24)))
    window = same_columns(reference, evening(2, range(16, 24)))
    compared = compare(reference, window, 0.01)
    assert compared.by_hours
    assert raised(compared) == set()
    one_slot = replace(reference, counts_GST=reference.counts_GST.sum(1, keepdims=True))
    assert "value" in raised(compare(one_slot, window, 0.01))


def test_nothing_of_a_rare_value_is_no_certainty() -> None:
    reference = sketch_of(rows(1, 2000, 5, rare=0.03), slots=1)
    window = same_columns(reference, rows(2, 60, 5, rare=0.0))
    assert raised(compare(reference, window, 0.01)) == set()


def test_slots_of_the_week() -> None:
    hours = np.array([0, 3, 4, 23, 24 * 4, 24 * 5, 24 * 6 + 20])
    assert slots_of(MONDAY + hours * HOUR_S).tolist() == [0, 0, 1, 5, 0, 6, 11]


def test_a_constant_that_changes_is_found() -> None:
    column = watched_numbers("flag", "features", pl.Series([1.0] * 10))
    assert len(set(column.bins(pl.Series([0.5, 1.0, 2.0, None, float("nan")])).tolist())) == 4
    assert bar_labels(column) == ("below 1", "1", "1 or more", "missing")
    often = watched_numbers("count", "features", pl.Series([0.0] * 900 + list(np.arange(1.0, 101.0))))
    assert "0" in bar_labels(often)


def test_labels_beyond_the_known_ones_are_one() -> None:
    column = watched_labels("device", "context", pl.Series("device", ["tv", "phone", None]))
    assert column.labels == ("phone", "tv", "other")
    assert column.bins(pl.Series(["phone", "tv", "watch", None])).tolist() == [0, 1, 2, 3]


def test_parts_add_up_to_the_whole(tmp_path: Path) -> None:
    first, second = rows(1, 60, 5), rows(2, 60, 5)
    whole = sketch_of(first, second)
    parts = added([sketch_of(first), same_columns(whole, second)])
    assert (parts.counts_GST == whole.counts_GST).all()
    assert (parts.items_GH == whole.items_GH).all()
    assert (parts.rows, parts.num_users) == (whole.rows, whole.num_users) == (600, 120)
    assert parts.mean("value") == pytest.approx(whole.mean("value"))
    save_sketch(whole, tmp_path / "one.npz")
    save_sketch(whole, tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    loaded = load_sketch(tmp_path / "one.npz")
    assert loaded.watched == whole.watched
    assert (loaded.counts_GST == whole.counts_GST).all()
    assert loaded.num_users == 120
    (tmp_path / "one.npz").write_bytes((tmp_path / "one.npz").read_bytes()[:500])
    with pytest.raises(DataError, match="no reference of drift"):
        load_sketch(tmp_path / "one.npz")
    with pytest.raises(ConfigError, match="no column 'price' is watched: value, other, kind"):
        whole.column("price")


def test_vectors_and_the_spread_of_lists() -> None:
    """Items of one half of the space, and a tenth of the items."""
    rng = np.random.default_rng(0)
    vectors_ID = rng.normal(size=(200, 8)).astype(np.float32)
    vectors_ID[:100] += 2
    features_IR = fourier_features(vectors_ID)
    assert (fourier_features(vectors_ID) == features_IR).all()

    def shown(seed: int, items: np.ndarray) -> Sketch:
        draws = np.random.default_rng(seed)
        item_N = draws.choice(items, 3000)
        sketch = Sketch.empty(
            [Watched(name="x", group="features", edges=(0.0,))], slots=1, num_items=200, num_features=64
        )
        users = pl.Series([f"{seed}-{n % 300}" for n in range(3000)])
        columns = pl.DataFrame({"x": draws.normal(size=3000)})
        sketch.add(
            Rows(np.full(3000, MONDAY), users, users, columns, pl.Series(item_N.astype(str)), item_N),
            features_IR,
        )
        return sketch

    everything = np.arange(200)
    reference = shown(1, everything)
    alike = compare(reference, shown(2, everything), 0.01)
    assert raised(alike) == set()
    assert alike.effective_items == pytest.approx((200, 200), rel=0.1)
    half = compare(reference, shown(3, everything[:100]), 0.01)
    assert raised(half) == {"item vectors", "effective items"}
    assert half.effective_items[1] == pytest.approx(100, rel=0.1)
    mixed = compare(reference, shown(4, everything[::10]), 0.01)
    assert raised(mixed) >= {"effective items"}


def test_of_two_users_nothing_is_said_of_pairs() -> None:
    """One pair has no spread: of 300 windows of two users in an unchanged stream 183 were beyond 5 %."""
    reference = sketch_of(rows(1, 600, 5), slots=1)
    for users, is_said in ((2, False), (3, True)):
        few = rows(2, users, 5)._replace(items=pl.Series(["1", "2", "3", "4", "5"] * users))
        compared = compare(reference, same_columns(reference, few), 0.05)
        assert ("effective items" in {one.name for one in compared.found}) == is_said
        assert (compared.effective_items[1] is not None) == is_said


def test_numbers_whose_sum_is_beyond_numbers_have_no_mean(tmp_path: Path) -> None:
    """A client may say them in a context, and a report of them could not be written."""
    part = rows(1, 60, 5)
    huge = part._replace(columns=part.columns.with_columns(value=pl.lit(1.7e308)))
    sketch = sketch_of(huge, slots=1)
    assert (sketch.mean("value"), sketch.known["value"]) == (None, 300)
    assert sketch.mean("other") == pytest.approx(part.columns["other"].mean())
    shown = findings(compare(sketch, sketch, 0.01), sketch, sketch)
    report = DriftReport(application="shop", version="", at=0.0, window=sample_of(sketch), features=shown)
    write_latest(tmp_path, report)
    assert read_latest(tmp_path) == report


def test_bars_have_different_names() -> None:
    """A chart puts those of one name together."""
    times = watched_numbers("days", "features", pl.Series([1.7e9 + 3600.0 * n for n in range(500)]))
    labels = bar_labels(times)
    assert len(set(labels)) == len(labels)
    assert labels[0] == "below 1.7e+09"
    few = watched_numbers("share", "features", pl.Series([0.25, 0.5]))
    assert bar_labels(few) == ("below 0.25", "0.25", "0.25 to 0.5", "0.5", "0.5 or more", "missing")
    said = watched_labels("source", "items", pl.Series(["missing", "other", "a"]))
    assert bar_labels(said) == ("a", "missing", "other", "no value")
