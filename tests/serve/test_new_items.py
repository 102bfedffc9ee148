"""Items that are told of while a version serves: found, shown, filtered and ranked like all others."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recray.bundles.searcher import Searcher
from recray.serve.events import growing
from recray.serve.events.hub import LocalHub
from recray.serve.events.told import Content
from recray.serve.http.gateway import create_app
from recray.serve.http.live_requests import MAX_ITEM_BODY_BYTES
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.serve.rules.diversify import DiversityConfig
from recray.serve.rules.listed import Rules
from recray.serve.rules.per_category import PerCategoryConfig
from recray.store import Store
from tests.serve.asgi import JSON_TYPE, Answer, Client
from tests.serve.generative_world import DECODER, publish_decoder
from tests.serve.item_world import liked_by, publish_shop, shop
from tests.serve.test_events import eventually
from tests.serve.world import APPLICATION, NOW, NUM_ITEMS, NUM_USERS, RETRIEVER, World

USER = 5
NEW = {"title": "red thing of tomorrow", "category": liked_by(USER), "price": 9.5, "tags": ["a"]}


@pytest.fixture(scope="module")
def world() -> World:
    return shop()


@pytest.fixture(scope="module")
def shop_store(world: World, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("shop"))
    for seed in (0, 1):
        publish_shop(store, world, seed)
    publish_decoder(store, world)
    return store


@pytest.fixture
def own_store(shop_store: Store, tmp_path: Path) -> Store:
    shutil.copytree(shop_store.root, tmp_path / "own")
    store = Store(tmp_path / "own")
    store.promote(APPLICATION, 1)
    store.promote(RETRIEVER, 1)
    store.promote(DECODER, 1)
    return store


@pytest.fixture
def made() -> Iterator[list[FusedService]]:
    """Services that end with the test."""
    services: list[FusedService] = []
    yield services
    for service in services:
        service.stop()


@pytest.fixture
def replicas(own_store: Store, made: list[FusedService]) -> tuple[Client, Client]:
    """Two of one application, at whose retriever's order a list stands."""
    return clients(own_store, made, RETRIEVER)


def clients(
    store: Store, made: list[FusedService], application: str, **options: Any
) -> tuple[Client, Client]:
    config = ServiceConfig(application=application, store=str(store.root), poll_s=0.05, **options)
    hub = LocalHub()
    made += [FusedService(config, hub), FusedService(config, hub)]
    one, other = (Client(create_app(service)) for service in made[-2:])
    return one, other


def put(client: Client, item: str, **content: Any) -> Answer:
    return client.send("PUT", f"/items/{item}", json.dumps(content).encode(), JSON_TYPE)


def items_of(client: Client, **fields: Any) -> list[dict[str, Any]]:
    answer = client.post({"request_time": NOW, "k": 20, **fields})
    assert answer.status == 200, answer.body
    return list(answer.json["items"])


def ids_of(client: Client, **fields: Any) -> list[str]:
    return [item["item_id"] for item in items_of(client, **fields)]


def is_known(client: Client, item: str) -> bool:
    return client.get(f"/items/{item}/similar").status == 200


def register(one: Client, other: Client, item: str, **content: Any) -> None:
    answer = put(one, item, **content)
    assert answer.status == 202, answer.body
    assert answer.json["unknown_items"] == []
    for client in (one, other):
        eventually(lambda client=client: is_known(client, item))


def test_a_new_item_is_shown_in_every_replica_to_whom_it_suits(replicas: tuple[Client, Client]) -> None:
    register(*replicas, "new-1", **NEW)
    for client in replicas:
        found = {item["item_id"]: item for item in items_of(client, user_id=100 + USER, k=100)}
        new = found["new-1"]
        assert new["title"] == "red thing of tomorrow"
        assert new["details"] == {"category": NEW["category"], "price": 9.5}
        assert new["source"] == "two_tower"
        assert new["score"] > 0.3
        others = [user for user in range(NUM_USERS) if liked_by(user) != NEW["category"]]
        assert not any("new-1" in ids_of(client, user_id=100 + user, k=20) for user in others)
        near = client.get("/items/new-1/similar", b"k=20").json
        assert len(near["items"]) == 20
        assert {item["details"]["category"] for item in near["items"]} == {NEW["category"]}
        assert "new-1" not in {item["item_id"] for item in near["items"]}
        back = [client.get(f"/items/{item['item_id']}/similar", b"k=100").json for item in near["items"]]
        assert any("new-1" in {item["item_id"] for item in answer["items"]} for answer in back)


