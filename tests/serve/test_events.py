"""What an application is told: histories, seen items, counts and availability follow, in every replica."""

import time
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest
from pydantic import ValidationError

from recray.features.log import MAX_RATING_SUM
from recray.features.past import DAY_S
from recray.schema import DataError
from recray.serve.events.feed import Feed
from recray.serve.events.hub import MOST_KEPT, Batch, HubFullError, LocalHub
from recray.serve.events.told import Availability, Event, Told
from recray.serve.http.gateway import create_app
from recray.serve.http.live_requests import (
    CLOCKS_MAY_DIFFER_S,
    MOST_EVENTS,
    MOST_RATING,
    EventsRequest,
)
from recray.serve.http.requests import RecommendRequest, RequestError
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.serve.rules.available import AvailableConfig
from recray.serve.stages.listed import Rules
from recray.store import Store
from tests.serve.asgi import JSON_TYPE, Client
from tests.serve.world import APPLICATION, NOW, NUM_ITEMS, NUM_USERS, World

LATER = NOW + 30 * DAY_S


def eventually(holds: Callable[[], bool], within_s: float = 5.0) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@pytest.fixture
def services(own_store: Store) -> Iterator[tuple[FusedService, FusedService]]:
    """Two replicas of one application."""
    config = ServiceConfig(application=APPLICATION, store=str(own_store.root), poll_s=0.05)
    hub = LocalHub()
    made = FusedService(config, hub), FusedService(config, hub)
    yield made
    for service in made:
        service.stop()


@pytest.fixture
def clients(services: tuple[FusedService, FusedService]) -> tuple[Client, Client]:
    one, other = (Client(create_app(service)) for service in services)
    return one, other


def items_of(client: Client, **fields: Any) -> list[str]:
    answer = client.post({"request_time": LATER, "k": 20, **fields})
    assert answer.status == 200, answer.body
    return [item["item_id"] for item in answer.json["items"]]


def tell(client: Client, *events: dict[str, Any]) -> Any:
    answer = client.post({"events": list(events)}, path="/events")
    assert answer.status == 202, answer.body
    return answer.json


def put(client: Client, item: str, available: bool) -> int:
    body = b'{"available": true}' if available else b'{"available": false}'
    return client.send("PUT", f"/items/{item}", body, [(b"content-type", b"application/json")]).status


def test_what_a_user_did_does_not_come_back_in_any_replica(clients: tuple[Client, Client]) -> None:
    one, other = clients
    before = items_of(one, user_id=103)
    assert before == items_of(other, user_id=103)
    told = tell(one, *({"user_id": 103, "item_id": item, "time": NOW + 60} for item in before[:5]))
    assert told["accepted"] == 5
    assert told["unknown_items"] == []
    for client in clients:
        eventually(lambda client=client: not set(before[:5]) & set(items_of(client, user_id=103)))
    # Of the time before they happened, nothing is known of them.
    assert set(before[:5]) <= set(items_of(other, user_id=103, request_time=NOW + 30, k=100))


def test_a_stranger_has_a_history_from_the_first_event_on(clients: tuple[Client, Client]) -> None:
    one, other = clients
    ask = {"user_id": "new here", "request_time": LATER}
    assert other.post(ask).json["fallback"] == "popular"
    tell(
        one,
        {"user_id": "new here", "item_id": "i7", "time": NOW + 5},
        {"user_id": "new here", "item_id": "i9"},
    )
    eventually(lambda: other.post(ask).json["fallback"] == "history")
    told = {"request_time": LATER, "history": ["i7"], "history_times": [NOW + 5]}
    assert items_of(other, **ask) == items_of(other, **told)  # i9 is of this year, after the request
    assert "i7" not in items_of(other, k=NUM_ITEMS, **ask)


def test_what_a_stranger_did_does_not_come_back_whatever_history_is_sent(
    clients: tuple[Client, Client],
) -> None:
    one, _ = clients
    before = items_of(one, user_id="somebody")
    tell(one, *({"user_id": "somebody", "item_id": item, "time": NOW + 60} for item in before[:5]))
    eventually(lambda: not set(before[:5]) & set(items_of(one, user_id="somebody", k=100)))
    sent = items_of(one, user_id="somebody", k=100, history=[before[7]])
    assert not set(before[:5]) & set(sent)
    assert sent == items_of(one, k=100, history=[before[7]], exclude=before[:5])
    earlier = items_of(one, user_id="somebody", k=100, history=[before[7]], request_time=NOW + 60)
    assert set(before[:5]) <= set(earlier)


