"""Tables of items and users beside the events: found, typed, joined; what is lost is counted."""

import datetime
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recray.config import ConfigError
from recray.data.events.dataset import Dataset
from recray.data.events.prepare import load_or_prepare
from recray.data.sources.tables.side_types import parse_types, type_of, typed
from recray.features.columns import availability, kind_of
from recray.schema import DataError

EVENTS = "user,product,ts\n1,b,1600000000\n2,a,1600000001\n1,c,1600000002\n"
PRODUCTS = (
    "product_id;name;category;labels;price;colour;weight;since\n"
    "a;Lamp;Home > Light;new|sale;9,99 €;red;1.5;2020-01-31\n"
    " b ;Desk;Home;;—;red;20;2019-05-01\n"
    "d;Chair, oak;Home > Seats > Oak;sale;1.299,00 €;blue;7.25;\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "events.csv").write_text(EVENTS)
    (tmp_path / "products.csv").write_text(PRODUCTS)
    (tmp_path / "empty.csv").write_text("item,x\n")
    (tmp_path / "people.jsonl").write_text('{"id": 1, "country": "DE"}\n{"id": 9, "country": "FR"}\n')
    return tmp_path


def prepared(folder: Path, options: str) -> Dataset:
    return load_or_prepare(f"{folder / 'events.csv'}?{options}")


def notes(dataset: Dataset) -> list[str]:
    found: list[str] = json.loads((dataset.folder / "quality.json").read_text())["notes"]
    return found


def test_items_are_typed_and_those_without_events_stay(folder: Path) -> None:
    dataset = prepared(folder, "items=products.csv&users=people.jsonl")
    assert dataset.items["raw_id"].to_list() == ["a", "b", "c", "d"]
    assert dataset.manifest.options["side_types"] == {
        "user.country": "category",
        "item.title": "text",
        "item.category": "path",
        "item.labels": "list",
        "item.price": "price",
        "item.colour": "category",
        "item.weight": "number",
        "item.since": "date",
    }
    rows = {row.pop("raw_id"): row for row in dataset.items.to_dicts()}
    assert rows["a"] == {
        "title": "Lamp",
        "category": ["Home", "Home > Light"],
        "labels": ["new", "sale"],
        "price": 9.99,
        "colour": "red",
        "weight": 1.5,
        "since": datetime.date(2020, 1, 31),
    }
    assert rows["b"]["price"] is None
    assert (rows["d"]["price"], rows["d"]["category"]) == (
        1299.0,
        ["Home", "Home > Seats", "Home > Seats > Oak"],
    )
    assert set(rows["c"].values()) == {None}
    assert dataset.users.rows() == [("1", "DE"), ("2", None)]
    said = " ".join(notes(dataset))
    assert "price: 1 values are not a number ('—') and were left empty" in said
    assert "blanks around 1 item ids were stripped" in said


def test_types_can_be_stated(folder: Path) -> None:
    dataset = prepared(folder, "items=products.csv&item_types=weight:category,labels:none,category:category")
    assert dataset.items["category"][0] == "Home > Light"
    assert dataset.items["weight"].to_list() == ["1.5", "20", None, "7.25"]
    assert "labels" not in dataset.items.columns


def test_an_edited_table_of_items_is_another_state_of_the_data(folder: Path) -> None:
    first = prepared(folder, "items=products.csv")
    (folder / "products.csv").write_text(PRODUCTS.replace("Lamp", "Floor lamp"))
    second = prepared(folder, "items=products.csv")
    assert (first.name, first.items["title"][0]) == (second.name, "Lamp")
    assert second.items["title"][0] == "Floor lamp"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ("items=nothere.csv", DataError, "nothere.csv does not exist"),
        ("items=products.csv&item_id=sku", DataError, "no column 'sku' for item_id"),
        ("items=people.jsonl&item_id=id", DataError, "describes none of the 3 items .*item_id="),
        ("items=empty.csv", DataError, "empty.csv: no rows"),
        ("users=products.csv", DataError, "no column of user ids .*user_id="),
        ("items=products.csv&item_types=prise:price", ConfigError, "no column 'prise', did you mean 'price'"),
        ("items=products.csv&item_types=price:money", ConfigError, "'price:money' is no column:type; types"),
        ("item_types=price:number", ConfigError, "no column 'price'"),
    ],
)
def test_wrong_tables_say_what_would_do(
    folder: Path, options: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        prepared(folder, options)


@pytest.mark.parametrize(
    ("values", "read", "said"),
    [
        (
            ("0", "3", ""),
            (False, True, None),
            "in_stock is a count: an item is available where it is above 0",
        ),
        (("-1", "0.0", "2.5"), (False, False, True), "in_stock is a count"),
        (("no", "yes", ""), (False, True, None), ""),
        (("0", "1", ""), (False, True, None), ""),
        (("gone", "here", ""), None, "in_stock (String) says neither true or false nor a count"),
    ],
)
def test_what_says_whether_an_item_can_be_had_is_read_or_said_to_be_unreadable(
    folder: Path, values: tuple[str, ...], read: tuple[bool | None, ...] | None, said: str
) -> None:
    rows = [f"{item},{value}" for item, value in zip("abc", values, strict=True)]
    (folder / "stock.csv").write_text("\n".join(["item,in_stock", *rows]) + "\n")
    dataset = prepared(folder, "items=stock.csv")
    column = dataset.items.sort("raw_id")["in_stock"].head(3)
    found = availability(column)
    assert (None if found is None else tuple(found.to_list())) == read
    assert read is None or kind_of(column) is None  # nothing that taste goes by
    assert [said in note for note in notes(dataset) if "in_stock" in note] == ([True] if said else [])


def test_what_events_say_of_items_is_an_item_column(tmp_path: Path) -> None:
    """The newest value of each item, and only where the table of items has none of that name."""
    rows = ["1,a,1600000005,acme,3.5,x", "2,a,1600000001,old,2.5,x", "2,b,1600000002,,—,y"]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,ts,brand,price,page", *rows]) + "\n")
    alone = prepared(tmp_path, "user=user")
    assert alone.items.rows() == [("a", "acme", 3.5), ("b", None, None)]
    assert any("price: 1 values are not a number" in note for note in notes(alone))
    assert any("brand of 1 items changed from event to event" in note for note in notes(alone))
    (tmp_path / "items.csv").write_text("item,price\na,9\nc,8\n")
    both = prepared(tmp_path, "items=items.csv")
    assert both.items.rows() == [("a", 9.0, "acme"), ("b", None, None), ("c", 8.0, None)]


@pytest.mark.parametrize(
    ("name", "values", "kind", "stored"),
    [
        ("x", ["1", "2.5"], "number", [1.0, 2.5]),
        ("x", ["1,5", "2,25"], "number", [1.5, 2.25]),
        ("x", ["$1,299.00", "$5"], "price", [1299.0, 5.0]),
        ("price", ["1.234.567", "1'234.50", "n/a", "1,234"], "price", [1234567.0, 1234.5, None, 1234.0]),
        ("brand_id", ["17", "18"], "category", ["17", "18"]),
        ("year", [1995, 2003], "number", [1995, 2003]),
        ("x", ["a|b", "c"], "list", [["a", "b"], ["c"]]),
        ("x", ["A > B", "A"], "path", [["A", "A > B"], ["A"]]),
        ("x", ["31.01.2020", "1.2.2020"], "date", [datetime.date(2020, 1, 31), datetime.date(2020, 2, 1)]),
        ("born", ["1950-02-03", None], "date", [datetime.date(1950, 2, 3), None]),
        ("x", ["one of a kind", "two of a kind", "a third of them"], "text", None),
        ("x", ["red", " red ", ""], "category", ["red", "red", None]),
        ("x", [["a"], ["b", "c"]], "list", [["a"], ["b", "c"]]),
        ("x", [True, False, None], "boolean", [True, False, None]),
        ("x", ["True", "false", ""], "boolean", [True, False, None]),
        ("x", ["yes", "no"], "boolean", [True, False]),
        ("in_stock", ["Ja", "nein", None], "boolean", [True, False, None]),
        ("x", ["WAHR", "FALSCH"], "boolean", [True, False]),
        ("x", ["y", "n"], "category", ["y", "n"]),
        ("x", ["1", "0"], "number", [1.0, 0.0]),
        ("available", ["1", "0", None], "boolean", [True, False, None]),
        ("In Stock", [1, 0], "boolean", [True, False]),
        ("is_new", ["Y", "n"], "boolean", [True, False]),
        ("has_lid", [None, None], "boolean", [None, None]),
        ("available", ["2", "0"], "number", [2.0, 0.0]),
        ("x", ["['a', 's']", '["b"]', "[c, d]", "[]"], "list", [["a", "s"], ["b"], ["c", "d"], None]),
        ("price", ["1.299,00 €", "5.000 €"], "price", [1299.0, 5000.0]),
        ("price", ["1,000", "2,037"], "price", [1000.0, 2037.0]),
        ("price", ["0.125", "2.250"], "price", [0.125, 2.25]),
    ],
)
def test_types_and_their_values(name: str, values: list[Any], kind: str, stored: list[Any]) -> None:
    column = pl.Series(name, values)
    found = type_of(column)
    assert found == kind
    assert typed(column, found).values.to_list() == (values if stored is None else stored)


@pytest.mark.parametrize(
    ("values", "stored"), [(["a, b", "c"], [["a", "b"], ["c"]]), (["a, b; c"], [["a, b", "c"]])]
)
def test_a_stated_list_has_commas_or_semicolons_where_there_is_no_bar(
    values: list[str], stored: list[list[str]]
) -> None:
    assert typed(pl.Series("tags", values), "list").values.to_list() == stored


def test_prices_that_may_be_thousands_are_refused_until_the_decimal_mark_is_stated(folder: Path) -> None:
    (folder / "items.csv").write_text("item,price\na,1.000\nb,2.037 €\nc,5\n")
    with pytest.raises(DataError, match=r"items.csv: column 'price': price '1.000' may be .*decimal=,"):
        prepared(folder, "items=items.csv")
    assert prepared(folder, "items=items.csv&decimal=,").items["price"].to_list() == [1000, 2037, 5]
    assert prepared(folder, "items=items.csv&decimal=.").items["price"].to_list() == [1, 2.037, 5]


def test_a_stated_type_that_fits_no_value_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"column 'colour' is stated to be a number, .* 3 values.*'red'"):
        prepared(folder, "items=products.csv&item_types=colour:number")