def test_nothing_else_moves_in_any_list(replicas: tuple[Client, Client]) -> None:
    def lists() -> list[Any]:
        return [items_of(replicas[1], user_id=100 + user, k=100) for user in range(NUM_USERS)]

    before = lists()
    register(*replicas, "silent", title="unheard of")  # says nothing that the model reads: it is never found
    assert lists() == before
    register(*replicas, "new-1", **NEW)
    for old, new in zip(before, lists(), strict=True):
        if "new-1" not in [item["item_id"] for item in new]:
            assert new == old
        rest = [item for item in new if item["item_id"] != "new-1"]
        assert [item["item_id"] for item in rest] == [item["item_id"] for item in old][: len(rest)]


def test_a_new_item_is_read_in_histories_left_out_and_barred(replicas: tuple[Client, Client]) -> None:
    one, other = replicas
    register(one, other, "new-1", **NEW)
    stranger = other.post({"history": ["new-1"], "request_time": NOW, "strict": True, "k": 20}).json
    assert stranger["fallback"] == "history"
    assert {item["details"]["category"] for item in stranger["items"][:10]} == {NEW["category"]}
    assert "new-1" not in ids_of(other, history=["new-1"], k=NUM_ITEMS)
    assert "new-1" in ids_of(other, user_id=100 + USER, k=100)
    assert "new-1" not in ids_of(other, user_id=100 + USER, k=100, exclude=["new-1"], strict=True)
    assert put(one, "new-1", available=False).status == 202
    eventually(lambda: "new-1" not in ids_of(other, user_id=100 + USER, k=100))
    assert put(one, "new-1", available=True).status == 202
    eventually(lambda: "new-1" in ids_of(other, user_id=100 + USER, k=100))
    # Not there from the beginning, by availability or by a column.
    register(one, other, "new-2", **NEW, available=False)
    register(one, other, "new-3", **NEW, in_stock=False)
    assert not {"new-2", "new-3"} & set(ids_of(other, user_id=100 + USER, k=NUM_ITEMS))


def test_what_is_done_with_a_new_item_counts(own_store: Store, made: list[FusedService]) -> None:
    one, other = clients(own_store, made, APPLICATION)
    # Before it was told of, too: events need not wait for their item.
    early = {"user_id": 101, "item_id": "new-1", "rating": 4.0, "time": NOW + 5}
    assert one.post({"events": [early]}, path="/events").json["unknown_items"] == ["new-1"]
    register(one, other, "new-1", **NEW)
    ask = {"user_id": 100 + USER, "request_time": NOW + 60, "k": 50, "explain": True, "exclude": []}

    def features() -> dict[str, Any] | None:
        found = {item["item_id"]: item for item in other.post(ask).json["items"]}
        return found["new-1"]["features"] if "new-1" in found else None

    eventually(lambda: "new-1" in ids_of(other, user_id=100 + USER, request_time=NOW + 60, k=NUM_ITEMS))
    assert "new-1" not in ids_of(other, user_id=101, request_time=NOW + 60, k=NUM_ITEMS)
    told = [{"user_id": 100 + n, "item_id": "new-1", "rating": 5.0, "time": NOW + 10} for n in (2, 3, 6)]
    told.append({"user_id": "stranger", "item_id": "new-1", "time": NOW + 10})
    told.append({"item_id": "new-1", "time": NOW + 10, "kind": "purchase", "value": 99.0})
    assert one.post({"events": told}, path="/events").json["unknown_items"] == []
    for user in (102, 103, 106):
        eventually(
            lambda user=user: "new-1" not in ids_of(other, user_id=user, request_time=NOW + 60, k=NUM_ITEMS)
        )
    eventually(
        lambda: other.post({"user_id": "stranger", "request_time": NOW + 60}).json["fallback"] == "history"
    )
    pipeline = made[1].growing.now
    row = pipeline.catalogue.item_rows["new-1"]
    assert pipeline._log is not None
    statistics = pipeline._log.items_before(np.array([row]), NOW + 60)
    assert statistics.events_K.tolist() == [6]
    assert statistics.rating_sum_K.tolist() == [4 + 3 * 5 + 2], "a price is no rating"
    if (found := features()) is not None:
        assert found["item_events"] == 6
        assert found["item_price"] == 9.5


