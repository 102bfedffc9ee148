"""A replica follows the store: it swaps whole versions, and keeps the old one where the new is broken."""

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from recray.serve import follower as follower_module
from recray.serve.follower import Follower
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.serve.place.pipeline import Pipeline
from recray.store import Store, StoreError
from tests.serve.world import APPLICATION, NOW, RETRIEVER, World, publish_ranker, publish_retriever


@pytest.fixture
def follower(own_store: Store) -> Follower[Pipeline]:
    """Polled by the test itself."""
    return Follower(own_store, APPLICATION, Pipeline)


@pytest.fixture
def service(own_store: Store) -> Iterator[FusedService]:
    config = ServiceConfig(application=APPLICATION, store=str(own_store.root), poll_s=0.05)
    service = FusedService(config)
    yield service
    service.stop()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "did not happen within 20 s"
        time.sleep(0.02)


def damage(store: Store, version: int, file: str) -> None:
    path = store.open(APPLICATION, version).path(file)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(bytes(content))


def test_a_promotion_swaps_ranker_and_retriever_together(
    own_store: Store, follower: Follower[Pipeline]
) -> None:
    before = follower.current
    own_store.promote(APPLICATION, 2)
    follower.poll()
    versions = follower.current.bundles.versions()
    assert [versions[role]["version"] for role in ("ranker", "retriever")] == [2, 2]
    assert before.reference.version == 1, "requests that hold the old version keep all of it"
    own_store.rollback(APPLICATION)
    follower.poll()
    assert follower.current.reference == before.reference


def test_a_broken_version_leaves_the_old_one_serving(
    own_store: Store, follower: Follower[Pipeline], caplog: pytest.LogCaptureFixture
) -> None:
    own_store.promote(APPLICATION, 2)
    damage(own_store, 2, "ranker.ubj")
    follower.poll()
    follower.poll()
    assert follower.current.reference.version == 1
    assert follower.problem is not None
    assert "version 2 does not load" in follower.problem
    assert "ranker.ubj differs" in follower.problem
    complaints = [r for r in caplog.records if r.levelname == "ERROR"]
    assert len(complaints) == 1, "said once, not at every poll"
    own_store.rollback(APPLICATION)
    follower.poll()
    assert follower.problem is None


def test_a_broken_version_is_tried_again_later(
    own_store: Store, follower: Follower[Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    own_store.promote(APPLICATION, 2)
    retriever = own_store.open(RETRIEVER, 2).folder
    hidden = retriever.rename(retriever.parent.parent / "late")
    follower.poll()
    assert follower.problem is not None
    hidden.rename(retriever)
    follower.poll()
    assert follower.current.reference.version == 1, "not before its time"
    monkeypatch.setattr(follower_module, "RETRY_S", 0.0)
    follower.poll()
    assert follower.current.reference.version == 2
    assert follower.problem is None


def test_a_version_of_another_make_leaves_the_old_one_serving(
    own_store: Store, world: World, follower: Follower[Pipeline]
) -> None:
    nameless = dataclasses.replace(world, users=world.users.rename({"raw_id": "id"}))
    retriever = publish_retriever(own_store, nameless, name="nameless")
    publish_ranker(own_store, world, retriever)
    own_store.promote(APPLICATION, 3)
    follower.poll()
    assert follower.current.reference.version == 1
    assert "raw_id" in (follower.problem or "")


def test_an_unreachable_store_leaves_the_version_serving(
    own_store: Store, follower: Follower[Pipeline]
) -> None:
    away = own_store.root.rename(own_store.root.with_name("away"))
    follower.poll()
    assert "cannot be read" in (follower.problem or "")
    assert follower.current.content.recommend(RecommendRequest(user_id=101))["items"]
    away.rename(own_store.root)
    follower.poll()
    assert follower.problem is None


def test_a_service_does_not_start_on_nothing(own_store: Store) -> None:
    with pytest.raises(StoreError, match="has no shadow version yet"):
        FusedService(ServiceConfig(application=APPLICATION, store=str(own_store.root), name="shadow"))


def test_health_tells_of_a_broken_version(own_store: Store, service: FusedService) -> None:
    healthy = service.health()
    assert healthy["status"] == "ok"
    newest = datetime.fromisoformat(healthy["known_until"] or "")
    assert newest.timestamp() + 1 == service.known_until()
    assert (healthy["age_s"] or 0) > 86_400  # NOW of the tests is long ago
    own_store.promote(APPLICATION, 2)
    damage(own_store, 2, "events.parquet")
    eventually(lambda: service.health()["status"] == "degraded")
    health = service.health()
    assert "does not load" in (health["problem"] or "")
    assert health["serving"]["ranker"]["version"] == 1


def test_answers_are_never_mixed_while_versions_move(own_store: Store, service: FusedService) -> None:
    """Every answer carries a pair (ranker, retriever) of one version, and that version's own items."""
    request = RecommendRequest(user_id=102, request_time=NOW, k=20)
    expected: dict[int, list[str]] = {}
    for version in (1, 2):
        own_store.promote(APPLICATION, version)
        eventually(lambda v=version: service.pinned().reference.version == v)
        expected[version] = items(service.pinned().content.recommend(request))
    assert expected[1] != expected[2]
    faults: list[Any] = []
    seen: set[int] = set()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answer = asyncio.run(service.recommend(request))
            pair = {served["version"] for served in answer["version"].values()}
            if len(pair) != 1 or items(answer) != expected[min(pair)]:
                faults.append(answer["version"])
            seen.update(pair)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    for version in (1, 2, 1, 2):
        own_store.promote(APPLICATION, version)
        eventually(lambda v=version: service.pinned().reference.version == v)
    stop.set()
    for asker in askers:
        asker.join()
    assert faults == []
    assert seen == {1, 2}


def items(answer: Any) -> list[str]:
    return [item["item_id"] for item in answer["items"]]