def test_availability_of_a_text_table_is_what_serving_reads(folder: Path) -> None:
    (folder / "items.csv").write_text("item,available,sold\na,yes,1\nb,no,0\nc,,\n")
    dataset = prepared(folder, "items=items.csv&item_types=sold:boolean")
    assert dataset.items["available"].to_list() == [True, False, None]
    assert dataset.items["sold"].to_list() == [True, False, None]
    assert dataset.manifest.options["side_types"]["item.available"] == "boolean"


def test_fields_of_objects_are_columns_and_deeper_ones_are_left_out(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    row = '{"id": "a", "price": {"amount": 3.5}, "size": {"in": {"cm": 3}}, "tags": ["x"], "brand": "acme"}'
    (folder / "items.jsonl").write_text(f"{row}\n")
    dataset = prepared(folder, "items=items.jsonl")
    assert dict(zip(dataset.items.columns, dataset.items.row(0), strict=True)) == {
        "raw_id": "a",
        "price_amount": 3.5,
        "tags": ["x"],
        "brand": "acme",
    }
    assert dataset.manifest.options["side_types"]["item.price_amount"] == "price"
    said = "items.jsonl: left out, as they hold lists of objects or bytes: size.in"
    assert said in notes(dataset)
    assert said in caplog.text


def test_each_table_has_its_own_encoding(folder: Path) -> None:
    (folder / "events.csv").write_bytes(EVENTS.replace("b,", "é,").encode("latin-1"))
    for encoding in ("utf-8", "latin-1", "utf-16"):
        (folder / "items.csv").write_bytes("item,brand\né,Müller\n".encode(encoding))
        dataset = prepared(folder, "items=items.csv&encoding=latin-1")
        assert dataset.items.filter(raw_id="é").rows() == [("é", "Müller")]


def test_a_byte_order_mark_says_more_than_the_encoding_of_all_tables(folder: Path) -> None:
    (folder / "events.csv").write_bytes(EVENTS.replace("b,", "é,").encode("utf-8-sig"))
    (folder / "items.csv").write_bytes("item,brand\né,Müller\n".encode("cp1252"))
    dataset = prepared(folder, "items=items.csv&encoding=cp1252")
    assert dataset.items.filter(raw_id="é").rows() == [("é", "Müller")]


def test_the_name_that_the_events_give_an_id_is_tried_in_the_other_tables(folder: Path) -> None:
    (folder / "events.csv").write_text("Kunde,Artikel\n1,a\n1,b\n2,a\n")
    (folder / "items.csv").write_text("id,Artikel,Bezeichnung\n7,a,Tisch\n8,b,Stuhl\n")
    (folder / "users.csv").write_text("Land,Kunde\nDE,1\nAT,2\n")
    dataset = prepared(folder, "user=Kunde&item=Artikel&items=items.csv&users=users.csv")
    assert dataset.items.select("raw_id", "title").rows() == [("a", "Tisch"), ("b", "Stuhl")]
    assert dataset.users.select("raw_id", "Land").rows() == [("1", "DE"), ("2", "AT")]
    with pytest.raises(DataError, match="no column of user ids"):  # a position is one in the events
        prepared(folder, "user=1&item=2&users=users.csv")


def test_a_column_of_events_and_of_items_is_one_whatever_it_is_called(folder: Path) -> None:
    (folder / "events.csv").write_text("user,item,price.amount\n1,a,2\n1,b,3\n")
    (folder / "items.jsonl").write_text('{"id": "a", "price": {"amount": 3.5}}\n')
    assert prepared(folder, "items=items.jsonl").items.rows() == [("a", 3.5), ("b", None)]


def test_stated_types_are_read() -> None:
    assert parse_types("brand:category,a:b:price") == {"brand": "category", "a:b": "price"}
