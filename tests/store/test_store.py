"""Versions, names, digests and errors of the store, in one process."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from recray.config import ConfigError
from recray.schema import Feature, FeatureSchema, ProtocolCard
from recray.store import Bundle, Store, StoreError

SCHEMA = FeatureSchema(num_users=3, num_items=5, item=(Feature(name="genres", kind="ids", size=4, width=2),))
CARD = ProtocolCard(
    dataset="synthetic",
    dataset_hash="ab12",
    split="leave-one-out",
    target="test",
    relevance="all",
    k_core=0,
)


def writes(**files: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for name, text in files.items():
            path = folder / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    return write


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def publish(store: Store, name: str = "beauty-two_tower", **files: str) -> Bundle:
    return store.publish(name, writes(**files or {"weights": "w"}), model="two_tower", config={"dim": 8})


def damage(bundle: Bundle, file: str, content: str) -> None:
    path = bundle.folder / file
    path.chmod(0o644)
    path.write_text(content)


def test_what_was_published_is_what_is_opened(store: Store) -> None:
    retriever = publish(store)
    published = store.publish(
        "beauty-ranker",
        writes(a="1", sub__b="22"),
        model="gbdt",
        config={"depth": 3, "rates": [0.1]},
        schema=SCHEMA,
        card=CARD,
        metrics={"ndcg@10": {"mean": 0.5, "low": 0.4, "high": 0.6}},
        requires={"retriever": retriever.reference},
        parent=None,
    )
    opened = store.open("beauty-ranker", 1)
    assert opened == published
    assert opened.manifest.schema == SCHEMA
    assert opened.manifest.card == CARD
    assert opened.manifest.requires["retriever"] == retriever.reference
    assert opened.path("sub/b").read_text() == "22"
    assert [entry.size_bytes for entry in opened.manifest.files.values()] == [1, 2]
    opened.verify()


def test_versions_count_up_and_the_parent_is_kept(store: Store) -> None:
    first = publish(store)
    second = store.publish("beauty-two_tower", writes(w="2"), model="two_tower", config={}, parent=1)
    assert [m.version for m in store.versions("beauty-two_tower")] == [1, 2]
    assert store.open("beauty-two_tower", "latest") == second
    assert store.open("beauty-two_tower", "1") == first
    assert second.manifest.parent == 1
    assert store.applications() == ["beauty-two_tower"]


def test_the_digest_covers_files_config_and_requirements(store: Store) -> None:
    base = publish(store, weights="w")
    digests = {base.manifest.digest}
    digests.add(publish(store, weights="v").manifest.digest)
    digests.add(publish(store, other="w").manifest.digest)
    assert len(digests) == 3
    changed = json.loads((base.folder / "manifest.json").read_text())
    changed["config"]["dim"] = 9
    damage(base, "manifest.json", json.dumps(changed))
    with pytest.raises(StoreError, match="changed after it was published"):
        store.open("beauty-two_tower", 1)


def test_verify_finds_one_changed_byte_and_a_missing_file(store: Store) -> None:
    bundle = publish(store, weights="abc", other="x")
    damage(bundle, "weights", "abd")
    assert bundle.path("weights").read_text() == "abd", "same size: only verify() reads the content"
    with pytest.raises(StoreError, match=r"content of weights differs.*roll back"):
        bundle.verify()
    (bundle.folder / "weights").unlink()
    with pytest.raises(StoreError, match="weights is missing"):
        bundle.path("weights")
    with pytest.raises(StoreError, match="did you mean 'other'"):
        bundle.path("othr")


def test_published_files_are_write_protected(store: Store) -> None:
    bundle = publish(store)
    assert [oct(p.stat().st_mode & 0o777) for p in bundle.folder.iterdir()] == ["0o444", "0o444"]


def test_promote_and_rollback_walk_the_history(store: Store) -> None:
    name = publish(store).reference.name
    for text in "bcd":
        publish(store, weights=text)
    for version in (1, 2, 3):
        store.promote(name, version)
    store.promote(name, 3)  # again: no second entry to roll back through
    store.promote(name, 4, to="candidate")
    assert store.names(name) == {"production": 3, "candidate": 4}
    assert store.open(name).manifest.version == 3
    assert store.rollback(name) == 2
    store.promote(name, 4)
    assert [store.rollback(name), store.rollback(name)] == [2, 1]
    with pytest.raises(StoreError, match="no earlier version to roll back to; it stands on version 1"):
        store.rollback(name)
    assert [(m.name, m.version, m.action) for m in store.history(name)][-3:] == [
        ("production", 4, "promote"),
        ("production", 2, "rollback"),
        ("production", 1, "rollback"),
    ]


def test_a_damaged_version_cannot_be_promoted(store: Store) -> None:
    bundle = publish(store)
    store.promote("beauty-two_tower", 1)
    damage(publish(store, weights="abc"), "weights", "abd")
    with pytest.raises(StoreError, match="damaged"):
        store.promote("beauty-two_tower", 2)
    assert store.open("beauty-two_tower") == bundle


def test_a_requirement_is_found_by_digest_or_refused(store: Store) -> None:
    retriever = publish(store)
    ranker = store.publish(
        "beauty-ranker", writes(r="r"), model="gbdt", config={}, requires={"retriever": retriever.reference}
    )
    assert store.resolve(ranker.manifest.requires["retriever"]) == retriever
    shutil.rmtree(retriever.folder)
    publish(store, weights="another one")
    assert store.versions("beauty-two_tower")[0].version == 1
    with pytest.raises(StoreError, match=r"is asked for, but the store holds"):
        store.resolve(ranker.manifest.requires["retriever"])
    with pytest.raises(StoreError):
        store.promote("beauty-ranker", 1)


def test_nothing_stays_behind_when_writing_fails(store: Store) -> None:
    def fails(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        store.publish("beauty-two_tower", fails, model="m", config={})
    assert store.applications() == []
    assert list((store.root / "beauty-two_tower").glob(".staging-*")) == []
    assert publish(store).manifest.version == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.open("beauty-two_towr"), "did you mean 'beauty-two_tower'"),
        (lambda s: s.open("beauty-two_tower", 7), "has no version 7; versions: 1, 2, candidate is 2"),
        (lambda s: s.open("beauty-two_tower"), "has no production version yet; versions: 1, 2"),
        (lambda s: s.open("beauty-two_tower", "prodution"), "did you mean 'production'"),
        (lambda s: s.promote("beauty-two_tower", 1, to="candidat"), "did you mean 'candidate'"),
        (lambda s: s.promote("beauty-two_tower", 1, to="latest"), "no version name 'latest'"),
        (lambda s: s.rollback("beauty-two_tower"), "it was never promoted"),
        (lambda s: s.rollback("nothing"), "no bundle 'nothing'"),
        (lambda s: s.versions("../etc"), "cannot name a bundle"),
        (lambda s: publish(s, **{"model.pkl": "x"}), "pickled formats are refused"),
        (lambda s: publish(s, **{"manifest.json": "x"}), "written by the store"),
        (lambda s: s.publish("a", lambda f: None, model="m", config={}), "put no file"),
        (lambda s: s.publish("a", writes(w="w"), model="m", config={"x": float("nan")}), "without NaN"),
        (
            lambda s: s.publish("a", lambda f: (f / "w").symlink_to("/etc/hostname"), model="m", config={}),
            "plain files only",
        ),
    ],
)
def test_errors_say_what_is_there(store: Store, call: Callable[[Store], object], message: str) -> None:
    publish(store)
    publish(store)
    store.promote("beauty-two_tower", 2, to="candidate")
    with pytest.raises(ConfigError, match=re.escape(message)):
        call(store)


def test_an_empty_store_says_so(store: Store) -> None:
    assert store.applications() == []
    with pytest.raises(StoreError, match="publish a bundle first"):
        store.open("anything")


@pytest.mark.parametrize("number", [1, 99])
def test_another_format_is_refused_in_one_sentence(store: Store, number: int) -> None:
    bundle = publish(store)
    values = json.loads((bundle.folder / "manifest.json").read_text())
    damage(bundle, "manifest.json", json.dumps({**values, "format": number}))
    with pytest.raises(StoreError, match=f"has format {number}, this version of recray reads 2: publish it"):
        store.open("beauty-two_tower", 1)
