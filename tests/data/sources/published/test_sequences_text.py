"""Sequence text files, with and without time gaps."""

from pathlib import Path

import pytest

from recray.data.events.dataset import Dataset
from recray.data.events.prepare import load_or_prepare, prepare
from recray.data.source import POSITIONS, TIMES_PER_USER
from recray.data.sources.published.sequences_text import SequenceText
from recray.schema import DataError
from tests.conftest import raw_file


def test_gaps_add_up_to_times(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("1 7 5 6\t0 10 0\n2 5 7\t0 4\n\n")
    (tmp_path / "item_text.tsv").write_text("item_id\tasin\ttext\n5\tB5\ta brush\n6\tB6\tsoap\n")
    (tmp_path / "item_attributes.json").write_text('{"5": [3, 1], "7": [1]}')
    dataset = prepare(SequenceText(name="x", path=path), tmp_path / "out")
    of_user_0 = dataset.user_ids_N == 0
    assert dataset.timestamps_N[of_user_0].tolist() == [0, 10, 10]
    assert dataset.item_ids_N[of_user_0].tolist() == [2, 0, 1]  # 7, 5, 6: the tie keeps the order of the line
    assert dataset.manifest.options["times"] == TIMES_PER_USER
    assert dataset.items["text"].to_list() == ["a brush", "soap", None]
    assert dataset.items["categories"].to_list() == [["3", "1"], None, ["1"]]


def items_of(dataset: Dataset, user: str) -> list[str]:
    mine = dataset.user_ids_N == dataset.users["raw_id"].to_list().index(user)
    found: list[str] = dataset.items["raw_id"][dataset.item_ids_N[mine].tolist()].to_list()
    return found


@pytest.mark.parametrize(
    "text",
    [
        "a p q r q\nb q p\n",
        "a,p,q,r,q\nb,q,p\n",
        "a, p, q, r, q\nb, q, p\n",
        "a\tp\tq\tr\tq\nb\tq\tp\n",
        "a;p;q;r;q\nb;q;p\n",
        "a p\na q\nb q\na r\na q\nb p\n",
        "a\tp\na\tq\nb\tq\na\tr\na\tq\nb\tp\n",
        "\ufeffa p q\n\nb q p\na r q\n",
    ],
)
def test_without_gaps_times_are_positions_and_repeats_are_kept(tmp_path: Path, text: str) -> None:
    """Whatever separates, and on however many lines a user stands."""
    path = tmp_path / "x.txt"
    path.write_text(text, encoding="utf-8")
    dataset = prepare(SequenceText(path=path), tmp_path / "out")
    assert dataset.timestamps_N[dataset.user_ids_N == 0].tolist() == [0, 1, 2, 3]
    assert (items_of(dataset, "a"), items_of(dataset, "b")) == (["p", "q", "r", "q"], ["q", "p"])
    assert dataset.manifest.options["times"] == POSITIONS


def test_gaps_go_on_from_line_to_line(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("a p q\t0 10\nb q\t0\na r\t5\n")
    dataset = prepare(SequenceText(path=tmp_path / "x.txt"), tmp_path / "out")
    assert dataset.timestamps_N[dataset.user_ids_N == 0].tolist() == [0, 10, 15]
    assert items_of(dataset, "a") == ["p", "q", "r"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"1 2 3\n4\n", "line 2: user '4' has no items"),
        (b"1 2 3\t0\n", "line 1: 1 time gaps for 2 items"),
        (b"1 2 3\t0 x\n", "line 1: time gap 'x'"),
        (b"1 2 3\t0 -5\n", "line 1: time gap '-5'"),
        (b"1 2 3\t0 99999999999999\n", "line 1: the gaps add up"),
        (b"1 2\n\xff 3\n", "line 2: byte 0xff is not utf-8"),
        (b"1 2 3\t0 4\n2 3 4\n", "line 2: no time gaps, unlike"),
        (b"1,2\n3,,4\n", "line 2: a user or an item is empty"),
        (b"user,item\n1,2\n", r"line 1 names columns .*\?user=user"),
        (b"", "empty"),
        (b"\n\n", "no line"),
    ],
)
def test_wrong_lines_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.txt").write_bytes(data)
    with pytest.raises(DataError, match=message):
        prepare(SequenceText(name="x", path=tmp_path / "x.txt"), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("item_attributes.json", "{", "not JSON"),
        ("item_attributes.json", '{"5": 3}', "list of category ids"),
        ("item_text.tsv", "asin\ttext\nB5\tbrush\n", "item_id column"),
    ],
)
def test_wrong_side_files_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / "x.txt").write_text("1 2 3\n")
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=f"{name}.*{message}"):
        prepare(SequenceText(name="x", path=tmp_path / "x.txt"), tmp_path / "out")


@pytest.mark.data
def test_real_counts() -> None:
    raw_file("amazon-beauty/sequences_with_gaps.txt")
    dataset = load_or_prepare("amazon-beauty")
    assert (dataset.num_users, dataset.num_items, len(dataset)) == (22_363, 12_101, 198_502)
    assert dataset.items["text"].null_count() < 0.01 * dataset.num_items
