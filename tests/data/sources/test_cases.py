"""The shared cases: the same interactions told in many ways, and inputs that were answered wrongly once."""

import numpy as np
import pytest

from recray.data.events.dataset import Dataset
from recray.data.events.prepare import load_or_prepare
from recray.data.source import POSITIONS, ROW_NUMBERS
from recray.schema import DataError
from tests.conftest import shared_case

pytestmark = pytest.mark.data

COLUMNS = "?user=Kunde&item=Artikel&rating=Bewertung&timestamp=Zeit"


def prepared(name: str, options: str = "") -> Dataset:
    return load_or_prepare(f"{shared_case(name)}{options}")


def events(dataset: Dataset) -> list[tuple[str, str, float, int]]:
    users, items = dataset.users["raw_id"].to_list(), dataset.items["raw_id"].to_list()
    columns = (dataset.user_ids_N, dataset.item_ids_N, dataset.ratings_N, dataset.timestamps_N)
    return [(users[u], items[i], float(r), int(t)) for u, i, r, t in zip(*columns, strict=True)]


def of_users(dataset: Dataset) -> dict[str, list[str]]:
    """What each user met, in order."""
    found: dict[str, list[str]] = {}
    for user, item, _, _ in events(dataset):
        found.setdefault(user, []).append(item)
    return found


def notes(dataset: Dataset) -> str:
    return (dataset.folder / "quality.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["base.csv.gz", "base.jsonl", "comment.tsv", "iso.csv"])
def test_the_same_told_otherwise_is_the_same(name: str) -> None:
    base = prepared("tables/base.csv")
    assert (len(base), base.num_users) == (900, 60)
    assert prepared(f"tables/{name}").hash == base.hash


def test_an_export_of_excel() -> None:
    dataset = prepared("tables/excel.csv", COLUMNS)
    base = events(prepared("tables/base.csv"))
    told = [(f"K{u}", f"Ä{i}", r + 0.5, t // 60 * 60) for u, i, r, t in base]
    assert events(dataset) == sorted(told, key=lambda row: row[3])
    stated = prepared("tables/excel.csv", f"{COLUMNS}&time_format=%d.%m.%Y %H:%M")
    assert stated.hash == dataset.hash
    with pytest.raises(DataError, match="it has Kunde, Artikel, Bewertung, Zeit.*user="):
        prepared("tables/excel.csv")


def test_events_of_a_shop_as_kaggle_has_them() -> None:
    dataset = prepared("tables/kaggle.csv")
    base = events(prepared("tables/base.csv"))
    assert [(u, i, t) for u, i, _, t in events(dataset)] == [
        (f"{500_000_000 + int(u)}", f"{1_000_000 + int(i)}", t) for u, i, _, t in base
    ]
    assert dataset.manifest.event_types == ("cart", "purchase", "remove_from_cart", "view")
    assert dataset.items.columns == ["raw_id", "category_id", "category_code", "brand", "price"]
    assert set(dataset.items["brand"].to_list()) == {"acme"}
    assert set(dataset.items["price"].to_list()) == {9.99}


def test_events_in_milliseconds_as_retailrocket_has_them() -> None:
    dataset = prepared("tables/retailrocket.csv")
    base = events(prepared("tables/base.csv"))
    assert [(u, i, t) for u, i, _, t in events(dataset)] == [(u, i, t) for u, i, _, t in base]
    assert dataset.manifest.event_types == ("addtocart", "transaction", "view")
    assert "unix milliseconds" in notes(dataset)


def test_counts_are_ratings() -> None:
    dataset = prepared("tables/plays.csv")
    assert dataset.manifest.options["times"] == ROW_NUMBERS
    assert (dataset.ratings_N[:3].tolist(), dataset.num_users) == ([306.0, 1.0, 206.0], 60)


def test_order_goes_by_the_full_time() -> None:
    assert of_users(prepared("tables/order_ms.csv"))["0"] == ["i0", "i1", "i2", "i3", "i4", "i5"]
    many = prepared("tables/order_many_users.csv")
    assert len(many) == 4749
    latest: dict[str, tuple[int, str]] = {}
    for line in shared_case("tables/order_many_users.csv").read_text().splitlines()[1:]:
        user, item, time = line.split(",")
        latest[user] = max(latest.get(user, (0, "")), (int(time), item))
    assert {user: items[-1] for user, items in of_users(many).items()} == {
        user: item for user, (_, item) in latest.items()
    }


def test_what_is_a_copy() -> None:
    assert len(prepared("tables/double_clicks_ms.csv")) == 144
    copies = prepared("tables/duplicates_no_time.csv")
    lines = shared_case("tables/duplicates_no_time.csv").read_text().splitlines()[1:]
    assert (len(copies), len(lines)) == (480, 960)
    assert f'"exact_duplicates": {960 - 480}' in notes(copies)


def test_ids_are_tidied_and_it_is_said() -> None:
    blanks, floats = prepared("tables/blank_ids.csv"), prepared("tables/float_ids.csv")
    assert (blanks.num_items, floats.num_items) == (11, 11)
    assert {"NA", "nan", "null"} < set(blanks.users["raw_id"])
    assert "blanks around 150 item ids were stripped" in notes(blanks)
    assert "user ids are words such as nan, null: they are taken as ids" in notes(blanks)
    assert "75 item ids are written like 7.0" in notes(floats)


def test_a_user_on_two_lines_is_one_sequence() -> None:
    dataset = prepared("sequences/user_on_two_lines.txt")
    assert of_users(dataset) == {"u1": list("abcdefg"), "u2": list("cdabghe")}
    assert dataset.manifest.options["times"] == POSITIONS


@pytest.mark.parametrize("name", ["comma.txt", "tab.txt", "pairs.txt"])
def test_sequences_of_other_separators(name: str) -> None:
    dataset = prepared(f"sequences/{name}")
    expected = [line.split(",") for line in shared_case("sequences/comma.txt").read_text().splitlines()]
    assert of_users(dataset) == {user: items for user, *items in expected}
    assert dataset.manifest.options["times"] == POSITIONS


def test_the_files_of_a_shop() -> None:
    with pytest.raises(
        DataError, match=r"events.csv, line 87.*3,608 rows.*anonymous=drop.*anonymous=session"
    ):
        prepared("shop/events.csv")
    beside = "&items=products.csv&users=users.csv"
    known = prepared("shop/events.csv", f"?anonymous=drop{beside}")
    assert (len(known), known.num_users, known.num_items) == (16_976 - 3_608, 426, 3_000)
    every = prepared("shop/events.csv", f"?anonymous=session{beside}")
    assert (len(every), every.num_items) == (16_976, 3_000)
    assert sum(user.startswith("session:") for user in every.users["raw_id"]) == every.num_users - 426
    seen = np.unique(every.item_ids_N)
    assert (len(seen), int(seen.max())) == (1_670, 1_669)  # products without events stand behind the others
    assert every.manifest.options["side_types"] == {
        "user.country": "category",
        "user.age_band": "category",
        "item.category": "path",
        "item.brand": "category",
        "item.price": "price",
        "item.title": "text",
        "item.description": "text",
        "item.created_at": "date",
    }
    first = every.items.filter(every.items["raw_id"] == "SKU-00000").row(0, named=True)
    assert first["category"] == ["Sports", "Sports > Sports Kids"]
    assert (first["price"], str(first["created_at"])) == (23.13, "2025-04-18")
