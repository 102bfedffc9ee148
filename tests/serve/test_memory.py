"""Whether a version fits beside what serves, and what becomes of one that answers nothing."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from recray.config import ConfigError
from recray.schema import DataError
from recray.serve import memory
from recray.serve.follower import Follower
from recray.serve.memory import available_bytes, memory_for
from recray.serve.place.pipeline import Pipeline
from recray.serve.versions import OpenedVersion, open_served
from recray.store import Store
from tests.serve.world import APPLICATION


def test_what_is_left_is_that_of_the_machine_or_of_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert available_bytes() is None
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  2048 kB\n")
    assert available_bytes() == 2048 * 1024
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 50000\n")
    assert available_bytes() == 150_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes() == 2048 * 1024


def test_a_version_without_room_leaves_the_old_one_serving(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(own_store, APPLICATION, Pipeline)
    own_store.promote(APPLICATION, 2)
    monkeypatch.setattr(memory, "available_bytes", lambda: 1_000)
    follower.poll()
    assert follower.current.reference.version == 1
    assert "MiB beside what serves, and 0 MiB are left" in (follower.problem or "")
    monkeypatch.undo()
    with memory_for(open_served(own_store, APPLICATION, 2)):
        pass


def test_versions_that_load_side_by_side_do_not_count_on_the_same_memory(
    own_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process as in others: who holds a claim is told by the kernel."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    first, second = (open_served(own_store, APPLICATION, version) for version in (1, 2))
    size = sum(file.size_bytes for b in second.by_role.values() for file in b.manifest.files.values())
    monkeypatch.setattr(memory, "available_bytes", lambda: 4 * size)  # for one of them, three times its files
    with memory_for(first):
        says = r"are left, of which versions that are loading take \d"
        with pytest.raises(ConfigError, match=says), memory_for(second):
            raise AssertionError("there is no room")
        with memory_for(second, must_fit=False):  # the first version of a process, whatever there is
            pass
    with memory_for(second):
        (folder,) = tmp_path.glob("recray-loads-*")
        assert len(list(folder.iterdir())) == 2  # its claim, and the lock
    (folder / f"{10 * size}-of-the-dead").touch()
    with memory_for(second):
        pass
    assert [file.name for file in folder.iterdir()] == ["lock"]


def test_a_disk_that_takes_no_claim_keeps_nobody_from_loading(
    own_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with memory_for(open_served(own_store, APPLICATION, 1)):
        pass


def test_what_served_before_comes_back_without_being_loaded(own_store: Store) -> None:
    loads = []

    def load(bundles: object) -> object:
        loads.append(bundles)
        return object()

    follower = Follower(own_store, APPLICATION, load)
    first = follower.current
    own_store.promote(APPLICATION, 2)
    follower.poll()
    own_store.rollback(APPLICATION)
    follower.poll()
    assert follower.current is first
    assert len(loads) == 2


def test_a_version_whose_scores_are_no_numbers_is_refused(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_numbers(*asked: np.ndarray) -> np.ndarray:
        return np.full(len(asked[-1]), np.nan, np.float32)

    bundles = open_served(own_store, APPLICATION, 2)
    monkeypatch.setattr(type(OpenedVersion(bundles).ranker), "score", not_numbers)
    with pytest.raises(DataError, match="scores that are no numbers: it is damaged"):
        Pipeline(bundles)
