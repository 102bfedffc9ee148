"""A replica follows the store: it swaps whole versions, and keeps the old one where the new is broken."""

import asyncio
import dataclasses
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from recray.serve import follower as follower_module
from recray.serve.follower import Follower
from recray.serve.http.gateway import create_app
from recray.serve.http.requests import RecommendRequest, RequestError
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.serve.place.pipeline import Pipeline
from recray.store import Store, StoreError
from tests.serve.asgi import Client
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


NO_MANIFESTS = [
    b"",
    b"null",
    b"[" * 100_000,
    b'{"format": 2, "config": ' + b'{"a":' * 50_000,
    b'{"format": []}',
]


@pytest.mark.parametrize("content", [*NO_MANIFESTS, b"NaN"], ids=lambda content: content[:12].decode())
def test_whatever_a_manifest_holds_is_a_problem(
    own_store: Store, service: FusedService, content: bytes
) -> None:
    own_store.promote(APPLICATION, 2)
    path = own_store.open(APPLICATION, 2).folder / "manifest.json"
    eventually(lambda: service.pinned().reference.version == 2)
    whole = path.read_bytes()
    if content == b"NaN":
        content = whole.replace(b'"metrics": {', b'"metrics": {"hit": NaN')
    replace(path, content)
    eventually(lambda: service.health()["status"] == "degraded")
    assert service.not_ready() is None, "it still answers, and still looks"
    replace(path, whole)
    eventually(lambda: service.health()["status"] == "ok")


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b'{"moves": [{"name": "production", "version": 1, "action": "rollback", "at": ""}]}',
        b'{"moves": [{"name": "production", "version": [], "action": "promote", "at": ""}]}',
        b'{"moves": ' + b"[" * 100_000,
    ],
    ids=["cut", "no object", "nothing to roll back to", "no number", "deep"],
)
def test_whatever_the_names_hold_is_a_problem(
    own_store: Store, service: FusedService, content: bytes
) -> None:
    path = own_store.root / APPLICATION / "names.json"
    whole = path.read_bytes()
    replace(path, content)
    eventually(lambda: "names.json: damaged" in (service.health()["problem"] or ""))
    replace(path, whole)
    eventually(lambda: service.health()["status"] == "ok")


def replace(path: Path, content: bytes) -> None:
    beside = path.with_name("beside")
    beside.write_bytes(content)
    beside.replace(path)


def test_a_store_that_is_built_again_is_told_by_its_digest(
    own_store: Store, world: World, follower: Follower[Pipeline], tmp_path: Path
) -> None:
    before = follower.current.reference
    again = Store(tmp_path / "again")
    publish_ranker(again, world, publish_retriever(again, world, seed=5), seed=5)
    again.promote(APPLICATION, 1)
    shutil.rmtree(own_store.root)
    again.root.rename(own_store.root)
    follower.poll()
    now = follower.current.reference
    assert now.version == before.version
    assert now.digest == own_store.open(APPLICATION, 1).manifest.digest != before.digest


def test_a_damaged_version_at_the_start_gives_way_to_the_one_before(own_store: Store) -> None:
    own_store.promote(APPLICATION, 2)
    damage(own_store, 2, "ranker.ubj")
    follower = Follower(own_store, APPLICATION, Pipeline)
    assert follower.current.reference.version == 1
    assert "production version does not load" in (follower.problem or "")
    assert "ranker.ubj differs" in (follower.problem or "")
    follower.poll()
    assert follower.problem is not None, "it is said for as long as it holds"


def test_where_nothing_is_whole_nothing_serves_and_the_reason_is_told(own_store: Store) -> None:
    damage(own_store, 1, "ranker.ubj")
    service = FusedService(ServiceConfig(application=APPLICATION, store=str(own_store.root), poll_s=0.05))
    client = Client(create_app(service))
    answer = client.post({"user_id": 101})
    assert [answer.status, answer.json["error"], answer.headers["retry-after"]] == [503, "not_ready", "5"]
    assert "ranker.ubj differs" in answer.json["message"]
    assert client.get("/ready").status == 503
    assert client.get("/live").status == 200
    assert client.get("/health").json["status"] == "unavailable"
    assert client.get("/versions").status == client.get("/metrics").status == 200
    own_store.promote(APPLICATION, 2)
    eventually(lambda: client.get("/ready").status == 200)
    assert client.post({"user_id": 101}).status == 200
    service.stop()


def test_a_follower_that_stopped_is_not_ready(service: FusedService) -> None:
    service.stop()
    eventually(lambda: service.not_ready() is not None)
    assert "not followed" in (service.not_ready() or "")
    assert service.health()["status"] == "unavailable"


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


def test_one_explanation_at_a_time_and_others_are_answered_meanwhile(
    service: FusedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = threading.Event(), threading.Event()
    pipeline = service.pinned().content
    explain = pipeline.with_reasons

    def slow(state: Any) -> Any:
        reached.set()
        go_on.wait(20)
        return explain(state)

    monkeypatch.setattr(pipeline, "with_reasons", slow)
    reasons = RecommendRequest(user_id=102, explain=True)

    async def ask() -> None:
        first = asyncio.create_task(service.recommend(reasons))
        await asyncio.to_thread(reached.wait, 20)
        with pytest.raises(RequestError, match="429 busy: explanations are made one at a time") as caught:
            await service.recommend(reasons)
        assert caught.value.headers == {"retry-after": "1"}
        monkeypatch.setattr(pipeline, "with_reasons", explain)
        assert (await service.recommend(RecommendRequest(user_id=102)))["items"]
        go_on.set()
        assert all("why" in item for item in (await first)["items"])
        assert (await service.recommend(reasons))["items"]

    asyncio.run(ask())
