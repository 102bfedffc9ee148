"""Answers that are given again: only to the same question, and never one that misses what was told."""

import asyncio
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import redis

from recray.models.gbdt import GBDTRanker
from recray.serve.events.feed import Feed
from recray.serve.events.hub import LocalHub
from recray.serve.events.told import Availability, Event
from recray.serve.http.gateway import create_app
from recray.serve.http.made import WentBy
from recray.serve.kept import answer_store
from recray.serve.kept.answer_store import KeptAnswer, LocalAnswers
from recray.serve.kept.redis_answers import bytes_of, kept_in
from recray.serve.place.config import ServiceConfig
from recray.serve.place.deployments import RankingDeployment, RetrievalDeployment
from recray.serve.place.fused import FusedService
from recray.serve.place.hub_actor import REDIS_URL
from recray.serve.place.spread import SpreadService
from recray.serve.position import Position
from recray.serve.rules.allowed import AllowedConfig
from recray.serve.rules.diversify import DiversityConfig
from recray.serve.rules.listed import Rules
from recray.store import Store
from tests.serve.asgi import Client
from tests.serve.here import Here
from tests.serve.test_events import eventually, put, tell
from tests.serve.test_redis_hub import Server
from tests.serve.world import APPLICATION, NOW

KEEP_S = 600.0
Replicas = tuple[Client, Client]


def config_of(store: Store, **fields: Any) -> ServiceConfig:
    return ServiceConfig(
        application=APPLICATION, store=str(store.root), poll_s=0.05, cache_s=KEEP_S, **fields
    )


@pytest.fixture
def make(own_store: Store) -> Iterator[Callable[..., FusedService]]:
    made: list[FusedService] = []

    def one(hub: Any = None, **fields: Any) -> FusedService:
        made.append(FusedService(replace(config_of(own_store), **fields), hub))
        return made[-1]

    yield one
    for service in made:
        service.stop()


@pytest.fixture
def client(make: Callable[..., FusedService]) -> Client:
    return Client(create_app(make()))


def ask(client: Client, **fields: Any) -> Any:
    answer = client.post({"user_id": 103, **fields})
    assert answer.status == 200, answer.body
    return answer.json


def ids(answer: Any) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def is_kept(client: Client, **fields: Any) -> bool:
    """Asked twice, the second answer is the first one."""
    ask(client, **fields)
    return "cached_s" in ask(client, **fields)


