"""Arrays that a machine makes once."""

from pathlib import Path

import numpy as np
import pytest

from recray import paths
from recray.data.events import dataset as datasets
from recray.data.events.dataset import load_dataset
from recray.data.events.split_data import DataConfig, open_split
from recray.mapped import Arrays, mapped

MADE: Arrays = {"a": np.arange(5), "b": np.ones((2, 3), np.float32)}


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))


def equal(found: Arrays, wanted: Arrays) -> bool:
    return found.keys() == wanted.keys() and all(
        found[name].dtype == wanted[name].dtype and np.array_equal(found[name], wanted[name])
        for name in wanted
    )


def test_they_are_made_once_and_nobody_s_change_is_another_s() -> None:
    times = 0

    def make() -> Arrays:
        nonlocal times
        times += 1
        return MADE

    first = mapped("some", make)
    first["a"][0] = 99  # of this process alone
    assert equal(mapped("some", make), MADE)
    assert times == 1


def test_a_file_that_was_cut_off_is_no_reason_to_fail(caplog: pytest.LogCaptureFixture) -> None:
    mapped("some", lambda: MADE)
    file = paths.mapped_dir() / "some.safetensors"
    file.write_bytes(file.read_bytes()[:20])
    assert equal(mapped("some", lambda: MADE), MADE)
    assert "made in memory" in caplog.text


def test_large_data_is_pages_of_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    lines = [f"u{n % 7},i{n % 11},{n % 5},{10**9 + n}" for n in range(200)]
    file.write_text("\n".join(["user,item,rating,timestamp", *lines]))
    plain = open_split(DataConfig(dataset=str(file))).dataset
    assert not paths.mapped_dir().exists()
    monkeypatch.setattr(datasets, "LARGE_BYTES", 0)
    large = load_dataset(plain.folder)
    (pages,) = paths.mapped_dir().glob("*.safetensors")
    assert str(pages) in Path("/proc/self/maps").read_text()
    names = ("user_ids_N", "item_ids_N", "ratings_N", "timestamps_N")
    assert equal(*({name: getattr(one, name) for name in names} for one in (large, plain)))
