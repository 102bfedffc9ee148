"""Bundles to a Hub and back, through huggingface_hub itself and a small server in this process."""

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recray.bundles.weights import load_arrays
from recray.mapped import write_pages
from recray.store import Bundle, Store, StoreError
from recray.store.hub import pull_bundle, push_bundle
from recray.store.manifest import MANIFEST_FILE
from tests.store.hub_server import HubServer, hub_server

pytest.importorskip("huggingface_hub")
REPO = "somebody/tiny"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield server


@pytest.fixture
def here(tmp_path: Path) -> Store:
    return Store(tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path) -> Store:
    return Store(tmp_path / "there")


def publish(store: Store, value: float = 1.0, name: str = "tiny", requires: Bundle | None = None) -> Bundle:
    def write(folder: Path) -> None:
        write_pages(folder / "model.safetensors", {"weight": np.full((64, 8), value, np.float32)})
        (folder / "encoder").mkdir()
        (folder / "encoder" / "words.json").write_text(json.dumps(["a", "b"]))

    needed = {"retriever": requires.reference} if requires else {}
    return store.publish(
        name, write, model="two_tower", config={"dim": 8}, metrics={"m": 0.5}, requires=needed
    )


def test_a_bundle_comes_back_as_it_was(hub: HubServer, here: Store, there: Store) -> None:
    publish(here)
    pushed = publish(here, 2.0)
    assert push_bundle(pushed, REPO).startswith(f"{hub.url}/{REPO}/commit/")
    assert set(hub.repositories[REPO][-1]) == {MANIFEST_FILE, "model.safetensors", "encoder/words.json"}
    pulled = pull_bundle(REPO, there)
    assert pulled.manifest == pushed.manifest
    pulled.verify()
    assert there.open("tiny", 2).reference == pushed.reference
    assert (load_arrays(pulled.path("model.safetensors"))["weight"] == 2.0).all()
    assert sorted(p.name for p in pulled.folder.iterdir()) == ["encoder", MANIFEST_FILE, "model.safetensors"]


def test_the_head_is_the_newest_and_older_ones_stay_in_reach(
    hub: HubServer, here: Store, there: Store
) -> None:
    urls = [push_bundle(publish(here, value), REPO) for value in (1.0, 2.0)]
    assert pull_bundle(REPO, there).manifest.version == 2
    assert pull_bundle(REPO, there, revision=urls[0].rsplit("/", 1)[1]).manifest.version == 1
    assert [m.version for m in there.versions("tiny")] == [1, 2]


def test_pulling_what_is_here_already_changes_nothing(hub: HubServer, here: Store) -> None:
    pushed = publish(here)
    push_bundle(pushed, REPO)
    assert pull_bundle(REPO, here) == pushed


def test_another_bundle_under_the_same_number_is_not_replaced(
    hub: HubServer, here: Store, there: Store
) -> None:
    push_bundle(publish(here), REPO)
    own = publish(there, 9.0)
    with pytest.raises(
        StoreError, match="tiny version 1 .* is asked for, but the store holds tiny version 1"
    ):
        pull_bundle(REPO, there)
    assert there.open("tiny", 1).reference == own.reference


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("model.safetensors", b"broken", "model.safetensors is not the file that was published"),
        (MANIFEST_FILE, b"{}", "not a readable bundle manifest"),
        ("model.safetensors", None, "holds no whole bundle"),
        (MANIFEST_FILE, None, "holds no whole bundle"),
    ],
)
def test_a_damaged_repository_is_refused(
    hub: HubServer, here: Store, there: Store, file: str, content: bytes | None, problem: str
) -> None:
    push_bundle(publish(here), REPO)
    head = hub.repositories[REPO][-1]
    if content is None:
        del head[file]
    else:
        head[file] = content
    with pytest.raises(StoreError, match=problem):
        pull_bundle(REPO, there)
    assert there.applications() == []


@pytest.mark.parametrize("name", ["../outside.json", "/etc/outside.json", "weights.pkl", ".cache/x.json"])
def test_a_manifest_cannot_name_files_that_no_bundle_holds(
    hub: HubServer, here: Store, there: Store, name: str
) -> None:
    from dataclasses import replace

    pushed = publish(here)
    push_bundle(pushed, REPO)
    files = {**pushed.manifest.files, name: next(iter(pushed.manifest.files.values()))}
    forged = replace(pushed.manifest, files=files, digest="").sealed()
    hub.repositories[REPO][-1][MANIFEST_FILE] = json.dumps(forged.to_json()).encode()
    with pytest.raises(StoreError, match="which no bundle may hold"):
        pull_bundle(REPO, there)


def test_what_a_bundle_needs_is_named(
    hub: HubServer, here: Store, there: Store, caplog: pytest.LogCaptureFixture
) -> None:
    retriever = publish(here, name="retriever")
    push_bundle(publish(here, requires=retriever), REPO)
    with caplog.at_level(logging.WARNING):
        pull_bundle(REPO, there)
    assert f"needs {retriever.reference} as its retriever: pull that too" in caplog.text


def test_missing_repositories_revisions_and_rights_are_told_apart(
    hub: HubServer, here: Store, there: Store
) -> None:
    bundle = publish(here)
    with pytest.raises(StoreError, match="no repository somebody/tiny at http://127.*set HF_TOKEN"):
        pull_bundle(REPO, there)
    with pytest.raises(StoreError, match="names no repository: write owner/name"):
        pull_bundle("a/b/c", there)
    push_bundle(bundle, REPO)
    with pytest.raises(StoreError, match="has no such revision"):
        pull_bundle(REPO, there, revision="v9")
    hub.refuses = True
    with pytest.raises(StoreError, match=r"refuses somebody/tiny: .*403"):
        push_bundle(bundle, REPO)


def test_without_a_network_the_error_says_so(
    here: Store, there: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = publish(here)
    with hub_server() as gone:
        monkeypatch.setenv("HF_ENDPOINT", gone.url)
    problem = "cannot be reached .*: the Hub needs a network; HF_ENDPOINT names another server"
    with pytest.raises(StoreError, match=problem):
        push_bundle(bundle, REPO)
    with pytest.raises(StoreError, match=problem):
        pull_bundle(REPO, there)


def test_without_the_package_the_error_says_what_to_install(
    here: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(StoreError, match=r"needs huggingface_hub: pip install 'recray\[hub\]'"):
        push_bundle(publish(here), REPO)
