"""The ingress of the spread placement when one of the other deployments is gone, mute or slow; the
deployments themselves are called in this process. ``test_deployments`` kills real ones."""

import asyncio
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ray.exceptions import RayTaskError

from recray.serve.events.told import Content
from recray.serve.http.gateway import create_app
from recray.serve.place.config import ServiceConfig
from recray.serve.place.hub_actor import REDIS_URL
from recray.serve.place.spread import SpreadService
from recray.serve.place.stage_deployments import RankingDeployment, RetrievalDeployment, StageVersions
from recray.serve.traffic.operations import Operations
from recray.serve.versions import ServedBundles
from recray.store import Store
from tests.serve.asgi import JSON_TYPE, LoopClient
from tests.serve.here import Here
from tests.serve.test_events import eventually, put, tell
from tests.serve.test_redis_hub import Server
from tests.serve.world import APPLICATION, NOW, World

WITHIN_S = 0.5


class Spread(NamedTuple):
    client: LoopClient
    retrieval: Here
    ranking: Here
    service: SpreadService

    def ask(self, **fields: Any) -> Any:
        answer = self.client.post({"user_id": 103, "request_time": NOW, **fields})
        assert answer.status == 200, answer.body
        return answer.json


@pytest.fixture
def spread(own_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spread]:
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server: install the Debian package of that name")
    (tmp_path / "redis").mkdir()
    redis = Server(tmp_path / "redis")
    monkeypatch.setenv(REDIS_URL, redis.url)
    config = ServiceConfig(application=APPLICATION, store=str(own_store.root), stage_within_s=WITHIN_S)
    retrieval, ranking = Here(RetrievalDeployment(config)), Here(RankingDeployment(config))
    service = SpreadService(replace(config, poll_s=0.05), retrieval, ranking)  # type: ignore[arg-type]
    client = LoopClient(create_app(service))
    yield Spread(client, retrieval, ranking, service)
    service.stop()
    client.close()
    redis.kill()


def ids(answer: Any) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


@pytest.mark.parametrize(("state", "reason"), [("dead", "failed"), ("stopped", "late")])
def test_without_retrieval_a_known_user_gets_what_was_found_before(
    spread: Spread, state: str, reason: str
) -> None:
    before = spread.ask(k=20)
    assert before["skipped"] == []
    spread.retrieval.state = state
    answer = spread.ask(k=20)
    assert answer["skipped"] == [{"stage": "retrieve", "reason": reason}]
    assert (answer["fallback"], answer["items"]) == ("recent", before["items"])  # ranked as before


def test_without_retrieval_others_get_what_is_popular_and_nothing_seen(spread: Spread, world: World) -> None:
    spread.retrieval.state = "dead"
    answer = spread.ask(k=100, exclude=["i250"])
    assert answer["fallback"] == "popular"
    gone = {f"i{item}" for item in world.seen(3)} | {"i250"}
    assert not set(ids(answer)) & gone
    assert len(answer["items"]) == 100
    told = spread.ask(user_id="nobody", history=["i1"], k=300)
    assert "i1" not in ids(told)
    assert len(told["items"]) == 299


def test_without_both_the_rules_still_hold(spread: Spread) -> None:
    gone = ids(spread.ask())[0]
    assert put(spread.client, gone, False) == 202
    eventually(lambda: gone not in ids(spread.ask()))
    spread.retrieval.state = spread.ranking.state = "dead"
    answer = spread.ask(k=50)
    assert {one["stage"] for one in answer["skipped"]} == {"retrieve", "rank"}
    assert gone not in ids(answer)
    assert len(answer["items"]) == 50


def test_what_is_gone_is_not_waited_for_and_is_found_again(spread: Spread) -> None:
    whole = spread.ask()
    spread.retrieval.state = "stopped"
    assert spread.ask()["skipped"]
    calls = spread.retrieval.calls
    for _ in range(50):
        assert spread.ask()["fallback"] == "recent"
    assert spread.retrieval.calls <= calls + 2  # once in a second
    health = spread.service.health()
    assert (health["status"], health["problem"]) == (
        "degraded",
        "the retrieval deployment does not answer",
    )
    spread.retrieval.state = "up"
    eventually(lambda: spread.ask()["skipped"] == [], within_s=20)
    assert spread.ask()["items"] == whole["items"]
    assert spread.service.health()["status"] == "ok"


