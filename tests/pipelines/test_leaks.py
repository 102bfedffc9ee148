"""Leaks from files to findings: planted ones are found by their kind, real and generated data have none."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recray.data.events.choices import Seen
from recray.data.events.dataset import Dataset
from recray.data.events.prepare import load_or_prepare
from recray.data.events.split_data import DataConfig, SplitData
from recray.data.events.splits import Split, split_by_name
from recray.data.rows.prepare import load_or_prepare_rows
from recray.data.source import ROW_NUMBERS
from recray.pipelines.compare import compare_models
from recray.pipelines.leaks import find_leaks, leaks_of_dataset, leaks_of_files
from recray.schema import DataError
from tests.conftest import raw_file
from tests.data.made import dataset_of
from tests.jobs.world import ended
from tests.pipelines.tiny import tiny_events

NUM_USERS, NUM_ITEMS, EACH = 100, 150, 12
DAY_S = 86_400


def events(*, tied: int = 1) -> Dataset:
    rng = np.random.default_rng(0)
    rows = []
    for user in range(NUM_USERS):
        items = rng.choice(NUM_ITEMS, EACH, replace=False, p=np.arange(1, NUM_ITEMS + 1) / 11_325)
        start = 1_600_000_000 + int(rng.integers(60)) * DAY_S
        rows += [(user, int(item), start + n // tied * DAY_S) for n, item in enumerate(items)]
    return dataset_of(rows)


def kinds(data: Dataset, split: str = "leave-one-out", seen: Seen = "remove") -> list[str]:
    held_out = dataclasses.replace(split_by_name(data, split), seen=seen)
    return [leak.kind for leak in find_leaks(SplitData(data, held_out))]


def with_items(data: Dataset, **columns: pl.Series) -> Dataset:
    return dataclasses.replace(data, items=data.items.with_columns(**columns))


def test_generated_events_have_none_and_a_split_by_chance_is_one() -> None:
    data = events()
    assert kinds(data) == kinds(data, "global-time") == []
    assert kinds(data, "random") == ["split against time"]
    assert leaks_of_dataset(data) == []


def test_the_order_of_the_file_is_looked_at_where_there_are_no_times() -> None:
    data = events()
    order = np.lexsort((data.item_ids_N, data.user_ids_N))
    no_times = {**data.manifest.options, "times": ROW_NUMBERS}
    by_id = dataclasses.replace(
        data,
        manifest=dataclasses.replace(data.manifest, options=no_times),
        user_ids_N=data.user_ids_N[order],
        item_ids_N=data.item_ids_N[order],
        timestamps_N=np.arange(len(data)),
        items=data.items.with_columns(raw_id=pl.format("i{}", pl.int_range(1000, 1000 + NUM_ITEMS))),
    )
    assert kinds(by_id) == ["ties sorted by item"]
    assert [leak.kind for leak in leaks_of_dataset(by_id)] == ["ties sorted by item"]
    assert (
        kinds(dataclasses.replace(by_id, item_ids_N=np.random.default_rng(0).permutation(by_id.item_ids_N)))
        == []
    )


def test_repeats_count_where_seen_items_may_be_recommended() -> None:
    data = events()
    items_N = data.item_ids_N.copy()
    for user in range(NUM_USERS):
        rows = np.flatnonzero(data.user_ids_N == user)
        items_N[rows[-1]] = items_N[rows[-2]]
    repeated = dataclasses.replace(data, item_ids_N=items_N)
    assert kinds(repeated, seen="keep") == ["last item repeated"]
    assert kinds(repeated) == []


def test_columns_of_items_and_users_from_after_the_cut() -> None:
    data = events()
    counts_I = np.bincount(data.item_ids_N, minlength=NUM_ITEMS)
    last_I = np.zeros(NUM_ITEMS, np.int64)
    np.maximum.at(last_I, data.item_ids_N, data.timestamps_N)
    assert kinds(with_items(data, price=pl.Series(np.random.default_rng(1).gamma(2, 9, NUM_ITEMS)))) == []
    assert kinds(with_items(data, sold=pl.Series(counts_I))) == ["column that counts the future"]
    dated = with_items(data, last_sold=pl.from_epoch(pl.Series(last_I)))
    assert kinds(dated, "global-time") == ["column from after the event"]
    assert [leak.kind for leak in leaks_of_dataset(dated)] == ["column from after the event"]


def test_test_events_that_a_benchmark_left_in_training() -> None:
    data = events()
    split = split_by_name(data, "global-time")
    copied = np.flatnonzero(split.test_N)[:20]
    twice = np.sort(np.concatenate([np.arange(len(data)), copied]), kind="stable")
    again = np.r_[False, np.diff(twice) == 0]
    doubled = dataclasses.replace(
        data,
        user_ids_N=data.user_ids_N[twice],
        item_ids_N=data.item_ids_N[twice],
        timestamps_N=data.timestamps_N[twice],
    )
    given = Split(
        name="given",
        train_N=split.train_N[twice] | again,
        validation_N=split.validation_N[twice],
        test_N=split.test_N[twice] & ~again,
    )
    assert "test events in training" in [leak.kind for leak in find_leaks(SplitData(doubled, given))]


def clicks(num_rows: int = 2_000) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    label_N = rng.random(num_rows) < 0.3
    return pl.DataFrame(
        {
            "click": label_N.astype(int),
            "country": pl.Series(["DE", "AT", "CH"]).gather(rng.integers(3, size=num_rows)),
            "price": np.round(rng.gamma(2, 10, num_rows) + 5 * label_N, 2),
            "time": np.sort(rng.integers(0, 30 * DAY_S, num_rows)) + 1_700_000_000,
        }
    )


CLICKED = pl.when(pl.col("click") == 1)
OUTCOME = CLICKED.then(pl.lit("sold")).otherwise(pl.lit("left"))


def kinds_of_rows(table: pl.DataFrame, folder: Path, query: str = "") -> list[str]:
    path = folder / "clicks.csv"
    table.write_csv(path)
    name = f"{path}{query}"
    return [leak.kind for leak in [*leaks_of_files(name), *find_leaks(load_or_prepare_rows(name))]]


@pytest.mark.parametrize(
    ("column", "query", "kind"),
    [
        (pl.lit(1).alias("one"), "", None),
        (pl.col("click").alias("order_total") * pl.col("price"), "", "column that tells the label"),
        (CLICKED.then(pl.lit("paid")).alias("state"), "", "column that tells the label"),
        (CLICKED.then("time").alias("seen_at") + 9, "", "time from after the request"),
        (
            pl.format("{} for {} and {}", "country", "price", OUTCOME).alias("note"),
            "?min_count=500",
            "text that tells the label",
        ),
        (pl.lit(1).alias("one"), "?split=random", "split against time"),
    ],
)  # fmt: skip
def test_tables_of_clicks(tmp_path: Path, column: pl.Expr, query: str, kind: str | None) -> None:
    found = kinds_of_rows(clicks().with_columns(column), tmp_path, query)
    assert (kind in found) if kind else found == []


def test_means_of_clicks_that_the_test_was_counted_into(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"ad_id": np.repeat(np.arange(1_000), 8)}).with_columns(
        click=pl.Series(rng.random(8_000) < np.repeat(rng.beta(1, 4, 1_000), 8)).cast(pl.Int64),
        price=pl.Series(rng.normal(size=8_000)),
        time=pl.Series(rng.permutation(8_000)) * 60 + 1_600_000_000,
    )
    assert kinds_of_rows(table, tmp_path) == []
    counted = table.with_columns(ctr=(pl.col("click").sum().over("ad_id") + 1) / (pl.len().over("ad_id") + 9))
    assert kinds_of_rows(counted, tmp_path) == ["column that counts test labels"]


def test_rows_that_stand_in_two_parts(tmp_path: Path) -> None:
    table = clicks().drop("time").with_columns(price=np.random.default_rng(1).normal(size=2_000))
    for name, rows in (("train", table[:1600]), ("valid", table[1600:1800])):
        rows.write_csv(tmp_path / f"{name}.csv")
    pl.concat([table[1800:], table[:40]]).write_csv(tmp_path / "test.csv")
    [leak] = find_leaks(load_or_prepare_rows(str(tmp_path)))
    assert leak.kind == "test rows in training"
    assert leak.number == pytest.approx(40 / 240)


def test_prepare_says_what_it_finds_and_strict_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    clicks().with_columns(state=pl.col("click") + 1).write_csv(tmp_path / "clicks.csv")
    status, said, log = ended("prepare", tmp_path / "clicks.csv", "--rows")
    assert status == 0
    assert "quality report" in said
    assert "leak, column that tells the label: state alone has an AUC of 1.000" in log
    status, _, log = ended("prepare", tmp_path / "clicks.csv", "--rows", "--strict")
    assert status != 0
    assert "1 leak, and strict was asked for" in log


def test_a_comparison_of_models_says_them_first_and_strict_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    path = str(tiny_events(tmp_path))
    with caplog.at_level("WARNING"):
        compare_models(DataConfig(dataset=path, split="random"), ["popularity"], 1)
    assert caplog.text.count("leak, split against time") == 1
    compare_models(DataConfig(dataset=path, split="leave-one-out"), ["popularity"], 1, strict=True)
    with pytest.raises(DataError, match="1 leak, and strict was asked for"):
        compare_models(DataConfig(dataset=path, split="random"), ["popularity"], 1, strict=True)


@pytest.mark.data
@pytest.mark.parametrize("name", ["ml-100k", "ml-1m", "amazon-beauty", "synthetic"])
def test_real_data_raises_no_alarm(name: str) -> None:
    if name != "synthetic":
        raw_file(name if name == "amazon-beauty" else f"{name}.zip")
    data = load_or_prepare(name)
    assert leaks_of_dataset(data) == []
    for split in ("leave-one-out", "global-time")[: 1 if name == "amazon-beauty" else 2]:
        assert kinds(data, split, "remove") == kinds(data, split, "keep") == []


@pytest.mark.data
@pytest.mark.parametrize("name", ["ml-100k", "synthetic", "criteo-sample", "ltr-lightgbm"])
def test_real_rows_raise_no_alarm(name: str) -> None:
    if name in ("criteo-sample", "ltr-lightgbm"):
        raw_file(f"{name}/{'train.csv' if name == 'criteo-sample' else 'rank.train'}")
    assert leaks_of_files(name) == []
    assert find_leaks(load_or_prepare_rows(name)) == []
