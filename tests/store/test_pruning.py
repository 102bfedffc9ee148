"""Versions go that nobody needs; what is named, tried, rolled back to or worked with stays."""

import json
from pathlib import Path

import pytest

from recray.cli import main
from recray.config import ConfigError
from recray.store import Bundle, Store
from recray.store.experiments import Arm, Experiment
from recray.store.journal import Started, now
from recray.store.pruning import prune, unneeded
from recray.store.shared import FOLDER


def publish(store: Store, name: str, needs: Bundle | None = None, content: bytes = b"") -> Bundle:
    def write(folder: Path) -> None:
        (folder / "weights").write_bytes(content or name.encode())

    requires = {"retriever": needs.reference} if needs else None
    return store.publish(name, write, model="m", config={}, requires=requires)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    return Store()


def numbers(store: Store, name: str) -> list[int]:
    return [one.version for one in store.versions(name)]


def test_what_is_needed_stays(store: Store) -> None:
    towers = [publish(store, "towers") for _ in range(8)]
    rankers = [
        publish(store, "ranker", towers[1]),
        publish(store, "ranker", towers[2]),
        publish(store, "ranker"),
    ]
    store.promote("towers", 4)
    store.promote("towers", 5)
    store.promote("towers", 6, "candidate")
    arm = Arm(name="shadow", reference=towers[6].reference, share=1.0)
    started = Started(experiment=Experiment(name="s", kind="shadow", arms=(arm,), salt="x"), at=now())
    store.change("towers", lambda entries: [started])
    # 2 works with the ranker's first, 4 and 5 are production, now and before; 6 candidate, 7 tried, 8 newest.
    store.promote("ranker", 1)
    store.promote("ranker", 3)
    assert [one.version for one in unneeded(store, "towers", 1)] == [1, 3]
    assert [one.version for one in unneeded(store, "ranker", 1)] == [2]
    assert [one.version for one in prune(store, "towers", 1)] == [1, 3]
    assert numbers(store, "towers") == [2, 4, 5, 6, 7, 8]
    assert store.rollback("towers") == 4
    store.resolve(rankers[0].manifest.requires["retriever"]).verify()
    assert publish(store, "towers").manifest.version == 9
    assert not list((store.root / "towers" / "versions").glob(".gone*"))
    with pytest.raises(ConfigError, match="keep is at least 1"):
        unneeded(store, "towers", 0)


def test_files_that_nobody_holds_go_with_it(store: Store) -> None:
    for content in (b"a" * 9000, b"b" * 9000, b"b" * 9000):
        publish(store, "towers", content=content)
    assert len(list((store.root / FOLDER).iterdir())) == 2
    prune(store, "towers", 1)
    assert len(list((store.root / FOLDER).iterdir())) == 1
    store.open("towers", "latest").verify()


def test_the_command_lists_first(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        publish(store, "towers")
    assert main(["prune", "towers", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert numbers(store, "towers") == [1, 2, 3, 4, 5]
    assert main(["prune", "towers", "--keep", "2", "--yes"]) == 0
    assert numbers(store, "towers") == [4, 5]