def test_who_came_later_does_not_wait_longer_than_the_first(spread: Spread) -> None:
    spread.ask()
    spread.retrieval.state = "stopped"
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(spread.ask)
        time.sleep(0.8 * WITHIN_S)
        later = [pool.submit(spread.ask, user_id=user) for user in (104, 105, 106)]
        wait([first, *later], return_when=FIRST_COMPLETED)
        before = spread.retrieval.calls
        answers = [each.result() for each in (first, *later)]
    assert spread.retrieval.calls <= before + 1
    assert [one["skipped"] for one in answers] == [[{"stage": "retrieve", "reason": "late"}]] * 4


def test_a_fault_of_one_request_is_not_taken_for_the_end(spread: Spread, monkeypatch: Any) -> None:
    async def broken(*args: Any) -> Any:
        raise RayTaskError("retrieve", "a traceback", ValueError("this one"))

    with monkeypatch.context() as patch:
        patch.setattr(RetrievalDeployment, "retrieve", broken)
        assert spread.ask()["skipped"] == [{"stage": "retrieve", "reason": "failed"}]
        assert spread.service.health()["status"] == "ok"
    assert spread.ask()["skipped"] == []


def test_a_budget_is_split_between_retrieval_and_ranking(spread: Spread) -> None:
    spread.ask()
    spread.retrieval.state = "stopped"
    began = time.monotonic()
    answer = spread.ask(budget_ms=300)
    assert answer["skipped"] == [{"stage": "retrieve", "reason": "late"}]  # the ranker had its share
    assert time.monotonic() - began >= 0.6 * 0.3
    assert spread.service.health()["status"] == "ok"  # of little time it was the request's own matter
    spread.retrieval.state, spread.ranking.state = "up", "stopped"
    assert spread.ask(budget_ms=300)["skipped"] == [{"stage": "rank", "reason": "late"}]


@pytest.mark.parametrize("state", ["dead", "stopped"])
def test_what_is_similar_is_a_503_that_says_when_to_come_back(spread: Spread, state: str) -> None:
    assert len(spread.client.get("/items/i3/similar", b"k=4").json["items"]) == 4
    spread.retrieval.state = state
    answer = spread.client.get("/items/i3/similar", b"k=4")
    assert (answer.status, answer.json["error"]) == (503, "retrieval_unanswered")
    assert answer.headers["retry-after"] == "1"


