"""LibSVM lines with query groups, and LETOR's qid."""

from pathlib import Path

import numpy as np
import pytest

from recray.data.rows.prepare import load_or_prepare_rows
from recray.data.rows.table import RowTable
from recray.schema import DataError
from tests.conftest import raw_file


def write(
    folder: Path,
    train: str,
    test: str = "1 1:1\n0 2:1\n",
    groups: str | None = "2\n",
    test_groups: str = "2\n",
) -> Path:
    (folder / "rank.train").write_text(train)
    (folder / "rank.test").write_text(test)
    (folder / "rank.test.query").write_text(test_groups)
    if groups is not None:
        (folder / "rank.train.query").write_text(groups)
    return folder


def rows_of(folder: Path) -> RowTable:
    return load_or_prepare_rows(str(folder), validation=0.5)


def test_values_grades_and_groups(tmp_path: Path) -> None:
    train = "2 1:0.5 3:-1e-3\n0\n1 4:7\n\n0 2:2 # doc 7\n"
    table = rows_of(write(tmp_path, train, groups="1\n3\n"))
    assert table.schema.dense == ("f1", "f2", "f3", "f4")
    assert table.schema.sessions
    one, three = sorted((table.read("train"), table.read("validation")), key=len)
    assert one.dense_NF.tolist() == [[0.5, 0, np.float32(-1e-3), 0]]
    assert three.dense_NF.tolist() == [[0, 0, 0, 0], [0, 0, 0, 7], [0, 2, 0, 0]]
    assert (one.labels_N.tolist(), three.labels_N.tolist()) == ([2], [0, 1, 0])
    test = table.read("test")
    assert test.dense_NF.shape == (2, 4)
    assert test.offsets_S is not None
    assert test.offsets_S.tolist() == [0, 2]


def test_qid_in_the_lines(tmp_path: Path) -> None:
    lines = [f"{n % 3} qid:{q} 1:{n}" for q, n in [(7, 0), (7, 1), (3, 2), (5, 3), (5, 4), (5, 5)]]
    table = rows_of(write(tmp_path, "\n".join(lines), groups=None))
    sizes: list[int] = []
    for part in ("train", "validation"):
        offsets_S = table.read(part).offsets_S
        assert offsets_S is not None
        sizes += np.diff(offsets_S).tolist()
    assert sorted(sizes) == [1, 2, 3]


