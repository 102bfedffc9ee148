"""Retrieval that is late, broken or gone: answers come all the same, in time, and say so. In one process."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from recray.bundles.searcher import Searcher
from recray.features.candidates import popular_first
from recray.serve.barred import Allowed, Barred
from recray.serve.http.gateway import create_app
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.serve.place.pipeline import Pipeline
from recray.serve.stages.decoder import DecoderSource
from recray.serve.stages.listed import StagesConfig
from recray.serve.stages.retrieve import Popular
from recray.serve.versions import open_served
from recray.store import Store
from tests.serve.asgi import Client
from tests.serve.generative_world import DECODER, publish_decoder
from tests.serve.test_events import eventually, put, tell
from tests.serve.test_generative import ask as ask_pipeline
from tests.serve.world import APPLICATION, NOW, NUM_ITEMS, World

FAILED = [{"stage": "retrieve", "reason": "failed"}]
LATE = [{"stage": "retrieve", "reason": "late"}]


@pytest.fixture
def client(own_store: Store) -> Iterator[Client]:
    service = FusedService(ServiceConfig(application=APPLICATION, store=str(own_store.root), poll_s=0.05))
    yield Client(create_app(service))
    service.stop()


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called: from now on no vector of a user is found any more."""

    def broken(self: Searcher, *args: Any) -> Any:
        raise FloatingPointError("vectors on fire")

    def now() -> None:
        monkeypatch.setattr(Searcher, "known_ahead", broken)

    return now


def ask(client: Client, **fields: Any) -> Any:
    answer = client.post({"user_id": 103, "request_time": NOW, **fields})
    assert answer.status == 200, answer.body
    return answer.json


def ids(answer: Any) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def test_what_was_found_for_a_user_before_is_ranked_anew(
    client: Client, breaks: Callable[[], None], world: World
) -> None:
    before = ask(client, k=20)
    breaks()
    answer = ask(client, k=20)
    assert (answer["fallback"], answer["skipped"]) == ("recent", FAILED)
    assert answer["items"] == before["items"]
    everything = ids(ask(client, k=NUM_ITEMS))
    assert everything[:20] == ids(before)
    assert len(everything) == len(set(everything)) == NUM_ITEMS - len(world.seen(3))
    assert ids(ask(client, k=5)) == ids(before)[:5]


def test_what_was_seen_since_or_cannot_be_had_stays_out(client: Client, breaks: Callable[[], None]) -> None:
    before = ids(ask(client, k=20))
    breaks()
    tell(client, {"user_id": 103, "item_id": before[0], "time": NOW - 5})
    tell(client, {"user_id": 103, "item_id": before[1], "time": NOW + 5})
    put(client, before[2], False)
    later = {"request_time": NOW + 60, "exclude": [before[3]], "k": NUM_ITEMS}
    eventually(lambda: not set(before[1:4]) & set(ids(ask(client, **later))))
    assert ask(client, **later)["fallback"] == "recent"


def test_whoever_was_not_asked_for_before_gets_what_is_popular(
    client: Client, breaks: Callable[[], None], world: World
) -> None:
    breaks()
    answer = ask(client, k=NUM_ITEMS)
    assert (answer["fallback"], answer["skipped"]) == ("popular", FAILED)
    assert {item["source"] for item in answer["items"]} == {"popular"}
    assert not {int(item[1:]) for item in ids(answer)} & world.seen(3)
    assert len(answer["items"]) == NUM_ITEMS - len(world.seen(3))
    unscored = [item["item_id"] for item in answer["items"] if item["score"] is None]
    by_count = sorted((int(item[1:]) for item in unscored), key=lambda i: (-world.counts_I[i], i))
    assert unscored == [f"i{i}" for i in by_count]
    told = client.get("/metrics").body.decode()
    assert 'recray_skipped_total{reason="failed",replica=' in told
    assert 'stage="retrieve"' in told


def test_another_version_does_not_answer_with_what_this_one_found(
    own_store: Store, breaks: Callable[[], None]
) -> None:
    service = FusedService(ServiceConfig(application=APPLICATION, store=str(own_store.root), poll_s=0.05))
    client = Client(create_app(service))
    ask(client)
    own_store.promote(APPLICATION, 2)
    eventually(lambda: service.pinned().reference.version == 2)
    breaks()
    assert ask(client)["fallback"] == "popular"
    service.stop()


def test_a_retriever_that_takes_too_long_for_a_budget_is_not_waited_for(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_ahead = Searcher.known_ahead

    def slow(self: Searcher, user_id: int) -> Any:
        time.sleep(0.05)
        return known_ahead(self, user_id)

    monkeypatch.setattr(Searcher, "known_ahead", slow)
    for _ in range(30):
        before = ask(client)
    late = ask(client, budget_ms=30)
    assert (late["fallback"], late["skipped"][:1]) == ("recent", LATE)
    assert set(ids(late)) <= {f"i{i}" for i in range(NUM_ITEMS)}
    assert ask(client)["items"] == before["items"]
    assert ask(client)["skipped"] == []


def test_a_measurement_and_a_versions_trial_fail_with_it(
    own_store: Store, breaks: Callable[[], None]
) -> None:
    breaks()
    with pytest.raises(FloatingPointError, match="vectors on fire"):
        Pipeline(open_served(own_store, APPLICATION))


@pytest.fixture
def beside(own_store: Store, world: World) -> Pipeline:
    publish_decoder(own_store, world)
    own_store.promote(DECODER, 1)
    config = StagesConfig(second_source_items=30)
    return Pipeline(open_served(own_store, APPLICATION, second_source=DECODER), config)


def test_a_second_source_that_fails_is_left_out(
    beside: Pipeline, own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: DecoderSource, *args: Any) -> Any:
        raise FloatingPointError("beams on fire")

    alone = ask_pipeline(Pipeline(open_served(own_store, APPLICATION)), user_id="103", k=20)
    assert ask_pipeline(beside, user_id="103")["skipped"] == []
    monkeypatch.setattr(DecoderSource, "propose", broken)
    answer = ask_pipeline(beside, user_id="103", k=20)
    assert answer["skipped"] == [{"stage": "second_source", "reason": "failed"}]
    assert answer["items"] == alone["items"]
    assert answer["fallback"] is None


def test_a_second_source_that_is_late_is_left_out_and_retrieval_is_not(
    beside: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose = DecoderSource.propose

    def slow(self: DecoderSource, *args: Any) -> Any:
        time.sleep(0.2)
        return propose(self, *args)

    monkeypatch.setattr(DecoderSource, "propose", slow)
    for _ in range(20):
        ask_pipeline(beside, user_id="103")
    answer = ask_pipeline(beside, user_id="103", budget_ms=120)
    assert {"stage": "second_source", "reason": "late"} in answer["skipped"]
    assert "retrieve" not in {one["stage"] for one in answer["skipped"]}


def test_popular_items_follow_what_can_be_had() -> None:
    barred = Barred(5)
    barred.bar(np.array([True, False, False, False, False]))  # when the version was loaded
    popular = Popular(popular_first(np.array([9, 7, 7, 8, 1])), barred)
    assert popular.first_I.tolist() == [3, 1, 2, 4, 0]
    assert popular.first_I is popular.first_I
    barred.change({0: True, 3: False, 1: False})
    assert popular.first_I.tolist() == [0, 2, 4, 3, 1]
    # What some contexts allow and others do not keeps its place.
    allowed = Allowed(("market",), {"de": np.array([0])}, np.array([False, False, True, False, False]))
    barred.deny(np.zeros(5, bool), (allowed,))
    assert popular.first_I.tolist() == [0, 2, 4, 3, 1]
