"""A published map comes back as it was written, both ways, or says what is wrong."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recray.bundles.codes import CODES, LEVELS, MODEL, lookup, read_codes, write_codes
from recray.schema import DataError
from recray.semantic_ids import SemanticIds, disambiguate
from recray.store.bundle import Bundle
from recray.store.manifest import StoreError
from recray.store.store import Store

CONTENT_CODES = np.array([[0, 1], [2, 2], [0, 1], [2, 0]])
RAW_IDS = ["item-7", "1", "é", "B00 4"]


@pytest.fixture
def ids() -> SemanticIds:
    return disambiguate(CONTENT_CODES, (3, 3))


@pytest.fixture
def bundle(ids: SemanticIds, tmp_path: Path) -> Bundle:
    return publish(Store(tmp_path), ids)


def publish(store: Store, ids: SemanticIds, edit: bool = False) -> Bundle:
    def write(folder: Path) -> None:
        write_codes(folder, RAW_IDS, ids)
        if edit:
            header = json.loads((folder / LEVELS).read_text())
            (folder / LEVELS).write_text(json.dumps({**header, "digest": "0" * 64}))

    return store.publish("made-semantic-ids", write, model=MODEL, config={})


def test_a_map_comes_back(bundle: Bundle, ids: SemanticIds) -> None:
    raw_ids, found = read_codes(bundle)
    assert raw_ids == RAW_IDS
    assert found.codes_IL.tolist() == [[0, 1, 0], [2, 2, 0], [0, 1, 1], [2, 0, 0]]
    assert (found.sizes, found.disambiguated, found.digest) == (ids.sizes, True, ids.digest)


def test_the_table_can_be_read_by_anyone(bundle: Bundle) -> None:
    table = pl.read_parquet(bundle.path(CODES))
    assert table.columns == ["raw_id", "code_1", "code_2", "code_3"]
    assert table.row(2) == ("é", 0, 1, 1)


def test_it_is_looked_up_both_ways(bundle: Bundle) -> None:
    assert lookup(bundle, "é") == [("é", (0, 1, 1))]
    assert lookup(bundle, "0-1-1") == [("é", (0, 1, 1))]
    assert lookup(bundle, "0-1") == [("item-7", (0, 1, 0)), ("é", (0, 1, 1))]  # a prefix: all items below it
    assert lookup(bundle, "1") == [("1", (2, 2, 0))]  # a raw id comes first
    with pytest.raises(DataError, match="no item 'item-8'.*did you mean 'item-7'"):
        lookup(bundle, "item-8")
    with pytest.raises(DataError, match="no item has codes 1-1-1"):
        lookup(bundle, "1-1-1")


def test_what_is_no_map_is_refused(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "other.txt").write_text("no codes")

    bundle = Store(tmp_path).publish("made", write, model="two_tower", config={})
    with pytest.raises(StoreError, match="is a 'two_tower', no map of semantic ids"):
        read_codes(bundle)


def test_codes_of_another_digest_are_refused(ids: SemanticIds, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"its codes have digest {ids.digest[:12]}, not 000000000000"):
        read_codes(publish(Store(tmp_path), ids, edit=True))


def test_raw_ids_stand_for_one_item_each(ids: SemanticIds, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="raw id 'a' stands for several items"):
        write_codes(tmp_path, ["a", "b", "a", "c"], ids)
    with pytest.raises(DataError, match="2 raw ids for the codes of 4 items"):
        write_codes(tmp_path, ["a", "b"], ids)
    for nothing in (None, "", " "):
        with pytest.raises(DataError, match="row 3 of 4 items has no raw id"):
            write_codes(tmp_path, ["a", "b", nothing, "c"], ids)  # type: ignore[list-item]