def test_features_of_a_new_item_are_those_of_a_cold_one(own_store: Store, made: list[FusedService]) -> None:
    """By column what it says, of events none: as the ranker was trained to read."""
    _, other = one, other = clients(own_store, made, APPLICATION)
    register(one, other, "new-1", **NEW)
    answers = [
        other.post({"user_id": 100 + user, "request_time": NOW, "k": 50, "explain": True}).json
        for user in range(NUM_USERS)
    ]
    assert any("new-1" in answer["candidates"]["item_ids"] for answer in answers)
    pipeline = made[1].growing.now
    assert pipeline._log is not None
    items, row = pipeline._log.items, pipeline.catalogue.item_rows["new-1"]
    assert row == NUM_ITEMS
    assert items.numbers["price"][row] == np.float32(9.5)
    assert np.isnan(items.numbers["pages"][row])
    assert np.isnan(items.dates["made"][row])
    places, names = items.labels["category"]
    assert names[places[row, 0] - 1] == NEW["category"]
    past = pipeline._log.items_before(np.array([row]), NOW)
    assert past.events_K.tolist() == [0]
    assert np.isnan(past.last_time_K).all()


def test_what_is_said_of_a_known_item_is_shown_and_the_rest_of_it_stays(
    own_store: Store, made: list[FusedService], world: World
) -> None:
    one, other = clients(own_store, made, RETRIEVER)
    shown = items_of(other, user_id=100 + USER)[0]
    item = shown["item_id"]
    assert put(one, item, price=1.25, title="now cheap").status == 202

    def now() -> dict[str, Any]:
        return next(each for each in items_of(other, user_id=100 + USER) if each["item_id"] == item)

    eventually(lambda: now()["title"] == "now cheap")
    assert now()["details"] == {"category": shown["details"]["category"], "price": 1.25}
    assert now()["score"] == shown["score"]  # learnt from events: its vector is not moved by a word
    row = made[1].growing.now.catalogue.item_rows[item]
    log = made[1].growing.now._log
    assert log is not None
    assert log.items.numbers["price"][row] == np.float32(1.25)
    assert log.items.numbers["pages"][row] == world.log.items.numbers["pages"][row]
    put(one, item, price=None)
    eventually(lambda: now()["details"]["price"] is None)
    put(one, item, in_stock=False)
    eventually(lambda: item not in ids_of(other, user_id=100 + USER, k=NUM_ITEMS))
    # Whichever word is used, the later one counts.
    put(one, item, available=True)
    eventually(lambda: item in ids_of(other, user_id=100 + USER, k=NUM_ITEMS))
    put(one, item, in_stock=False)
    eventually(lambda: item not in ids_of(other, user_id=100 + USER, k=NUM_ITEMS))
    put(one, item, in_stock=True)
    eventually(lambda: item in ids_of(other, user_id=100 + USER, k=NUM_ITEMS))


def test_a_later_version_is_told_again(own_store: Store, made: list[FusedService]) -> None:
    one, other = clients(own_store, made, RETRIEVER)
    register(one, other, "new-1", **NEW)
    put(one, "new-1", price=3.0)
    put(one, "new-1", available=False)
    put(one, "i3", title="third")
    eventually(lambda: made[1].growing.now.catalogue.titles[3] == "third")
    own_store.promote(RETRIEVER, 2)
    for service in made:
        eventually(lambda service=service: service.pinned().reference.version == 2)
    pipeline = made[1].growing.now
    row = pipeline.catalogue.item_rows["new-1"]
    assert pipeline.catalogue.details(row) == {"category": NEW["category"], "price": 3.0}
    assert pipeline.catalogue.titles[3] == "third"
    assert "new-1" not in ids_of(other, user_id=100 + USER, k=NUM_ITEMS)
    put(one, "new-1", available=True)
    eventually(lambda: "new-1" in ids_of(other, user_id=100 + USER, k=NUM_ITEMS))


