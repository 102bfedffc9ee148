"""The quality report: planted flaws are counted, the page is whole and needs nothing else."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recray.data.events.clean import InteractionArrays, Rows
from recray.data.events.dataset import Dataset
from recray.data.events.prepare import prepare
from recray.data.events.quality import _gini, measure
from recray.data.source import ABSOLUTE_TIMES
from recray.data.sources.published.sequences_text import SequenceText
from recray.data.sources.tables.interactions import InteractionTable

# Five users, user 5 and item 50 appear only at the end; one exact copy, one repeated pair, one
# rating of 9, one row earlier than the one before it, one tie within user 1.
ROWS = [
    "1,10,4,100",
    "1,20,4,100",
    "1,20,4,100",
    "2,10,9,99",
    "2,10,3,110",
    "3,10,2,120",
    "3,20,2,121",
    "4,10,2,122",
    "4,30,2,123",
    "1,30,5,124",
    "5,50,1,130",
]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    path = tmp_path / "a<b.csv"
    path.write_text("user,item,rating,ts\n" + "\n".join(ROWS) + "\n")
    return prepare(InteractionTable(path=path, name="a<b", rating_range=(1, 5)), tmp_path / "out")


def report(dataset: Dataset) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((dataset.folder / "quality.json").read_text())
    return values


def test_planted_flaws_are_counted(dataset: Dataset) -> None:
    quality = report(dataset)
    assert quality["rows"] == {
        "read": 11,
        "exact_duplicates": 1,
        "repeated_pairs": 1,
        "dropped_by_k_core": 0,
        "out_of_order": 1,
    }
    assert quality["ratings"]["outside"] == 1
    assert quality["ratings"]["histogram"] == {"1": 1, "2": 4, "3": 1, "4": 2, "5": 1, "9": 1}
    assert quality["time"]["ties_within_users"] == pytest.approx(0.1)
    assert quality["time"]["distinct"] == 9
    assert quality["time"]["first"] == "1970-01-01T00:01:39+00:00"
    wanted = ("count", "below_few", "highest", "cold_at_split")
    assert [quality["users"][key] for key in wanted] == [5, 5, 3, 1]
    assert [quality["items"][key] for key in wanted] == [4, 3, 5, 1]
    assert quality["density"] == pytest.approx(10 / 20)
    levels = {check["name"]: check["level"] for check in quality["checks"]}
    assert levels == {
        "Exact duplicates": "warning",
        "Repeated pairs": "note",
        "Rating range": "warning",
        "Order of time": "note",
        "Equal times": "note",
        "Busiest user": "ok",
        "Items without interactions": "ok",
        "Cold users": "warning",
        "Cold items": "warning",
        "New users": "note",
        "New items": "note",
    }


@pytest.mark.parametrize("counts", [[1, 1, 1], [0, 0, 5], [1, 2, 3, 10], [7]])
def test_gini_matches_the_mean_difference(counts: list[int]) -> None:
    pairs = [abs(a - b) for a in counts for b in counts]
    expected = sum(pairs) / (2 * len(counts) ** 2 * np.mean(counts))
    assert _gini(np.array(counts)) == pytest.approx(expected)


class Tags(HTMLParser):
    """Collects tags and checks that they nest."""

    VOID = ("meta", "br", "img", "link")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_self_contained(dataset: Dataset) -> None:
    page = (dataset.folder / "quality.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.seen.count("svg") == 5  # with the plot of ratings
    assert not {"script", "link", "img", "iframe"} & set(tags.seen)
    assert not re.search(r'(src|href)="(?!#)', page)
    assert "url(http" not in page
    assert "a&lt;b: data quality" in page


def test_the_page_is_the_same_bytes_every_time(dataset: Dataset, tmp_path: Path) -> None:
    again = prepare(
        InteractionTable(path=tmp_path / "a<b.csv", name="a<b", rating_range=(1, 5)), tmp_path / "again"
    )
    assert (again.folder / "quality.html").read_bytes() == (dataset.folder / "quality.html").read_bytes()


def test_one_interaction_without_rating_or_absolute_time_is_enough(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("a b\n")
    dataset = prepare(SequenceText(name="x", path=tmp_path / "x.txt"), tmp_path / "out")
    assert report(dataset)["time"]["first"] == 0
    assert (dataset.folder / "quality.html").read_text().count("<svg") == 4


def test_who_is_too_busy_and_what_nobody_took_is_said() -> None:
    users_N = np.array([0] * 60 + list(range(40)), dtype=np.int32)
    events = InteractionArrays(
        users_N, np.zeros(100, np.int32), np.ones(100, np.float32), np.arange(100, dtype=np.int64)
    )
    tables = [pl.DataFrame({"raw_id": [str(n) for n in range(size)]}) for size in (40, 7)]
    rows = Rows(read=100, exact_duplicates=0, repeated_pairs=0, dropped_by_k_core=0, out_of_order=0)
    found = measure("made", rows, events, *tables, rating_range=None, times=ABSOLUTE_TIMES)
    assert (found.items.count, found.items.without, found.items.cold_at_split) == (1, 6, 0)
    said = {check.name: check for check in found.checks}
    assert said["Busiest user"].level == "warning"
    assert "61 interactions, 61% of all" in said["Busiest user"].text
    assert "6 further items" in said["Items without interactions"].text