def test_what_happened_by_a_clock_that_is_ahead_happened_now(clients: tuple[Client, Client]) -> None:
    one, _ = clients
    for user in ("somebody", 103):
        now = int(time.time())
        first = items_of(one, user_id=user, request_time=None)[0]
        tell(one, {"user_id": user, "item_id": first, "time": now + CLOCKS_MAY_DIFFER_S - 5})
        eventually(lambda user=user, first=first: first not in items_of(one, user_id=user, request_time=None))


def test_counts_go_on_and_the_log_becomes_young(
    services: tuple[FusedService, FusedService], world: World
) -> None:
    one, other = services
    assert other.known_until() == world.log.end
    told: list[Told] = [Event(str(100 + n % NUM_USERS), "i250", 1.0, LATER - 50 + n // 4) for n in range(200)]
    one._hub.append(told)
    eventually(lambda: other.known_until() > world.log.end)
    request = RecommendRequest(user_id=103, request_time=LATER + 5, explain=True, k=50)
    pipeline = other.pinned().content
    eventually(lambda: (pipeline.recommend(request)["age_s"] or 0) < 60)
    answer = pipeline.recommend(request)
    features = {item["item_id"]: item["features"] for item in answer["items"]}
    assert features
    assert not any((f["item_days_since_last"] or 0.0) < 0 for f in features.values())
    health = other.health()
    assert health["status"] == "ok"
    assert health["known_until"]


def test_what_cannot_be_had_is_not_served_until_it_can(clients: tuple[Client, Client]) -> None:
    one, other = clients
    gone = items_of(one, user_id=103)[0]
    assert put(one, gone, False) == 202
    eventually(lambda: gone not in items_of(other, user_id=103, k=NUM_ITEMS))
    everybody = [items_of(other, user_id=100 + n, k=50) for n in range(NUM_USERS)]
    assert all(gone not in items and len(items) == 50 for items in everybody)
    near = other.get("/items/i3/similar", b"k=299").json["items"]
    assert gone not in {item["item_id"] for item in near}
    assert put(other, gone, True) == 202
    eventually(lambda: items_of(one, user_id=103)[0] == gone)


def test_availability_is_refused_where_it_is_no_rule(own_store: Store) -> None:
    rules = Rules(available=AvailableConfig(enforced=False))
    service = FusedService(ServiceConfig(application=APPLICATION, store=str(own_store.root), rules=rules))
    client = Client(create_app(service))
    answer = client.send("PUT", "/items/i1", b'{"available": false}', JSON_TYPE)
    assert [answer.status, answer.json["error"]] == [422, "not_enforced"]
    assert "--service.rules.available.enforced" in answer.json["message"]
    tell(client, {"item_id": "i1"})
    service.stop()


def test_a_new_version_is_told_what_was_told_before(
    own_store: Store, services: tuple[FusedService, FusedService]
) -> None:
    one, _ = services
    client = Client(create_app(one))
    before = items_of(client, user_id=103)
    tell(client, {"user_id": 103, "item_id": before[0], "time": NOW + 60})
    put(client, before[1], False)
    eventually(lambda: not set(before[:2]) & set(items_of(client, user_id=103)))
    own_store.promote(APPLICATION, 2)
    eventually(lambda: one.pinned().reference.version == 2)
    assert not set(before[:2]) & set(items_of(client, user_id=103, k=NUM_ITEMS))


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"events": []}, 422, "events: List should have at least 1 item"),
        ({"events": [{"user_id": 1}]}, 422, "events[0].item_id: Field required"),
        ({"events": [{"item_id": "i1", "time": 2**32}]}, 422, "events[0].time: 4294967296 is in the future"),
        (
            {"events": [{"item_id": "i1", "rating": 1e300}]},
            422,
            "events[0].rating: Input should be less than",
        ),
        ({"events": [{"item_id": "i1", "what": 1}]}, 422, "events[0].what: Extra inputs are not permitted"),
        (
            {"events": [{"item_id": "i1", "time": 1.7e12}]},
            422,
            "events[0].time: Input should be a valid integer",
        ),
        (
            {"events": [{"item_id": "i1", "time": 10**12}]},
            422,
            "events[0].time: Input should be unix seconds",
        ),
        (
            {"events": [{"item_id": 1.0}]},
            422,
            "events[0].item_id: Input should be a valid string or a valid int",
        ),
        (
            {"events": [{"item_id": 2**64}]},
            422,
            "events[0].item_id: Input should be less than 18446744073709",
        ),
        (
            {"events": [{"item_id": "i1"}] * (MOST_EVENTS + 1)},
            422,
            "events: List should have at most 1000 items",
        ),
        ([], 422, "body: "),
        (b"{", 400, "EOF"),
    ],
)
def test_wrong_events_are_refused_whole(
    clients: tuple[Client, Client], body: Any, status: int, message: str
) -> None:
    answer = clients[0].post(body, path="/events")
    assert answer.status == status
    assert message in answer.json["message"]


