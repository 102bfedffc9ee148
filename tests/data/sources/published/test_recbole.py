"""RecBole's atomic files."""

import json
from pathlib import Path

import pytest

from recray.data.events.prepare import prepare
from recray.data.sources.published.recbole import RecBole
from recray.schema import DataError

INTER = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t20\t4\t881250949\n2\t10\t3.5\t8.8e8\n"
)
ITEM = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\tprice:float\n"
    '10\tThe "Good" One\t1995\tAction Drama\t2.5\n20\tOther\t\tComedy\t\n'
)


def test_interactions_and_side_tables(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text(INTER)
    (tmp_path / "x.item").write_text(ITEM)
    (tmp_path / "x.user").write_text("user_id:token\tage:token\n1\t24\n")
    dataset = prepare(RecBole(path=tmp_path / "x.inter"), tmp_path / "out")
    assert dataset.timestamps_N.tolist() == [880000000, 881250949]
    assert dataset.ratings_N.tolist() == [3.5, 4.0]
    assert dataset.items.columns == ["raw_id", "title", "year", "genres", "price"]
    assert dataset.items.row(0) == ("10", 'The "Good" One', 1995, ["Action", "Drama"], 2.5)
    assert dataset.items.row(1) == ("20", "Other", None, ["Comedy"], None)
    assert dataset.users.rows() == [("1", "24"), ("2", None)]


def test_a_price_that_is_no_number_is_empty_and_counted(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text(INTER)
    (tmp_path / "x.item").write_text(ITEM.replace("2.5", "—"))
    dataset = prepare(RecBole(path=tmp_path / "x.inter"), tmp_path / "out")
    assert dataset.items["price"].to_list() == [None, None]
    said = json.loads((dataset.folder / "quality.json").read_text())["notes"]
    assert said == ["x.item: price: 1 values are not a number ('—') and were left empty"]


def test_interactions_alone(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\na\tb\n")
    dataset = prepare(RecBole(path=tmp_path / "x.inter"), tmp_path / "out")
    assert (dataset.num_users, dataset.num_items, dataset.ratings_N.tolist()) == (1, 1, [1.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id\titem_id\n1\t2\n", r"line 1: 'user_id' is not name:type"),
        ("uid:token\titem_id:token\n1\t2\n", "no column 'user_id'"),
        (INTER.replace("\t4\t", "\tfour\t"), r"x\.inter, line 2: column 'rating:float': rating 'four'"),
        (INTER.replace("8.8e8", "-1"), "line 3.*negative"),
        ("", "empty"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.inter").write_text(text)
    with pytest.raises(DataError, match=message):
        prepare(RecBole(path=tmp_path / "x.inter"), tmp_path / "out")
