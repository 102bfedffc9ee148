"""Files of equal content are kept once, and one that was damaged does not spread."""

import os
from pathlib import Path

import pytest

from recray.store import Bundle, Store
from recray.store.manifest import StoreError
from recray.store.shared import FOLDER, LEAST_BYTES

EVENTS = b"e" * (2 * LEAST_BYTES)


def publish(store: Store, name: str = "shop-ranker", **files: bytes) -> Bundle:
    def write(folder: Path) -> None:
        for file, content in files.items():
            (folder / file).write_bytes(content)

    return store.publish(name, write, model="m", config={})


def test_equal_files_of_several_versions_are_one_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    bundles = [
        publish(store, name, events=EVENTS, weights=bytes([n])) for n, name in enumerate(("a", "a", "b"))
    ]
    assert len({bundle.path("events").stat().st_ino for bundle in bundles}) == 1
    assert len({bundle.path("weights").stat().st_ino for bundle in bundles}) == 3  # too small to share
    assert [path.stat().st_nlink for path in (tmp_path / FOLDER).iterdir()] == [4]
    assert store.applications() == ["a", "b"]
    for bundle in bundles:
        bundle.verify()
        assert not os.access(bundle.path("events"), os.W_OK) or os.geteuid() == 0


def test_a_damaged_file_does_not_spread(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = publish(store, events=EVENTS)
    path = first.path("events")
    path.chmod(0o644)
    path.write_bytes(EVENTS[:-1] + b"x")
    second = publish(store, events=EVENTS)
    second.verify()
    publish(store, events=EVENTS).verify()
    with pytest.raises(StoreError, match="is damaged"):
        first.verify()


def test_without_hard_links_each_version_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    store = Store(tmp_path)
    bundles = [publish(store, events=EVENTS) for _ in range(2)]
    assert len({bundle.path("events").stat().st_ino for bundle in bundles}) == 2
    for bundle in bundles:
        bundle.verify()