def test_items_that_are_not_served_are_named(clients: tuple[Client, Client]) -> None:
    told = tell(clients[0], {"item_id": "i1"}, {"item_id": "of next year"}, {"user_id": "x", "item_id": 77})
    assert told["accepted"] == 3
    assert told["unknown_items"] == ["77", "of next year"]
    assert len(told["request_id"]) == 32
    assert 'route="events",status="202"} 1.0' in clients[0].get("/metrics").body.decode()


def test_a_full_hub_takes_nothing_more_and_says_so(own_store: Store) -> None:
    service = FusedService(
        ServiceConfig(application=APPLICATION, store=str(own_store.root)), LocalHub(most=2)
    )
    client = Client(create_app(service))
    tell(client, {"item_id": "i1"})
    answer = client.post({"events": [{"item_id": "i1"}] * 2}, path="/events")
    assert answer.status == 429
    assert answer.json["error"] == "events_full"
    tell(client, {"item_id": "i1"})
    service.stop()


class Broken(LocalHub):
    """Out of reach for a while, and empty afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.reachable = True

    def after(self, number: int, hub: str) -> Any:
        if not self.reachable:
            raise ConnectionError("gone")
        return super().after(number, hub)


class Listener:
    def __init__(self) -> None:
        self.told: list[Told] = []

    def tell(self, told: Any) -> None:
        self.told += told

    def grow(self) -> None:
        """It has nothing that takes longer."""


def test_two_that_look_at_once_hear_nothing_twice() -> None:
    class Slow(LocalHub):
        def after(self, number: int, hub: str) -> Batch:
            found = super().after(number, hub)
            time.sleep(0.05)  # meanwhile the other one asks as well
            return found

    hub, listener = Slow(), Listener()
    feed = Feed(hub)
    feed.attach(listener)
    hub.append(told := [Event("ann", "i1", 1.0, NOW, "e")])
    both = [Thread(target=feed.look) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert listener.told == told


def test_a_feed_outlives_its_hub() -> None:
    hub, listener = Broken(), Listener()
    feed = Feed(hub)
    feed.attach(listener)
    hub.append([Event("u", "i", 1.0, n) for n in range(3)])
    feed.look()
    hub.reachable = False
    feed.look()
    assert "ConnectionError: gone" in (feed.problem or "")
    hub.reachable = True
    hub.append([Availability("i", False)])
    feed.look()
    assert feed.problem is None
    assert [type(one).__name__ for one in listener.told] == ["Event"] * 3 + ["Availability"]
    feed._hub = LocalHub()  # started again elsewhere, empty
    feed._hub.append([Event("v", "j", 1.0, 9)])
    feed.look()
    assert listener.told[-1] == Event("v", "j", 1.0, 9)
    assert len(listener.told) == 5
    late = Listener()
    feed.attach(late)
    assert late.told == listener.told


class Deaf(Listener):
    def tell(self, told: Any) -> None:
        if any(one.item_id == "bad" for one in told):
            raise DataError("no such thing")
        super().tell(told)


def test_what_one_version_cannot_be_told_the_others_are_and_health_says_so() -> None:
    hub, deaf, listener = LocalHub(), Deaf(), Listener()
    feed = Feed(hub)
    feed.attach(deaf)
    feed.attach(listener)
    hub.append([Event("u", "bad", 1.0, 1)])
    feed.look()
    hub.append([Event("u", "i", 1.0, 2)])
    for _ in range(2):  # also when there is nothing new
        feed.look()
        assert feed.problem == "a version has missed what it was told: DataError: no such thing"
    assert [one.item_id for one in listener.told] == ["bad", "i"]
    assert [one.item_id for one in deaf.told] == ["i"]
    del deaf
    feed.look()
    assert feed.problem is None


def test_the_largest_ratings_that_are_taken_in_add_up() -> None:
    assert MOST_RATING * MOST_KEPT <= MAX_RATING_SUM


def told_of(**fields: Any) -> Event:
    (event,) = EventsRequest.model_validate({"events": [{"item_id": "i1", **fields}]}).told()
    return event


def test_prices_may_be_of_any_currency() -> None:
    """In won or rupiah a shirt costs more than any rating may be."""
    event = told_of(kind="purchase", value=1_250_000)
    assert (event.value, event.rating) == (1_250_000.0, 1.0)
    with pytest.raises(RequestError, match=r"events\[0\].value: of a rating at most 65536, got 1.25e\+06"):
        told_of(kind="rating", value=1_250_000)
    for wrong in ({"rating": 65_537}, {"kind": "purchase", "value": 1e16}, {"value": float("inf")}):
        with pytest.raises(ValidationError):
            told_of(**wrong)


def test_a_hub_gives_much_in_parts_and_refuses_too_much() -> None:
    hub, listener = LocalHub(most=25_000), Listener()
    told = [Event(None, "i", 1.0, n) for n in range(25_000)]
    hub.append(told)
    feed = Feed(hub)
    feed.attach(listener)
    feed.look()
    assert listener.told == told
    with pytest.raises(HubFullError, match="25,000 of at most 25,000"):
        hub.append(told[:1])


def test_a_version_that_nobody_holds_is_let_go() -> None:
    feed = Feed(LocalHub())
    feed.attach(Listener())
    assert not list(feed._listeners)


def test_events_that_are_sent_again_count_once(services: tuple[FusedService, FusedService]) -> None:
    one, other = (Client(create_app(service)) for service in services)
    item = items_of(one, user_id=103)[0]
    event = {"user_id": 103, "item_id": item, "time": NOW + 60, "event_id": "e1"}
    first = tell(one, event)
    assert (first["accepted"], first["repeated"]) == (1, 0)
    again = tell(
        other, event, {**event, "event_id": "e2"}, {**event, "event_id": "e2"}, event | {"rating": 2}
    )
    assert (again["accepted"], again["repeated"]) == (1, 3)
    no_id = {key: value for key, value in event.items() if key != "event_id"}
    assert tell(one, no_id, no_id)["accepted"] == 2
    listener = Listener()
    for service in services:
        eventually(lambda service=service: service._feed._number == 4)
    services[1]._feed.attach(listener)
    made = [told.event_id for told in listener.told[2:]]
    assert len({*made} - {""}) == 2
    assert [told.event_id for told in listener.told] == ["e1", "e2", *made]


def test_a_request_that_is_sent_again_counts_once(clients: tuple[Client, Client]) -> None:
    events = [{"user_id": 103, "item_id": "i1"}, {"user_id": 103, "item_id": "i1", "event_id": "e1"}]

    def send(client: Client, key: bytes) -> Any:
        headers = [*JSON_TYPE, (b"idempotency-key", key)]
        return client.post({"events": events}, headers, path="/events").json

    one, other = clients
    counted = send(one, b"k"), send(other, b"k"), send(one, b"another")
    assert [(answer["accepted"], answer["repeated"]) for answer in counted] == [(2, 0), (0, 2), (1, 1)]
    assert "idempotency-key" in send(one, b"k" * 201)["message"]


@pytest.mark.parametrize("event_id", ["", "x" * 201, 7])
def test_event_ids_that_are_none_are_refused(clients: tuple[Client, Client], event_id: Any) -> None:
    answer = clients[0].post({"events": [{"item_id": "i1", "event_id": event_id}]}, path="/events")
    assert answer.status == 422
    assert "events[0]" in answer.json["message"]


def test_what_is_repeated_takes_no_room_and_what_is_refused_may_come_again() -> None:
    hub, told = LocalHub(most=3), [Event("u", "i", 1.0, n, f"e{n}") for n in range(4)]
    assert hub.append(told[:2]) == 2
    with pytest.raises(HubFullError):
        hub.append(told[1:])
    assert hub.append(told[1:3]) == 1
    assert hub.append(told[:3]) == 0
    assert hub.after(0, "").told == told[:3]