def test_a_new_version_serves_when_the_others_have_it(
    spread: Spread, own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their loading takes longer than anyone waits for an answer, and no answer lacks anything."""
    load_exactly = StageVersions._load_exactly

    def slow(self: Any, reference: Any) -> Any:
        time.sleep(3 * WITHIN_S)
        return load_exactly(self, reference)

    monkeypatch.setattr(StageVersions, "_load_exactly", slow)
    for part in (spread.retrieval, spread.ranking):  # they do not follow by themselves
        part._deployment._versions._follower.stop()
    own_store.promote(APPLICATION, 2)
    versions, skipped = set(), []

    def is_served() -> bool:
        answer = spread.ask()
        versions.add(answer["version"]["ranker"]["version"])
        skipped.extend(answer["skipped"])
        return versions == {1, 2}

    eventually(is_served, within_s=30)
    assert skipped == []


def test_a_version_that_another_deployment_cannot_load_is_not_taken(
    spread: Spread, own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Any, reference: Any) -> None:
        raise RayTaskError("load", "a traceback", MemoryError("no room for it"))

    spread.ask()
    monkeypatch.setattr(RankingDeployment, "load", broken)
    own_store.promote(APPLICATION, 2)
    eventually(lambda: spread.service.health()["status"] == "degraded")
    assert "the ranking deployment does not load it: no room for it" in (
        spread.service.health()["problem"] or ""
    )
    assert spread.ask()["version"]["ranker"]["version"] == 1


def test_its_health_knows_what_it_was_told(spread: Spread, world: World) -> None:
    assert spread.service.known_until() == world.log.end
    later = NOW + 86_400
    tell(spread.client, *({"item_id": "i250", "time": later + n} for n in range(50)))
    eventually(lambda: (spread.service.known_until() or 0) > later)


NEW = {"title": "Film of tomorrow", "genres": ["drama"], "year": 2000}


def put_new(spread: Spread, item: str) -> None:
    answer = spread.client.send("PUT", f"/items/{item}", json.dumps(NEW).encode(), JSON_TYPE)
    assert answer.status == 202, answer.body
    eventually(lambda: item in spread.service.catalogue.item_rows)


def pause(part: Here) -> None:
    feed = part._deployment._feed
    feed.stop()
    feed._thread.join()


def test_new_items_are_shown_when_all_parts_know_them(spread: Spread) -> None:
    """Parts that do not know them yet answer without them; nothing is shown in the place of another."""
    for part in (spread.retrieval, spread.ranking):
        pause(part)
    before = spread.ask(k=300)
    put_new(spread, "new-1")
    put_new(spread, "new-2")
    for fields in ({}, {"history": ["new-1", "i3"], "strict": True}, {"exclude": ["new-2"], "strict": True}):
        answer = spread.ask(k=300, **fields)
        assert answer["skipped"] == []
        assert not {"new-1", "new-2"} & set(ids(answer))
    assert ids(spread.ask(k=300)) == ids(before)
    assert spread.client.get("/items/new-1/similar").json["items"] == []
    spread.retrieval._deployment._feed.look()  # the ranker's part is behind
    answer = spread.ask(k=300)
    assert answer["skipped"] == []
    assert [item for item in ids(answer) if item in ids(before)] == ids(answer)
    assert spread.client.get("/items/new-1/similar").json["items"]
    spread.ranking._deployment._feed.look()
    answer = spread.ask(k=300)
    titles = {item["item_id"]: item["title"] for item in answer["items"]}
    assert (titles["new-1"], titles["new-2"]) == (NEW["title"], NEW["title"])
    assert titles["i299"] == "Film 299"
    assert "new-1" not in ids(spread.ask(k=300, exclude=["new-1"], strict=True))
    spread.ranking.state = "dead"
    assert {"new-1", "new-2"} <= set(ids(spread.ask(k=300)))


def test_an_ingress_that_knows_fewer_items_shows_those(spread: Spread) -> None:
    """As after the hub was lost: what each part was told of stands in another order."""
    spread.service._feed.stop()
    spread.service._feed._thread.join()
    for part, order in ((spread.retrieval, "abc"), (spread.ranking, "cab"), (spread.service, "b")):
        if isinstance(part, Here):
            pause(part)
        heard = [Content(name, {**NEW, "title": name}) for name in order]
        listener = next(iter(feed_of_part(part)._listeners))
        with feed_of_part(part).silence():
            listener.tell(heard)
        listener.grow()
    answer = spread.ask(k=300)
    assert answer["skipped"] == []
    assert {"b"} == {item["item_id"] for item in answer["items"] if not item["item_id"].startswith("i")}
    assert next(item["title"] for item in answer["items"] if item["item_id"] == "b") == "b"
    assert "b" not in ids(spread.ask(k=300, exclude=["b"]))


def feed_of_part(part: Any) -> Any:
    return part._feed if isinstance(part, SpreadService) else part._deployment._feed


def test_each_replica_of_a_stage_has_what_experiments_ask_before_it_is_asked(own_store: Store) -> None:
    loads, wrong = Counter[int](), {2}

    def load(bundles: ServedBundles) -> int:
        loads[version := bundles.reference.version] += 1
        if version in wrong:
            raise MemoryError("no room for it")
        return version

    async def stage() -> None:
        versions = StageVersions(ServiceConfig(application=APPLICATION, store=str(own_store.root)), load)

        async def look() -> None:
            versions.look()
            assert versions._looking is not None
            await versions._looking

        await look()
        assert loads == {1: 1}
        Operations(own_store, APPLICATION).canary(2, force=True)
        await look()
        await look()
        assert loads == {1: 1, 2: 1}, "what does not load is not tried every second"
        wrong.clear()
        versions._failed.clear()
        await look()
        await look()
        assert loads == {1: 1, 2: 2}
        assert await versions.get(own_store.open(APPLICATION, 2).reference) == 2
        assert loads == {1: 1, 2: 2}, "the baseline is what serves here"
        versions._follower.stop()

    asyncio.run(stage())
