"""Side columns as id and dense features."""

import dataclasses

import polars as pl
import pytest
import torch

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
