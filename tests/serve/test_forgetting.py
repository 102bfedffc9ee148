"""Who is forgotten is gone from the log, from the hub and from what versions know."""

import json
import time
from collections.abc import Iterator

import pytest

from recray.event_log.reading import read
from recray.serve.events.feed import Feed
from recray.serve.events.hub import LocalHub
from recray.serve.events.told import Event, Gone
from recray.serve.http.admin import TOKEN
from recray.store import Store
from tests.serve.asgi import JSON_TYPE, Answer
from tests.serve.test_events import Listener
from tests.serve.test_recording import Recorded
from tests.serve.world import NOW

GOOD = (b"authorization", b"Bearer a-token")


@pytest.fixture
def replica(own_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    monkeypatch.setenv(TOKEN, "a-token")
    running = Recorded(own_store)
    yield running
    running.stop()


def forget(replica: Recorded, user: str) -> Answer:
    body = json.dumps({"user_id": user}).encode()
    return replica.client.send("POST", "/admin/forget", body, [*JSON_TYPE, GOOD])


def shown(replica: Recorded, user: str) -> list[str]:
    later = int(time.time()) + 2
    asked = replica.ask(user_id=user, k=500, request_time=later)
    return [item["item_id"] for item in asked["items"]]


@pytest.mark.parametrize("user", ["103", "a-stranger-here"])
def test_a_user_leaves_log_hub_and_versions(replica: Recorded, user: str) -> None:
    before = shown(replica, user)
    other = {"user_id": "104", "item_id": before[2], "event_id": "of-another"}
    events = [
        {"user_id": user, "item_id": before[0], "event_id": "one"},
        {"user_id": user, "item_id": before[1], "kind": "dismissal"},
        {"user_id": user, "item_id": "not-known-yet"},
    ]
    assert replica.tell(*events, other).json["accepted"] == 4
    replica.service._feed.look()
    answer = replica.ask(user_id=user, k=3)
    assert not set(before[:2]) & set(shown(replica, user))

    assert forget(replica, user).json["done"] == "forget"
    replica.service._feed.look()
    assert shown(replica, user) == before
    log = read(replica.folder)
    assert log.events["event_id"].to_list() == ["of-another"]
    assert answer["request_id"] not in log.shown["request_id"].to_list()
    kept = replica.service._hub.after(0, "").told
    assert [one.event_id for one in kept if isinstance(one, Event)] == ["of-another"]
    assert before[2] not in shown(replica, "104")

    assert replica.tell(events[0]).json["accepted"] == 1, "whoever comes back begins anew"
    replica.service._feed.look()
    assert before[0] not in shown(replica, user)


def test_a_version_that_comes_later_is_not_told_of_who_is_gone() -> None:
    hub, early, late = LocalHub(), Listener(), Listener()
    feed = Feed(hub)
    feed.attach(early)
    events = [Event(user, "i1", 1.0, NOW, f"e-{user}") for user in ("ann", "bob")]
    hub.append(events)
    feed.look()
    hub.append([Gone("ann")])
    feed.look()
    feed.attach(late)
    assert (early.told, late.told) == ([*events, Gone("ann")], events[1:])
    assert feed.marked().of("ann").newest == 0
    assert feed.marked().of("bob").newest == NOW


def test_what_a_hub_that_begins_anew_says_again_counts_once() -> None:
    """It knows the log, as its replicas do."""
    first, second, listener = LocalHub(), LocalHub(), Listener()
    feed = Feed(first)
    feed.attach(listener)
    events = [Event("ann", f"i{n}", 1.0, NOW + n, f"e{n}") for n in range(4)]
    first.append(events[:3])
    feed.look()
    second.append(events)  # one of them when the first one was gone already
    feed._hub = second
    feed.look()
    assert listener.told == events
    second.append([Event("ann", "i0", 1.0, NOW + 9, "e9")])
    feed.look()
    assert len(listener.told) == 5


def test_without_the_token_nobody_is_forgotten(replica: Recorded) -> None:
    replica.tell({"user_id": "103", "item_id": "i1"})
    refused = replica.client.send("POST", "/admin/forget", b'{"user_id": "103"}', JSON_TYPE)
    assert refused.status == 401
    assert read(replica.folder).events.height == 1


def test_health_and_metrics_say_what_the_log_does(replica: Recorded) -> None:
    event = {"user_id": "103", "item_id": "i1", "event_id": "e1"}
    replica.tell(event, {"item_id": "i2", "kind": "impression"})
    replica.tell(event)
    replica.ask(user_id="103")
    replica.service._recorder.send()  # type: ignore[union-attr]  # it has a log
    replica.service._recorder._ask_at = 0.0  # type: ignore[union-attr]
    replica.service._recorder.send()  # type: ignore[union-attr]
    log = replica.client.get("/health").json["log"]
    assert log.pop("commit_s") > 0
    assert log.pop("commits") >= 3
    expected = {"events": 2, "repeated": 1, "answers": 1, "waiting": 0, "unsent": 0, "lost": 0}
    assert log == expected
    text = replica.client.get("/metrics").body.decode()
    counted = {line.split("{")[0]: float(line.split()[-1]) for line in text.splitlines() if "{" in line}
    assert counted["recray_events_recorded_total"] == 2
    assert counted["recray_events_repeated_total"] == 1
    assert counted["recray_exposures_recorded_total"] == 1
    assert counted["recray_exposures_lost_total"] == 0
    assert counted["recray_events_waiting"] == 0
