"""What is told, kept by a real redis-server: shared, lost, and found again."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from recray.serve.events.feed import Feed
from recray.serve.events.hub import HubFullError
from recray.serve.events.redis_hub import RedisHub
from recray.serve.events.told import Availability, Content, Event, Told
from recray.serve.http.gateway import create_app
from recray.serve.http.haproxy import free_port
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.serve.place.hub_actor import REDIS_URL, hub_of
from recray.store import Store
from tests.serve.asgi import Client
from tests.serve.test_events import Listener, eventually, items_of, put, tell
from tests.serve.world import APPLICATION, NOW, NUM_ITEMS

TOLD: list[Told] = [Event("u", "i1", 2.5, NOW), Availability("ü", False), Event(None, "i2", 1.0, NOW + 1)]


class Server:
    """A redis-server of our own, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program is not None
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        self._process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        eventually(self._answers)

    def _answers(self) -> bool:
        try:
            return bool(redis.Redis.from_url(self.url).ping())
        except redis.exceptions.ConnectionError:
            return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server: install the Debian package of that name")
    running = Server(tmp_path)
    yield running
    running.kill()


def test_what_one_hub_is_told_another_finds_in_the_same_order(server: Server) -> None:
    one, other = RedisHub(server.url, "shop"), RedisHub(server.url, "shop")
    assert other.after(0, "").told == []
    one.append(TOLD)
    first = other.after(0, "")
    assert first.told == TOLD
    other.append(TOLD[:1])
    second = one.after(first.upto, first.hub)
    assert second.told == TOLD[:1]
    assert second.upto == 4
    assert one.after(3, "another hub").told == [*TOLD, TOLD[0]]
    assert RedisHub(server.url, "another shop").after(0, "").told == []


def test_what_an_item_is_comes_back_as_it_was_said(server: Server) -> None:
    said = Content("ü 1", {"title": "\u2028 red", "tags": ["a", "b"], "price": 1.5, "pages": 3, "made": None})
    RedisHub(server.url, "shop").append([said, Content("i2", {})])
    assert RedisHub(server.url, "shop").after(0, "").told == [said, Content("i2", {})]


def test_a_full_one_takes_nothing_of_what_is_too_much(server: Server) -> None:
    hub = RedisHub(server.url, "shop", most=4)
    hub.append(TOLD)
    with pytest.raises(HubFullError, match="3 of at most 4 are kept"):
        hub.append(TOLD[:2])
    hub.append(TOLD[:1])
    assert hub.after(0, "").upto == 4


def test_what_is_sent_again_is_kept_once(server: Server) -> None:
    one, other = RedisHub(server.url, "shop", most=4), RedisHub(server.url, "shop", most=4)
    told = [Event("u", "i", 1.0, n, f"é{n}") for n in range(4)]
    assert one.append([*told[:2], told[0]]) == 2
    with pytest.raises(HubFullError):
        other.append([*told[1:], Event("u", "i", 1.0, 9)])
    assert other.append(told[1:]) == 2
    assert one.append(told) == 0
    assert one.append([]) == 0
    assert one.after(0, "").told == told


def test_what_was_told_outlives_the_cluster(server: Server, own_store: Store) -> None:
    """Everything is started anew but Redis: known users and strangers have the histories that they had."""
    config = ServiceConfig(application=APPLICATION, store=str(own_store.root))
    asked: list[dict[str, Any]] = [{"user_id": 103}, {"user_id": "new here"}]
    service = FusedService(config, RedisHub(server.url, APPLICATION))
    client = Client(create_app(service))
    untold = [items_of(client, **fields) for fields in asked]
    tell(
        client, *({**fields, "item_id": untold[0][n], "time": NOW + n} for fields in asked for n in range(3))
    )
    put(client, untold[0][5], False)
    eventually(lambda: untold[0][5] not in items_of(client, user_id=103, k=NUM_ITEMS))
    told = [items_of(client, **fields) for fields in asked]
    service.stop()
    again = FusedService(config, RedisHub(server.url, APPLICATION))
    client = Client(create_app(again))
    assert [items_of(client, **fields) for fields in asked] == told
    assert told[1] != untold[1]
    assert not set(untold[0][:3]) & set(told[0])
    again.stop()


def test_losing_redis_degrades_and_comes_back_by_itself(server: Server, own_store: Store) -> None:
    config = ServiceConfig(application=APPLICATION, store=str(own_store.root), poll_s=0.05)
    one, other = (FusedService(config, RedisHub(server.url, APPLICATION)) for _ in range(2))
    clients = [Client(create_app(service)) for service in (one, other)]
    before = items_of(clients[0], user_id=103)
    tell(clients[0], {"user_id": 103, "item_id": before[0], "time": NOW + 60})
    eventually(lambda: all(before[0] not in items_of(client, user_id=103) for client in clients))
    server.kill()
    eventually(lambda: other.health()["status"] == "degraded")
    assert "out of reach" in (other.health()["problem"] or "")
    refused = clients[0].post({"events": [{"item_id": "i1"}]}, path="/events")
    assert (refused.status, refused.json["error"]) == (503, "events_unreachable")
    assert before[0] not in items_of(clients[1], user_id=103)  # what was heard stays
    server.start()  # empty: it keeps nothing on disk here
    eventually(lambda: other.health()["status"] == "ok")
    assert put(clients[0], before[1], False) == 202
    eventually(lambda: all(before[1] not in items_of(client, user_id=103) for client in clients))
    assert before[0] not in items_of(clients[1], user_id=103)
    for service in (one, other):
        service.stop()


def test_one_that_starts_later_hears_all_of_it(server: Server) -> None:
    hub, listener = RedisHub(server.url, "shop"), Listener()
    for _ in range(3):
        hub.append(TOLD)
    feed = Feed(hub)
    feed.attach(listener)
    feed.look()
    assert listener.told == TOLD * 3


def test_it_is_taken_where_the_environment_names_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REDIS_URL, server.url)
    hub_of(ServiceConfig(application="shop")).append(TOLD)
    assert RedisHub(server.url, "shop").after(0, "").told == TOLD


def test_what_cannot_be_read_is_passed_over(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    hub = RedisHub(server.url, "shop")
    hub.append(TOLD[:1])
    later = json.dumps(["event", *TOLD[0], "of a later version"])
    for value in ("garbage", "5", "[]", '["other", 1]', '["event", 1]', later):
        redis.Redis.from_url(server.url).rpush("recray:shop:told", value)
    hub.append(TOLD[1:])
    batch = hub.after(0, "")
    assert batch.told == [TOLD[0], TOLD[0], *TOLD[1:]]
    assert batch.upto == len(TOLD) + 6
    assert "5 entries cannot be read" in caplog.text


def test_a_list_that_was_deleted_begins_anew_and_a_lost_name_does_not(server: Server) -> None:
    hub, listener = RedisHub(server.url, "shop"), Listener()
    feed = Feed(hub)
    feed.attach(listener)
    known = Event("u", "i", 1.0, 1, "told before")
    hub.append([known, *TOLD])
    feed.look()
    redis.Redis.from_url(server.url).delete("recray:shop:told:name")
    feed.look()
    assert listener.told == [known, *TOLD]
    redis.Redis.from_url(server.url).delete("recray:shop:told")
    feed.look()
    assert hub.append([known, TOLD[1]]) == 2  # its id went with the list
    feed.look()
    assert listener.told == [known, *TOLD, TOLD[1]]  # of one id it was heard before