def test_a_version_that_knows_the_item_uses_its_own(
    own_store: Store, made: list[FusedService], world: World
) -> None:
    """An id of the catalogue that was told of under the version before, which did not know it."""
    one, other = clients(own_store, made, RETRIEVER)
    register(one, other, "i999", **NEW)
    renamed = world.items.with_columns(
        pl.when(pl.col("raw_id") == "i7").then(pl.lit("i999")).otherwise("raw_id").alias("raw_id")
    )
    publish_shop(own_store, replace(world, items=renamed), 1)
    own_store.promote(RETRIEVER, 3)
    eventually(lambda: made[1].pinned().reference.version == 3)
    catalogue = made[1].growing.now.catalogue
    assert catalogue.item_rows["i999"] == 7
    assert len(catalogue.item_raw_ids) == NUM_ITEMS
    assert catalogue.titles[7] == NEW["title"]  # what it is was said later than the version was made


def test_what_can_be_had_again_can_be_had_of_a_later_version_too(
    own_store: Store, made: list[FusedService], world: World
) -> None:
    """Its catalogue says otherwise: it was made before that was told."""
    one, _ = clients(own_store, made, RETRIEVER)
    user = next(user for user in range(NUM_USERS) if 10 not in world.seen(user))

    def shows_it(service: FusedService) -> bool:
        return "i10" in ids_of(Client(create_app(service)), user_id=100 + user, k=NUM_ITEMS)

    assert not shows_it(made[0])
    assert put(one, "i10", available=True).status == 202
    for service in made:
        eventually(lambda service=service: shows_it(service))
    own_store.promote(RETRIEVER, 2)
    for service in made:
        eventually(lambda service=service: service.pinned().reference.version == 2)
        assert shows_it(service)
    made.append(FusedService(made[0]._config, made[0]._hub))  # started anew
    assert shows_it(made[-1])


