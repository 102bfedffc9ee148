"""The small application of ``world.py``, published once per session."""

import shutil
from pathlib import Path

import pytest

from recray.store import Store
from tests.serve.world import APPLICATION, RETRIEVER, World, make_world, publish_ranker, publish_retriever


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory, world: World) -> Store:
    """A store whose production is the first of two versions; tests that move names copy it."""
    store = Store(tmp_path_factory.mktemp("store"))
    for seed in (0, 1):
        publish_ranker(store, world, publish_retriever(store, world, seed), seed)
    store.promote(APPLICATION, 1)
    store.promote(RETRIEVER, 1)
    return store


@pytest.fixture
def own_store(published: Store, tmp_path: Path) -> Store:
    """A copy of ``published`` that a test may change."""
    shutil.copytree(published.root, tmp_path / "own")
    return Store(tmp_path / "own")