def test_the_same_question_gets_the_same_answer_and_its_age(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask(client)
    assert "cached_s" not in first
    again = client.post({"user_id": 103})
    assert again.json["items"] == first["items"]
    assert again.json["request_time"] == first["request_time"]
    assert again.json["request_id"] == again.headers["x-request-id"] != first["request_id"]
    assert again.json["cached_s"] >= 0
    assert set(again.json["timings_ms"]) == {"cache", "total"}
    assert "recray_cached_total{" in client.get("/metrics").body.decode()
    assert ask(client, budget_ms=50_000)["cached_s"] >= 0  # with more or less time it is the same
    back = SimpleNamespace(time=lambda: time.time() - 60, perf_counter=time.perf_counter)
    monkeypatch.setattr("recray.serve.kept.answer_cache.time", back)
    assert "cached_s" not in ask(client), "the clock was set back: how old it is nobody knows"


@pytest.mark.parametrize(
    "other",
    [
        {"user_id": 104},
        {"user_id": None},
        {"k": 11},
        {"exclude": ["i1"]},
        {"history": ["i1"]},
        {"strict": True},
    ],
)
def test_another_question_gets_its_own(client: Client, other: dict[str, Any]) -> None:
    ask(client)
    assert "cached_s" not in ask(client, **other)
    assert "cached_s" in ask(client, **other)


@pytest.mark.parametrize("fields", [{"explain": True}, {"request_time": NOW}])
def test_reasons_and_other_times_are_made_anew(client: Client, fields: dict[str, Any]) -> None:
    assert not is_kept(client, **fields)
    ask(client)
    assert not is_kept(client, **fields)


def test_by_default_each_answer_is_made_anew(make: Callable[..., FusedService]) -> None:
    assert not is_kept(Client(create_app(make(cache_s=0.0))))


def test_an_answer_has_its_time(make: Callable[..., FusedService]) -> None:
    client = Client(create_app(make(cache_s=0.2)))
    assert is_kept(client)
    time.sleep(0.25)
    assert "cached_s" not in ask(client)


def test_what_the_user_did_is_never_missed(client: Client) -> None:
    before, ago = ids(ask(client)), int(time.time()) - 100
    for raw in (104, "new here"):
        assert is_kept(client, user_id=raw)
    tell(client, {"user_id": 103, "item_id": before[0], "time": ago})
    eventually(lambda: before[0] not in ids(ask(client)))
    assert is_kept(client)
    assert "cached_s" in ask(client, user_id=104)  # another one's is as it was
    tell(client, {"user_id": "new here", "item_id": "i7", "time": ago})
    eventually(lambda: ask(client, user_id="new here")["fallback"] == "history")


def test_what_happens_in_the_second_of_a_request_is_not_missed_in_the_next(client: Client) -> None:
    """Events count from the second after their own on: until then no answer may be kept."""
    gone = ids(ask(client))[0]
    tell(client, {"user_id": 103, "item_id": gone})
    for _ in range(3):
        ask(client)
    eventually(lambda: gone not in ids(ask(client)))


def test_what_cannot_be_had_is_missed_by_no_answer(client: Client) -> None:
    gone = ids(ask(client))[0]
    assert is_kept(client)
    put(client, gone, False)
    eventually(lambda: gone not in ids(ask(client)))
    put(client, gone, True)
    eventually(lambda: ids(ask(client))[0] == gone)


def test_another_version_answers_by_itself(make: Callable[..., FusedService], own_store: Store) -> None:
    service = make()
    client = Client(create_app(service))
    assert is_kept(client)
    own_store.promote(APPLICATION, 2)
    eventually(lambda: service.pinned().reference.version == 2)
    new = ask(client)
    assert "cached_s" not in new
    assert new["version"]["ranker"]["version"] == 2


def test_answers_that_lack_something_are_not_kept(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: GBDTRanker, *args: Any) -> Any:
        raise FloatingPointError("trees on fire")

    with monkeypatch.context() as patch:
        patch.setattr(GBDTRanker, "score", broken)
        assert not is_kept(client)
    assert ask(client)["skipped"] == []


def test_what_is_kept_elsewhere_is_as_it_was() -> None:
    went_by = WentBy(("price", "age"), np.array([[1.5, np.nan], [0.1, -np.inf]], np.float32))
    answer: Any = {"items": []}
    back = kept_in(bytes_of(KeptAnswer(3.5, answer, ("explore",), went_by)))
    assert back is not None
    assert back.went_by is not None
    assert back[:3] == (3.5, answer, ("explore",))
    assert back.went_by.feature_names == went_by.feature_names
    assert np.array_equal(back.went_by.features_SF, went_by.features_SF, equal_nan=True)
    bare = KeptAnswer(3.5, answer)
    assert kept_in(bytes_of(bare)) == bare
    for other in (
        b"",
        b"{",
        b"[1, 2, 3]",
        b"[1, {}]",
        b'["a", {}, [], null]',
        b"[[], {}, [], null]",
        b'[1, {}, [], [["a"], "AAA"]]',
    ):
        assert kept_in(other) is None


def test_a_process_keeps_so_many_items(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    answer = ask(client, k=10)
    monkeypatch.setattr(answer_store, "MOST_ITEMS", 100)
    kept = LocalAnswers(KEEP_S)

    async def fill() -> int:
        for n in range(30):
            await kept.put(str(n), KeptAnswer(0.0, answer))
        return sum([await kept.get(str(n)) is not None for n in range(30)])

    assert asyncio.run(fill()) == 100 // 11


def test_negative_times_are_refused() -> None:
    with pytest.raises(ValueError, match="cache_s must not be negative"):
        ServiceConfig(application="a", cache_s=-1)
    with pytest.raises(ValueError, match="cache_s must not be negative or without end, got nan"):
        ServiceConfig(application="a", cache_s=math.nan)


def test_positions_of_two_hubs_say_nothing_of_each_other() -> None:
    assert Position("a", 3).reaches(Position("a", 3))
    assert not Position("a", 2).reaches(Position("a", 3))
    assert not Position("b", 9).reaches(Position("a", 3))


# ------------------------------------------------------------------------ in Redis


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server: install the Debian package of that name")
    (tmp_path / "redis").mkdir()
    running = Server(tmp_path / "redis")
    monkeypatch.setenv(REDIS_URL, running.url)
    yield running
    running.kill()


@pytest.fixture
def replicas(server: Server, make: Callable[..., FusedService]) -> Replicas:
    hub = LocalHub()
    one, other = (Client(create_app(make(hub))) for _ in range(2))
    return one, other


def test_replicas_share_what_is_in_redis(replicas: Replicas) -> None:
    one, other = replicas
    first = ask(one, k=20)
    again = ask(other, k=20)
    assert again["cached_s"] >= 0
    assert again["items"] == first["items"]
    unscored = {"user_id": None, "k": 300}
    assert ask(other, **unscored)["items"] == ask(one, **unscored)["items"]
    tell(one, {"user_id": 103, "item_id": ids(first)[0], "time": int(time.time()) - 100})
    for client in replicas:
        eventually(lambda client=client: ids(first)[0] not in ids(ask(client, k=20)))


def test_an_application_with_other_options_has_its_own(
    server: Server, make: Callable[..., FusedService]
) -> None:
    ask(Client(create_app(make())))
    assert "cached_s" not in ask(
        Client(create_app(make(rules=Rules(diversity=DiversityConfig(strength=0.9)))))
    )


def test_a_list_of_ids_that_changed_is_another_option(
    server: Server, make: Callable[..., FusedService], tmp_path: Path
) -> None:
    denied = tmp_path / "denied.txt"
    denied.write_text("i0\n")
    rules, hub = Rules(allowed=AllowedConfig(deny_file=str(denied))), LocalHub()
    first = ask(Client(create_app(make(hub, rules=rules))))
    denied.write_text(f"i0\n{ids(first)[0]}\n")
    begun_anew = Client(create_app(make(hub, rules=rules)))
    assert ids(first)[0] not in ids(ask(begun_anew))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_losing_redis_costs_no_answer(replicas: Replicas, server: Server, how: signal.Signals) -> None:
    one, other = replicas
    before = ask(one)
    server._process.send_signal(how)
    if how == signal.SIGKILL:
        server._process.wait()
    for _ in range(30):
        answer = ask(other)
        assert "cached_s" not in answer
        assert answer["items"] == before["items"]
    if how == signal.SIGKILL:
        server.start()
    else:
        server._process.send_signal(signal.SIGCONT)
    eventually(lambda: "cached_s" in ask(other))
    assert ask(one)["items"] == before["items"]


def test_what_somebody_else_wrote_is_no_answer(replicas: Replicas, server: Server) -> None:
    one, other = replicas
    before, client = ask(one), redis.Redis.from_url(server.url)
    (key,) = client.keys("recray:*:answer:*")
    for value in (b"", b"{", b"[1, 2, 3]", b"[1, 2]", b'["a", {}]', b"[[], {}]"):
        client.set(key, value)
        answer = ask(other)
        assert "cached_s" not in answer
        assert answer["items"] == before["items"]


def test_a_redis_that_takes_nothing_in_is_complained_of_once(
    replicas: Replicas, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("ERROR", logger="recray")
    ask(replicas[0])
    redis.Redis.from_url(server.url).config_set("min-replicas-to-write", 3)
    for _ in range(10):
        assert "cached_s" not in ask(replicas[0], user_id=104)
    assert "cached_s" in ask(replicas[1])  # what it has can be read
    assert len([record for record in caplog.records if "answers in Redis" in record.message]) == 1


# --------------------------------------------------------------------------- spread


def test_what_another_deployment_has_not_heard_yet_is_not_kept(server: Server, own_store: Store) -> None:
    config = config_of(own_store)
    parts = RetrievalDeployment(config), RankingDeployment(config)
    service = SpreadService(config, *map(Here, parts))  # type: ignore[arg-type]
    client = Client(create_app(service))
    assert is_kept(client)
    parts[0]._feed.stop()
    parts[0]._feed._thread.join()
    gone = ids(ask(client))[0]
    tell(client, {"user_id": 103, "item_id": gone, "time": int(time.time()) - 100})
    eventually(lambda: "cached_s" not in ask(client))
    assert gone in ids(ask(client))  # of a part that is behind
    assert not is_kept(client)
    parts[0]._feed.look()
    eventually(lambda: is_kept(client) and gone not in ids(ask(client)))
    service.stop()


def test_marks_are_alike_whenever_they_are_asked_for() -> None:
    hub, feeds = LocalHub(), []
    for n in range(3):
        feeds.append(Feed(hub))
        feeds[-1].look()
        marks = feeds[-1].marked()
        hub.append([Event("u", "i", 1.0, n), Event("v", "i", 1.0, n), Event(None, "i", 1.0, n)])
        assert marks.of("w").newest == 0
    hub.append([Availability("i", False)])
    for feed in feeds:
        feed.look()
    of_u, of_nobody = ({feed.marked().of(user) for feed in feeds} for user in ("u", None))
    assert len(of_u) == len(of_nobody) == 1
    assert of_u.pop().newest == 2
    assert feeds[0].position.number == 10
