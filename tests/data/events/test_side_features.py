"""Side columns as id and dense features."""

import dataclasses
import datetime

import polars as pl
import pytest
import torch

from recray.batch import FeatureTables
from recray.data.events.side_features import encode_side_features
from tests.data.made import dataset_of

DATASET = dataclasses.replace(
    dataset_of([(u, i, u + i) for u in range(4) for i in range(4)]),
    users=pl.DataFrame(
        {
            "raw_id": list("abcd"),
            "age": [18, None, 18, 50],
            "height": [1.0, 3.0, None, 2.0],
            "nothing": [None] * 4,
        },
        schema_overrides={"nothing": pl.String},
    ),
    items=pl.DataFrame(
        {
            "raw_id": list("wxyz"),
            "title": ["The Cat (1999)", "A Dog's cat cat", "dog and Zebra (2001)", None],
            "year": [1999, 1995, None, 2001],
            "genres": [["b", "a"], [], None, ["c"]],
            "code": ["k1", "k2", "k3", "k4"],
        }
    ),
)


def test_schema_and_tables() -> None:
    schema, tables = encode_side_features(DATASET)
    assert (schema.num_users, schema.num_items) == (4, 4)
    assert [(f.name, f.kind, f.size, f.width) for f in schema.user] == [
        ("age", "ids", 3, 1),
        ("height", "dense", 0, 1),
    ]
    assert [(f.name, f.kind, f.size, f.width) for f in schema.item] == [
        ("title_words", "ids", 3, 2),
        ("year", "ids", 3, 1),
        ("genres", "ids", 4, 2),
    ]
    assert tables.user["age"].tolist() == [[1], [0], [1], [2]]
    # Words of one row only, the trailing year and repeats within a row are left out.
    assert tables.item["title_words"].tolist() == [[1, 0], [2, 1], [2, 0], [0, 0]]
    assert tables.item["year"].tolist() == [[1], [1], [0], [2]]
    assert tables.item["genres"].tolist() == [[2, 1], [0, 0], [0, 0], [3, 0]]


def test_dense_values_are_standardised_and_unknown_ones_are_the_mean() -> None:
    _, tables = encode_side_features(DATASET)
    height = tables.user["height"]
    assert height.dtype == torch.float32
    assert height[2].item() == 0.0
    known = height[[0, 1, 3], 0]
    assert known.mean().item() == pytest.approx(0, abs=1e-6)
    assert known.std().item() == pytest.approx(1, abs=1e-6)


def test_tables_fit_the_schema() -> None:
    schema, tables = encode_side_features(DATASET)
    for features, columns, rows in ((schema.user, tables.user, 4), (schema.item, tables.item, 4)):
        assert [f.name for f in features] == list(columns)
        for feature in features:
            assert columns[feature.name].shape == (rows, feature.width)
            if feature.kind == "ids":
                assert columns[feature.name].dtype == torch.int64
                assert columns[feature.name].max() < feature.size


def test_without_side_columns_there_are_no_features() -> None:
    schema, tables = encode_side_features(dataset_of([(0, 0, 0), (1, 1, 1)]))
    assert (schema.user, schema.item, tables.user, tables.item) == ((), (), {}, {})


def shop(**columns: pl.Series) -> FeatureTables:
    rows = len(next(iter(columns.values())))
    dataset = dataclasses.replace(
        dataset_of([(u, i, u + i) for u in range(2) for i in range(rows)]),
        items=pl.DataFrame({"raw_id": [str(n) for n in range(rows)], **columns}),
    )
    return encode_side_features(dataset)[1]


def test_prices_are_read_on_a_log_scale_and_unknown_ones_are_the_mean() -> None:
    price = shop(price=pl.Series([1.0, 10.0, 10.0, 10.0, 100.0, 100_000.0, None])).item["price"]
    logs = torch.tensor([0.0, 1.0, 1.0, 1.0, 2.0, 5.0])
    torch.testing.assert_close(price[:6, 0], (logs - logs.mean()) / logs.std())
    assert price[6].item() == 0.0
    even = shop(size=pl.Series([1.0, 2.0, 3.0, 4.0, 5.0])).item["size"]
    assert even[:, 0].diff().std().item() == pytest.approx(0, abs=1e-6)  # no long tail: as it is


def test_dates_are_ages_before_the_newest_in_doublings() -> None:
    newest = datetime.date(2026, 8, 31)
    dates = [newest - datetime.timedelta(days) for days in (0, 1, 3, 7, 1023)]
    age = shop(created_at=pl.Series([*dates, None])).item["created_at_age"]
    assert age[5].item() == 0
    assert len(age[:5].unique()) == 5
    assert (age[:5] > 0).all()


def test_paths_descriptions_and_long_strings_of_any_name_are_read_and_codes_are_not() -> None:
    red, blue = "A very red soft thing for the garden", "A blue thing, soft as ever, for the bath"
    texts = [f"{text} number{n}" for n, text in enumerate([red, blue, red, blue])]
    tables = shop(
        category=pl.Series([["A", "A > B"], ["A"], None, ["C"]]),
        blurb=pl.Series(texts),
        description=pl.Series(texts),
        sku=pl.Series(["k-1", "k-2", "k-3", "k-4"]),
        available=pl.Series([True, False, True, True]),
        on_sale=pl.Series([True, False, None, False]),
    )
    assert set(tables.item) == {"category", "blurb_words", "description_words", "on_sale"}
    assert tables.item["category"].tolist() == [[1, 2], [1, 0], [0, 0], [3, 0]]
    assert torch.equal(tables.item["blurb_words"], tables.item["description_words"])
    assert tables.item["on_sale"].tolist() == [[2], [1], [0], [1]]
