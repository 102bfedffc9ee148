"""Amazon Reviews 2014: strict and loose lines, ratings without a header, what items say, bad input."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from recray.config import ConfigError
from recray.data.events.dataset import Dataset
from recray.data.events.prepare import load_or_prepare, prepare
from recray.data.events.side_features import encode_side_features
from recray.data.source import ABSOLUTE_TIMES
from recray.data.sources import source_of
from recray.data.sources.published.amazon import AmazonReviews
from recray.data.sources.published.amazon_lines import MAX_LINE_BYTES, records
from recray.schema import DataError

REVIEWS: list[dict[str, Any]] = [
    {"reviewerID": "A2", "asin": "B1", "overall": 5.0, "unixReviewTime": 1391040000, "helpful": [0, 1]},
    {"reviewerID": "A1", "asin": "7806397051", "overall": 3, "unixReviewTime": 1390040000},
    {"reviewerID": "A1", "asin": "B1", "overall": 1.0, "unixReviewTime": 1391040000, "summary": "it's \"o\""},
]  # fmt: skip
ITEMS: list[dict[str, Any]] = [
    {
        "asin": "B1",
        "title": 'Jack &amp; Jill\'s\n "Soap"',
        "description": "Cleans \\d skin",
        "price": 3.17,
        "brand": "Soapy",
        "categories": [["Beauty", "Bath"], ["Beauty", "Gifts & More"]],
        "salesRank": {"Beauty": 7},
        "related": {"also_bought": ["B9", "7806397051"]},
    },
    {"asin": "B9", "title": "never reviewed"},
    {"asin": "7806397051", "title": "", "categories": [[]], "price": float("nan")},
]


def strict(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def loose(rows: list[dict[str, Any]]) -> str:
    return "".join(f"{row!r}\n".replace("nan", "1e999") for row in rows)


def raw(folder: Path, reviews: str = strict(REVIEWS), items: str | None = loose(ITEMS)) -> Path:
    """The two files of a category, packed; gives the path of the reviews."""
    path = folder / "reviews_Toys_and_Games_5.json.gz"
    path.write_bytes(gzip.compress(reviews.encode()))
    if items is not None:
        (folder / "meta_Toys_and_Games.json.gz").write_bytes(gzip.compress(items.encode()))
    return path


@pytest.mark.parametrize("form", [strict, loose])
def test_reviews_and_items_of_either_form(tmp_path: Path, form: Any) -> None:
    path = raw(tmp_path, form(REVIEWS), form(ITEMS))
    dataset = prepare(source_of(str(path)), tmp_path / "out")
    assert dataset.name.startswith("reviews_Toys_and_Games_5-")
    assert dataset.manifest.options["times"] == ABSOLUTE_TIMES
    assert set(dataset.manifest.options["raw_files"]) == {path.name, "meta_Toys_and_Games.json.gz"}
    assert dataset.users["raw_id"].to_list() == ["A1", "A2"]
    assert dataset.items.rows(named=True) == [
        dict.fromkeys(dataset.items.columns) | {"raw_id": "7806397051"},
        {
            "raw_id": "B1",
            "title": 'Jack & Jill\'s "Soap"',
            "text": "Cleans \\d skin",
            "categories": ["Beauty", "Bath", "Gifts & More"],
            "brand": "Soapy",
            "price": 3.17,
        },
    ]
    assert dataset.timestamps_N.tolist() == [1390040000, 1391040000, 1391040000]
    assert dataset.user_ids_N.tolist() == [0, 1, 0]  # the tie keeps the order of the file
    assert dataset.ratings_N.tolist() == [3, 5, 1]


def test_ratings_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "ratings_Beauty.csv"
    path.write_text("A1,B1,5.0,1369699200\nA2,7806397051,2.0,1355443200\nA2,B1,2.0,1355443300\n")
    (tmp_path / "meta_Beauty.json").write_text(loose(ITEMS))
    dataset = prepare(source_of(str(path)), tmp_path / "out")
    assert (dataset.num_users, dataset.num_items, len(dataset)) == (2, 2, 3)
    assert dataset.items["brand"].to_list() == [None, "Soapy"]
    path.write_text("A1,B1,5.0,1369699200\nA2,B1,x,1355443200\n")
    with pytest.raises(DataError, match=r"ratings_Beauty.csv, line 2: .*rating 'x' is not a number"):
        prepare(source_of(str(path)), tmp_path / "other")


def test_a_registered_name_finds_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RECRAY_RAW_DIR", str(tmp_path))
    raw(tmp_path)
    dataset = load_or_prepare("amazon-toys")
    assert (dataset.name, dataset.manifest.source, len(dataset)) == ("amazon-toys", "amazon-2014", 3)
    assert load_or_prepare("amazon-toys").hash == dataset.hash


def test_files_that_are_not_there_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RECRAY_RAW_DIR", str(tmp_path))
    source = AmazonReviews(name="amazon-toys", allow_download=False)
    with pytest.raises(DataError, match=r"put reviews_Toys_and_Games_5\.json\.gz into"):
        prepare(source, tmp_path / "out")
    raw(tmp_path, items=None)
    with pytest.raises(DataError, match=r"put meta_Toys_and_Games\.json\.gz into"):
        prepare(source, tmp_path / "out")


def test_reviews_alone_have_items_that_say_nothing(tmp_path: Path) -> None:
    dataset = prepare(source_of(str(raw(tmp_path, items=None))), tmp_path / "out")
    assert dataset.items.columns == ["raw_id"]


def test_columns_become_features(tmp_path: Path) -> None:
    many = [{**REVIEWS[n % 3], "asin": f"B{n}"} for n in range(8)]
    items = [{**ITEMS[0], "asin": f"B{n}", "price": 1.0 + n} for n in range(8)]
    dataset: Dataset = prepare(source_of(str(raw(tmp_path, strict(many), loose(items)))), tmp_path / "out")
    schema, _ = encode_side_features(dataset)
    kinds = {feature.name: feature.kind for feature in schema.item}
    assert kinds == {
        "title_words": "ids", "text_words": "ids", "categories": "ids", "brand": "ids", "price": "dense"
    }  # fmt: skip


def edited(**changes: Any) -> str:
    return strict([REVIEWS[0], {**REVIEWS[1], **changes}])


@pytest.mark.parametrize(
    ("reviews", "message"),
    [
        (strict(REVIEWS)[:-30], "line 3: .* neither JSON nor a Python literal: the file is cut off"),
        (strict(REVIEWS) + "{'a': __import__('os')}\n", "line 4: .* neither JSON nor"),
        (strict(REVIEWS) + "[" * 5000 + "\n", "line 4: .* neither JSON nor"),
        (strict(REVIEWS) + "[1, 2]\n", "line 4: .* no record"),
        ("\n" + edited(asin=None), "line 3: asin is None"),
        (edited(asin=17), "line 2: asin is 17"),
        (edited(asin="\ud800"), "line 2: asin is"),
        (edited(reviewerID=""), "line 2: reviewerID is ''"),
        (edited(overall="5"), "line 2: overall is '5'"),
        (edited(overall=float("nan")), "line 2: rating is nan"),
        (edited(unixReviewTime=-5), "line 2: timestamp -5 is negative"),
        (edited(unixReviewTime=1391040000000), "line 2: timestamp 1391040000000 is in the future"),
        (edited(unixReviewTime=10**400), "line 2: timestamp inf is in the future"),
        ("x" * (MAX_LINE_BYTES + 1), "line 1 has 1,048,577 bytes"),
        ("\n\n", "no review"),
        ("", "no review"),
    ],
)
def test_wrong_reviews_are_refused(tmp_path: Path, reviews: str, message: str) -> None:
    with pytest.raises(DataError, match=f"reviews_Toys_and_Games_5.json.gz.*{message}"):
        prepare(source_of(str(raw(tmp_path, reviews))), tmp_path / "out")


def test_bytes_that_are_not_text_and_cut_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "reviews_Beauty_5.json"
    path.write_bytes(strict(REVIEWS).encode() + b"\xff\n")
    with pytest.raises(DataError, match="line 4: byte 0xff is not utf-8"):
        prepare(source_of(str(path)), tmp_path / "out")
    packed = raw(tmp_path)
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataError, match="is damaged"):
        prepare(source_of(str(packed)), tmp_path / "out")


def test_a_meta_file_of_another_category_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="describes none of the 2 items"):
        prepare(source_of(str(raw(tmp_path, items=loose(ITEMS[1:2])))), tmp_path / "out")


def test_records_that_are_not_wanted_are_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "meta_X.json"
    quoting = {"title": "says 'asin': 'B8' inside", "asin": "B1"}
    path.write_text("{'asin': 'B9', broken\n" + loose([quoting, ITEMS[1]]))
    found = list(records(path, only=("asin", {"B1"})))
    assert [(r.values["asin"], r.where) for r in found] == [("B1", f"{path}, line 2")]
    with pytest.raises(DataError, match="line 1: "):
        list(records(path))


def test_names_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'amazon-toys'"):
        AmazonReviews(name="amazon-toy")
    with pytest.raises(ConfigError, match="not named like"):
        AmazonReviews(name="x", path=Path("x.csv"))
