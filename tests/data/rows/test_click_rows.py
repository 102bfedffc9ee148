"""Interactions as rows: features of the strict past, checked against a slow loop."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recray.data.events.dataset import Dataset
from recray.data.events.log import event_log
from recray.data.row_block import MultiHot, RowBlock
from recray.data.rows.prepare import load_or_prepare_rows, prepare_rows
from recray.data.rows.ratings import RatingsAsRows
from recray.data.rows.table import RowTable
from recray.features.past import DAY_S
from recray.features.ranking import FEATURES, RankingQuery, compute
from recray.schema import DataError
from tests.conftest import raw_file
from tests.data.made import dataset_of

GENRES = [["Drama"], ["Comedy", "Drama"], [], ["War"]]


def made(num_rows: int = 400) -> Dataset:
    rng = np.random.default_rng(0)
    # Many events of one second: they must not know of each other.
    times = np.sort(rng.integers(0, num_rows // 4, num_rows)) * 3600
    rows = [
        (int(u), int(i), int(t)) for u, i, t in zip(*rng.integers(0, 9, (2, num_rows)), times, strict=True)
    ]
    dataset = dataset_of(rows)
    items = dataset.items.with_columns(
        year=pl.Series([1960 + n for n in range(9)]), genres=pl.Series([GENRES[n % 4] for n in range(9)])
    )
    users = dataset.users.with_columns(gender=pl.Series(["F", "M", None] * 3))
    ratings_N = rng.integers(1, 6, num_rows).astype(np.float32)
    return dataclasses.replace(dataset, ratings_N=ratings_N, items=items, users=users)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return made()


@pytest.fixture(scope="module")
def table(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> RowTable:
    return prepare_rows(RatingsAsRows(dataset=data), tmp_path_factory.mktemp("clicks") / "made")


def whole(table: RowTable) -> RowBlock:
    return RowBlock.concat([table.read(part) for part in ("train", "validation", "test")])


def test_dense_features_equal_a_slow_loop_over_the_strict_past(data: Dataset, table: RowTable) -> None:
    rows = whole(table)
    column = {name: rows.dense_NF[:, f] for f, name in enumerate(table.schema.dense)}
    events = list(zip(data.user_ids_N, data.item_ids_N, data.ratings_N, data.timestamps_N, strict=True))

    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else np.nan

    def smoothed(values: list[float], prior: float) -> float:
        return (sum(values) + 10 * prior) / (len(values) + 10)

    for n, (user, item, _, now) in enumerate(events):
        past = [e for e in events if e[3] < now]
        prior, prior_rate = mean([e[2] for e in past]), mean([e[2] >= 4 for e in past])
        own, others = [e for e in past if e[0] == user], [e for e in past if e[1] == item]
        expected = {
            "user_events": len(own),
            "item_events": len(others),
            "user_mean_rating": mean([e[2] for e in own]),
            "item_mean_rating": smoothed([e[2] for e in others], prior),
            "user_click_rate": smoothed([e[2] >= 4 for e in own], prior_rate),
            "item_click_rate": smoothed([e[2] >= 4 for e in others], prior_rate),
            "item_age": 1970 + now / (365.2425 * DAY_S) - (1960 + item),
        }
        for who, seen in (("user", own), ("item", others)):
            for name, at in (("last", -1), ("first", 0)):
                expected[f"{who}_days_since_{name}"] = (now - seen[at][3]) / DAY_S if seen else np.nan
        assert set(expected) == set(column)
        for name, value in expected.items():
            assert column[name][n] == pytest.approx(value, rel=1e-5, nan_ok=True), name


def test_rows_and_rankers_are_told_the_same_of_a_user_an_item_and_a_time(
    data: Dataset, table: RowTable
) -> None:
    """Bit for bit: the columns that rows share with rankers are the ranking features of a query."""
    log = event_log(data)
    shared = [name for name in table.schema.dense if name in FEATURES]
    assert set(table.schema.dense) - set(shared) == {"user_click_rate", "item_click_rate"}
    found_NF = whole(table).dense_NF[:, [table.schema.dense.index(name) for name in shared]]
    for n, (user, item, now) in enumerate(
        zip(data.user_ids_N, data.item_ids_N, data.timestamps_N, strict=True)
    ):
        one = np.ones(1, np.float32)
        query = RankingQuery(int(user), int(now), np.array([item]), one, one.astype(np.uint8))
        assert found_NF[n].tobytes() == compute(log, query, shared)[0].tobytes()


def test_labels_and_ids(data: Dataset, table: RowTable) -> None:
    rows = whole(table)
    assert (rows.labels_N == (data.ratings_N >= 4)).all()
    assert (np.asarray(rows.ids["user_id"]) == data.user_ids_N + 1).all()
    genres = rows.ids["genres"]
    assert isinstance(genres, MultiHot)
    for n in range(50):
        found = genres.values[genres.offsets_N[n] : genres.offsets_N[n + 1]].tolist()
        assert found == [{"Comedy": 1, "Drama": 2, "War": 3}[g] for g in GENRES[data.item_ids_N[n] % 4]]
    assert set(np.asarray(rows.ids["gender"])[data.user_ids_N % 3 == 2]) == {0}


def test_latest_items_equal_a_slow_loop_over_the_strict_past(data: Dataset, tmp_path: Path) -> None:
    rows = whole(prepare_rows(RatingsAsRows(dataset=data, history=3), tmp_path / "out"))
    events = list(zip(data.user_ids_N, data.item_ids_N, data.ratings_N, data.timestamps_N, strict=True))
    for name, clicked in (("clicked_items", True), ("other_items", False)):
        found = rows.ids[name]
        assert isinstance(found, MultiHot)
        for n, (user, _, _, now) in enumerate(events):
            past = [int(e[1]) + 1 for e in events if e[0] == user and e[3] < now and (e[2] >= 4) == clicked]
            assert found.values[found.offsets_N[n] : found.offsets_N[n + 1]].tolist() == past[-3:]


def test_ids_that_training_does_not_have_are_0(tmp_path: Path) -> None:
    rows = [(u % 3, u % 4, 1000 + u) for u in range(40)] + [(7, 8, 2000 + u) for u in range(5)]
    data = dataclasses.replace(dataset_of(rows), ratings_N=np.array([4, 1, 5] * 15, np.float32))
    table = prepare_rows(RatingsAsRows(dataset=data), tmp_path / "out")
    test = table.read("test")
    assert np.asarray(test.ids["user_id"]).tolist() == [0] * 5
    assert np.asarray(test.ids["item_id"]).tolist() == [0] * 5
    assert np.asarray(table.read("train").ids["user_id"]).min() > 0


def test_lists_hold_a_users_rows_of_a_part_in_order_of_time(data: Dataset, tmp_path: Path) -> None:
    table = prepare_rows(RatingsAsRows(dataset=data, sessions="user"), tmp_path / "lists")
    assert table.schema.sessions
    assert not [name for name in table.schema.dense if name.startswith("user_")]
    first = 0
    for part in ("train", "validation", "test"):
        rows = table.read(part)
        stop = first + prepare_rows(RatingsAsRows(dataset=data), tmp_path / "rows").num_rows(part)
        users, counts = np.unique(data.user_ids_N[first:stop], return_counts=True)
        assert rows.offsets_S is not None
        assert np.diff(rows.offsets_S).tolist() == counts[counts > 1].tolist()
        wanted = np.concatenate(
            [data.ratings_N[first:stop][data.user_ids_N[first:stop] == u] for u in users[counts > 1]]
        )
        assert (rows.labels_N == wanted - 1).all()
        first = stop


def test_a_threshold_that_tells_nothing_apart_is_refused(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"of 400 ratings 0 are at least 9, .* choose another threshold"):
        prepare_rows(RatingsAsRows(dataset=data, threshold=9.0), tmp_path / "out")


@pytest.mark.data
def test_ml_100k() -> None:
    raw_file("ml-100k.zip")
    table = load_or_prepare_rows("ml-100k")
    assert [(p.rows, p.positives) for p in table.manifest.parts] == [
        (79999, 44072),
        (10001, 5674),
        (10000, 5629),
    ]
    assert table.name == "ml-100k-ratings"
    assert table.manifest.split == "global-time(0.8,0.1,0.1)"
    side = {"user_id", "item_id", "gender", "age", "occupation", "genres"}
    assert {f.name for f in table.schema.sparse} == side | {"clicked_items", "other_items"}
    without = load_or_prepare_rows("ml-100k", history=0)
    assert {f.name for f in without.schema.sparse} == side
    assert load_or_prepare_rows("ml-100k", sessions="user").name == "ml-100k-lists"