@pytest.mark.parametrize(
    ("train", "groups", "message"),
    [
        ("1 1:x\n0 1:1\n", "2\n", r"rank.train, line 1: feature value 'x' is not a number"),
        ("1 1:1\n0 1:nan\n", "2\n", r"line 2: feature value 'nan' is not a number"),
        ("1 1:1\nbad 1:1\n", "2\n", r"line 2: label 'bad' is not a number"),
        ("1 a:1\n0 1:1\n", "2\n", r"line 1: feature number 'a' is not a number"),
        ("1 0:1\n0 1:1\n", "2\n", r"line 1: feature number '0' is not between 1 and 100,000"),
        ("1 1:1\n0 100001:1\n", "2\n", r"line 2: feature number '100001' is not between 1 and 100,000"),
        ("1 1:1\n0 1:1:2\n", "2\n", r"line 2: feature value '1:2' is not a number"),
        ("1 1:1\n0 1:1e39\n", "2\n", r"line 2: feature value '1e39' does not fit into 32 bits"),
        ("1 1:1\n0 1:-inf\n", "2\n", r"line 2: feature value '-inf' does not fit into 32 bits"),
        ("1 1:1\n-1 1:1\n", "2\n", r"line 2: label '-1' is not between 0 and 30: number the grades from 0"),
        ("inf 1:1\n0 1:1\n", "2\n", r"line 1: label 'inf' is not between 0 and 30"),
        ("31 1:1\n0 1:1\n", "2\n", r"line 1: label '31' is not between 0 and 30"),
        ("1 1:1\n0 1:1\n", "2\n", r"has 1 query and needs at least 2"),
        ("\n# nothing\n", "2\n", r"rank.train holds no rows, only blank lines and comments"),
        ("1 1:1\n0 1:1\n", "1 1 1 x\n", r"rank.train.query, line 4: group size 'x' is not a number"),
        ("1 1:1\n0 1:1\n", "3\n", r"sum to the 2 lines of rank.train, got a smallest of 3 and a sum of 3"),
        ("1 1:1\n0 1:1\n", "0\n2\n", r"got a smallest of 0"),
        ("1 1:1\n0 1:1\n", "two\n", r"rank.train.query, line 1: group size 'two' is not a number"),
        ("1 1:1\n0 1:1\n", None, r"0 of 2 lines have a qid: write one in each, or the number of lines"),
        ("1 qid:1 1:1\n0 1:1\n", None, r"line 2: it has 0 qid, and 1 of 2 lines have one: write one in each"),
        ("1 qid:1 qid:2 1:1\n0 1:1\n", None, r"line 1: it has 2 qid, and 0 of 2 lines have one"),
        ("1 1:1\n0 1:0.5 2:0 1:0.7\n", "2\n", r"line 2: feature number '1' stands twice in its line"),
        ("1 qid:1 1:1\n0 qid:2 1:1\n1 qid:1\n", None, r"the lines of a query do not lie together"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, train: str, groups: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows_of(write(tmp_path, train, groups=groups))


def test_a_folder_without_group_files_is_known_by_its_names(tmp_path: Path) -> None:
    for name in ("rank.train", "rank.test"):
        (tmp_path / name).write_text("1 qid:1 1:1\n0 qid:2 1:2\n")
    assert [part.units for part in rows_of(tmp_path).manifest.parts] == [1, 1, 2]
    for old, new in (("rank.train", "a.txt"), ("rank.test", "b.txt")):
        (tmp_path / old).rename(tmp_path / new)
    table = load_or_prepare_rows(f"{tmp_path}?train=a.txt&test=b.txt")
    assert [part.units for part in table.manifest.parts] == [1, 1, 2]
    (tmp_path / "rank.train").write_text("1 1:1\n0 1:2\n")
    with pytest.raises(DataError, match=r"rank.test does not exist"):
        rows_of(tmp_path)
    (tmp_path / "rank.test").write_text("1 1:1\n")
    with pytest.raises(DataError, match=r"0 of 2 lines have a qid"):
        rows_of(tmp_path)


def test_comments_are_ignored_whatever_their_encoding(tmp_path: Path) -> None:
    folder = write(tmp_path, "", groups="1\n1\n")
    (folder / "rank.train").write_bytes(b"1 1:1 # caf\xe9\r\n2 1:2 # line\xe2\x80\xa8separator\r\n")
    table = rows_of(folder)
    assert sorted(float(table.read(p).labels_N[0]) for p in ("train", "validation")) == [1, 2]


def test_a_byte_order_mark_is_no_part_of_the_first_label(tmp_path: Path) -> None:
    folder = write(tmp_path, "\ufeff2 1:0.5\n0 1:0.2\n", groups="1\n1\n")
    (folder / "rank.test.query").write_text("\ufeff2\n")
    table = rows_of(folder)
    assert sorted(float(table.read(p).labels_N[0]) for p in ("train", "validation")) == [0, 2]


@pytest.mark.data
def test_the_real_set() -> None:
    path = raw_file("ltr-lightgbm/rank.test")
    table = load_or_prepare_rows("ltr-lightgbm")
    assert [(p.units, p.rows) for p in table.manifest.parts] == [(161, 2396), (40, 609), (50, 768)]
    test = table.read("test")
    assert test.offsets_S is not None
    sizes = [int(line) for line in path.with_name("rank.test.query").read_text().split()]
    assert np.diff(test.offsets_S).tolist() == sizes
    slow_NF = np.zeros((768, 300), np.float32)
    for n, line in enumerate(path.read_text().splitlines()):
        label, *pairs = line.split()
        assert float(label) == test.labels_N[n]
        for pair in pairs:
            number, value = pair.split(":")
            slow_NF[n, int(number) - 1] = float(value)
    assert np.array_equal(test.dense_NF, slow_NF)
