"""Folders of train, valid and test files: the split that a benchmark brings."""

from pathlib import Path

import numpy as np
import pytest

from recray.config import ConfigError
from recray.data.events.dataset import Dataset
from recray.data.events.prepare import load_or_prepare
from recray.data.source import ABSOLUTE_TIMES, POSITIONS, ROW_NUMBERS
from recray.schema import DataError


def by_part(dataset: Dataset, part: int) -> list[tuple[str, str]]:
    assert dataset.given_parts_N is not None
    rows = np.flatnonzero(dataset.given_parts_N == part)
    users, items = dataset.users["raw_id"], dataset.items["raw_id"]
    return [(users[int(dataset.user_ids_N[r])], items[int(dataset.item_ids_N[r])]) for r in rows]


def test_lines_of_a_user_and_its_items(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("0 5 3\n1 4\n2 \n")
    (tmp_path / "test.txt").write_text("0 4\n1 5 3\n")
    dataset = load_or_prepare(str(tmp_path))
    assert dataset.manifest.options["times"] == POSITIONS
    assert sorted(by_part(dataset, 0)) == [("0", "3"), ("0", "5"), ("1", "4")]
    assert sorted(by_part(dataset, 2)) == [("0", "4"), ("1", "3"), ("1", "5")]
    of_user_0 = dataset.user_ids_N == 0
    assert dataset.items["raw_id"][dataset.item_ids_N[of_user_0].tolist()].to_list() == ["5", "3", "4"]
    assert set(dataset.manifest.options["raw_files"]) == {"train.txt", "test.txt"}
    assert "1 lines have a user without items" in (dataset.folder / "quality.json").read_text()


def test_tables_with_times_and_without(tmp_path: Path) -> None:
    header = "user,item,timestamp\n"
    for name, row in (
        ("train", "a,1,1600000000500"),
        ("valid", "a,2,1600000001000"),
        ("test", "b,1,1600000000000"),
    ):
        (tmp_path / f"{name}.csv").write_text(f"{header}{row}\n")
    dataset = load_or_prepare(str(tmp_path))
    assert dataset.manifest.options["times"] == ABSOLUTE_TIMES
    assert [by_part(dataset, part) for part in (0, 1, 2)] == [[("a", "1")], [("a", "2")], [("b", "1")]]
    assert dataset.timestamps_N.tolist() == [1_600_000_000, 1_600_000_000, 1_600_000_001]
    untimed = load_or_prepare(f"{tmp_path}?timestamp=&name=mine")
    assert untimed.name == "mine"
    assert untimed.manifest.options["times"] == ROW_NUMBERS
    assert [by_part(untimed, part) for part in (0, 1, 2)] == [[("a", "1")], [("a", "2")], [("b", "1")]]


def test_a_pair_in_train_and_test_is_kept_in_both(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.tsv").write_text("user\titem\n1\t2\n1\t2\n")
    dataset = load_or_prepare(str(tmp_path))
    assert (by_part(dataset, 0), by_part(dataset, 2)) == ([("1", "2")], [("1", "2")])


def test_an_edited_file_is_prepared_again(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.txt").write_text("1 2 3\n")
    first = load_or_prepare(str(tmp_path))
    (tmp_path / "test.txt").write_text("1 2 3 4\n")
    second = load_or_prepare(str(tmp_path))
    assert (first.name, len(first), len(second)) == (second.name, 4, 5)


def test_wrong_folders_say_what_would_do(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("user,item,ts\n1,2,1600000000\n")
    (tmp_path / "test.csv").write_text("user,item\n1,2\n")
    with pytest.raises(DataError, match="have not the same columns"):
        load_or_prepare(str(tmp_path))
    with pytest.raises(ConfigError, match="no option 'usr'"):
        load_or_prepare(f"{tmp_path}?usr=1")
    (tmp_path / "train.tsv").write_text("user\titem\n1\t2\n")
    with pytest.raises(DataError, match=r"train\.csv and .*train\.tsv could both be the train part"):
        load_or_prepare(str(tmp_path))


def test_tables_that_are_no_part_are_named_and_pieces_of_parts_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, item in (("train", 1), ("test", 2)):
        (tmp_path / f"{name}.csv").write_text(f"user,item\n1,{item}\n")
    for name in ("items.csv", "user_list.txt", "README.md"):
        (tmp_path / name).write_text("id,brand\n1,acme\n")
    assert load_or_prepare(f"{tmp_path}?items=items.csv").items["brand"].to_list() == ["acme", None]
    assert "not read, as they are called neither train, valid nor test: user_list.txt (" in caplog.text
    load_or_prepare(str(tmp_path))
    assert "nor test: items.csv, user_list.txt (items=NAME" in caplog.text
    for name in ("train_part2.csv", "test-00001.parquet", "Train2.tsv"):
        (tmp_path / name).write_text("user,item\n1,2\n")
        with pytest.raises(DataError, match=f"{name} looks like a piece of (train|test).csv, .*one file"):
            load_or_prepare(f"{tmp_path}?name={name.replace('.', '')}")
        (tmp_path / name).unlink()