def test_a_stand_in_remembers_lists_when_items_are_added(
    own_store: Store, made: list[FusedService], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = clients(own_store, made, RETRIEVER)
    before = ids_of(other, user_id=100 + USER)
    register(one, other, "new-1", **NEW)

    def broken(self: Searcher, user_id: int) -> Any:
        raise FloatingPointError("vectors on fire")

    monkeypatch.setattr(Searcher, "known_ahead", broken)
    answer = other.post({"user_id": 100 + USER, "request_time": NOW}).json
    assert answer["fallback"] == "recent"
    assert [item["item_id"] for item in answer["items"]] == before[:10]


def test_columns_that_a_later_version_lacks_are_left_out(own_store: Store, made: list[FusedService]) -> None:
    """The decoder's application has no such columns, and takes nothing in at all."""
    service = FusedService(ServiceConfig(application=RETRIEVER, store=str(own_store.root)), hub := LocalHub())
    made.append(service)
    hub.append([Content("odd", {"category": 7, "gone": "x", "title": "odd", "pages": 1e9})])  # type: ignore[dict-item]
    service._feed.look()
    catalogue = service.growing.now.catalogue
    row = catalogue.item_rows["odd"]
    assert catalogue.titles[row] == "odd"
    assert catalogue.details(row) == {"category": None, "price": None}
    assert service.health()["problem"] is None


BAD = [
    ({"categry": "books"}, "categry: the items have no such column, did you mean 'category'?"),
    ({"raw_id": "x"}, "raw_id: the items have no such column"),
    ({"train_count": 5}, "train_count: the items have no such column"),
    ({"category": 7}, "category: must be text, not 7"),
    ({"title": ["a"]}, "title: must be text, not a list"),
    ({"price": "9.5"}, "price: must be a finite number, not text"),
    ({"price": True}, "price: must be a finite number, not a truth value"),
    (b'{"price": NaN}', "price: must be a finite number, not nan"),
    (b'{"price": 1e999}', "price: must be a finite number, not inf"),
    ({"pages": 1.5}, "pages: must be a whole number, not 1.5"),
    ({"pages": 70_000}, "pages: must be within the range of Int16, not 70000"),
    ({"pages": 10**30}, "pages: must be within the range of Int16"),
    ({"tags": "a"}, "tags: must be a list of at most 64 texts, not text"),
    ({"tags": ["a"] * 65}, "tags: must be at most 64 texts, not 65"),
    ({"tags": ["a", 1]}, "tags: must be text, not 1"),
    ({"in_stock": 1}, "in_stock: must be true or false, not 1"),
    ({"made": "yesterday"}, "made: must be a date or time in ISO 8601"),
    ({"made": 17}, "made: must be a date or time in ISO 8601"),
    ({"available": "yes"}, "available: Input should be a valid boolean"),
    ({}, "body: say something of the item"),
    ([], "body: "),
]


@pytest.mark.parametrize(("body", "message"), BAD)
def test_what_items_cannot_have_is_refused_and_nothing_of_it_is_kept(
    replicas: tuple[Client, Client], made: list[FusedService], body: Any, message: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    for item in ("new-9", "i3"):
        answer = replicas[0].send("PUT", f"/items/{item}", content, JSON_TYPE)
        assert answer.status == 422, answer.body
        assert message in answer.json["message"]
    assert made[0]._hub.after(0, "").told == []


def test_an_id_is_not_blank_and_what_is_too_large_is_refused(replicas: tuple[Client, Client]) -> None:
    assert put(replicas[0], "  ", title="x").status == 422
    assert put(replicas[0], "  ", available=False).status == 422
    assert put(replicas[0], "x" * 201, title="x").status == 422
    answer = put(replicas[0], "new-1", title="x" * MAX_ITEM_BODY_BYTES)
    assert answer.status == 413
    assert put(replicas[0], " new-1 ", **NEW).json["accepted"] == 1
    eventually(lambda: is_known(replicas[1], "new-1"))
    assert replicas[1].get("/items/ new-1 /similar").json["item_id"] == "new-1"
    assert put(replicas[0], "not new", available=True).json["unknown_items"] == ["not new"]
    assert put(replicas[0], "new-2", **NEW, made="2026-01-31", available=True).json["accepted"] == 2


def test_so_many_and_no_more(
    replicas: tuple[Client, Client], made: list[FusedService], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "MOST_ITEMS", 2)
    register(*replicas, "new-1", **NEW)
    register(*replicas, "new-2", **NEW)
    answer = put(replicas[0], "new-3", **NEW)
    assert (answer.status, answer.json["error"]) == (429, "items_full")
    assert put(replicas[1], "new-2", price=2.0).status == 202  # it is known already


def test_what_the_version_says_itself_takes_no_place(
    replicas: tuple[Client, Client], made: list[FusedService], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "MOST_ITEMS", 2)
    items = (
        made[0]
        .growing._published.catalogue[1]
        .drop("train_count", "raw_id")
        .with_columns(pl.col("made").cast(pl.String))
    )
    learnt = [Content(f"i{n}", row) for n, row in enumerate(items.head(10).iter_rows(named=True))]
    made[0]._hub.append(
        [Content(one.item_id, {name: value}) for one in learnt for name, value in one.values.items()]
    )
    made[0]._feed.look()
    assert made[0].growing.revision == 0
    register(*replicas, "new-1", **NEW)
    register(*replicas, "i0", price=77.0)
    for service in made:
        eventually(lambda service=service: service.growing.is_full)
    assert put(replicas[0], "new-2", **NEW).json["error"] == "items_full"
    made[0]._hub.append([Content("i0", {"price": learnt[0].values["price"]})])  # it is as it was
    for service in made:
        eventually(lambda service=service: not service.growing.is_full)
    assert items_of(replicas[0], user_id=100 + USER, k=100) == items_of(
        replicas[1], user_id=100 + USER, k=100
    )
    register(*replicas, "new-2", **NEW)
    assert [service.growing.now.catalogue.item_rows["new-2"] for service in made] == [NUM_ITEMS + 1] * 2


def test_many_at_once_are_taken_in_together(
    replicas: tuple[Client, Client], made: list[FusedService]
) -> None:
    seen: list[int] = []
    service = made[1]
    make = service.growing._make

    def counted(version: Any, live: Any) -> Any:
        seen.append(len(version.new_raw_ids))
        return make(version, live)

    service.growing._make = counted
    made[0]._hub.append([Content(f"new-{n}", NEW) for n in range(300)])
    eventually(lambda: is_known(replicas[1], "new-299"))
    assert len(seen) <= 3
    assert seen[-1] == 300
    rows = service.growing.now.catalogue.item_rows
    assert [rows[f"new-{n}"] for n in range(300)] == list(range(NUM_ITEMS, NUM_ITEMS + 300))


def test_what_cannot_be_taken_in_leaves_the_version_serving_and_is_said(
    replicas: tuple[Client, Client], made: list[FusedService]
) -> None:
    service = made[1]
    make, before = service.growing._make, ids_of(replicas[1], user_id=100 + USER)

    def broken(version: Any, live: Any) -> Any:
        raise RuntimeError("out of memory")

    service.growing._make = broken
    assert put(replicas[0], "new-1", **NEW).status == 202
    eventually(lambda: service.health()["status"] == "degraded")
    assert "RuntimeError: out of memory" in str(service.health()["problem"])
    assert ids_of(replicas[1], user_id=100 + USER) == before
    service.growing._make = make  # it is tried again, whether or not more is told
    eventually(lambda: is_known(replicas[1], "new-1"))
    assert service.health()["status"] == "ok"


def test_a_kept_answer_does_not_miss_a_new_item(own_store: Store, made: list[FusedService]) -> None:
    one, other = clients(own_store, made, RETRIEVER, cache_s=600.0)
    ask = {"user_id": 100 + USER, "k": 100}
    eventually(lambda: "cached_s" in other.post(ask).json)
    assert put(one, "new-1", **NEW).status == 202
    eventually(lambda: "new-1" in [item["item_id"] for item in other.post(ask).json["items"]])
    eventually(lambda: "cached_s" in other.post(ask).json)
    assert put(one, "new-1", title="another").status == 202
    eventually(lambda: "another" in [item["title"] for item in other.post(ask).json["items"]])


def test_rules_know_new_items(own_store: Store, made: list[FusedService]) -> None:
    rules = Rules(
        per_category=PerCategoryConfig(at_most=2, column="category"), diversity=DiversityConfig(strength=0.3)
    )
    one, other = clients(own_store, made, RETRIEVER, rules=rules)
    for n in range(3):
        register(one, other, f"new-{n}", **NEW)
    for user in range(NUM_USERS):
        shown = items_of(other, user_id=100 + user, k=8)
        counts = [item["details"]["category"] for item in shown]
        assert max(counts.count(each) for each in set(counts)) <= 2


def test_a_decoder_takes_no_new_items_in_and_says_why(own_store: Store, made: list[FusedService]) -> None:
    one, _ = clients(own_store, made, DECODER)
    answer = put(one, "new-1", title="x")
    assert (answer.status, answer.json["error"]) == (422, "cannot_register")
    assert "train it with the new ones" in answer.json["message"]
    assert put(one, "i3", available=False).status == 202


def test_a_decoder_beside_goes_on_with_the_items_that_it_knows(
    own_store: Store, made: list[FusedService]
) -> None:
    one, other = clients(own_store, made, APPLICATION, second_source=DECODER)
    register(one, other, "new-1", **NEW)
    found = items_of(other, user_id=100 + USER, history=["i4", "new-1"], k=60)
    assert {"decoder", "two_tower"} <= {item["source"] for item in found}
    event = {"user_id": 100 + USER, "item_id": "new-1", "time": NOW - 1}
    assert one.post({"events": [event]}, path="/events").status == 202
    assert items_of(other, user_id=100 + USER, history=["new-1"])
