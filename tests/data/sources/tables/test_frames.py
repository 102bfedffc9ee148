"""DataFrames as data sets: kept once, named, and read like any table."""

from importlib import import_module

import polars as pl
import pytest

from recray.config import ConfigError
from recray.data.events.prepare import load_or_prepare
from recray.data.sources import absolute, data_name
from recray.data.sources.tables.frames import frame_table
from recray.schema import DataError

ROWS = {"visitor": ["a", "b", "a"], "item": [3, 4, 4], "ts": [1_600_000_000, 1_600_000_001, 1_600_000_002]}


def test_frames_of_every_library_are_one_data_set(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path_factory.mktemp("home")))
    frame = pl.DataFrame(ROWS)
    frames = [frame, frame.lazy(), frame.to_arrow(), import_module("pandas").DataFrame(ROWS)]
    named = [frame_table(each, "shop", user="visitor") for each in frames]
    assert data_name(named[0]) == "shop"
    assert absolute(named[0]) == named[0]
    hashes = {load_or_prepare(name).hash for name in named}
    assert len(hashes) == 1
    assert frame_table(frame, "shop", user="visitor") == named[0]


def test_other_content_is_another_state_of_the_same_name() -> None:
    first = load_or_prepare(frame_table(pl.DataFrame(ROWS), "states", user="visitor"))
    changed = pl.DataFrame({**ROWS, "item": [3, 4, 5]})
    second = load_or_prepare(frame_table(changed, "states", user="visitor"))
    assert (first.name, second.name) == ("states", "states")
    assert first.folder != second.folder
    assert second.num_items == 3


def test_items_and_users_may_be_frames_too() -> None:
    items = import_module("pandas").DataFrame({"id": [3, 4, 5], "in_stock": [True, False, True]})
    users = pl.DataFrame({"id": ["a", "b"], "country": ["DE", "FR"]})
    named = frame_table(pl.DataFrame(ROWS), "sides", user="visitor", items=items, users=users)
    dataset = load_or_prepare(named)
    assert dataset.items.rows() == [("3", True), ("4", False), ("5", True)]
    assert dataset.users.rows() == [("a", "DE"), ("b", "FR")]
    with pytest.raises(ConfigError, match="a list is no DataFrame"):
        frame_table(pl.DataFrame(ROWS), "sides", items=[1])


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(ConfigError, match="a dict is no DataFrame"):
        frame_table(ROWS, "shop")
    with pytest.raises(ConfigError, match="name='a/b'"):
        frame_table(pl.DataFrame(ROWS), "a/b")
    with pytest.raises(ConfigError, match=r"a Series is no DataFrame: call its to_frame\(\)"):
        frame_table(import_module("pandas").Series([1]), "shop")


def test_a_column_that_cannot_be_kept_is_named() -> None:
    pandas = import_module("pandas")
    with pytest.raises(DataError, match=r"column 'user' of the frame cannot be read .*astype\(str\)"):
        frame_table(pandas.DataFrame({"item": [1, 2], "user": [1, "b"]}), "shop")
    with pytest.raises(DataError, match="two columns called 'user': rename one"):
        frame_table(pandas.DataFrame([[1, 2, 3]], columns=["user", "user", "item"]), "shop")


def test_a_home_that_cannot_be_written_to_is_said(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path_factory.mktemp("home") / "file"
    home.write_text("no folder")
    monkeypatch.setenv("RECRAY_HOME", str(home))
    with pytest.raises(DataError, match=r"shop cannot be kept in .*frames \(Not a directory\).*RECRAY_HOME"):
        frame_table(pl.DataFrame(ROWS), "shop", user="visitor")
