"""A ranker that is slow or broken on a running server: answers come without it, in time, and say so."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from recray.models.gbdt import GBDTRanker
from recray.serve.http.gateway import create_app
from recray.serve.http.requests import MAX_BUDGET_MS
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.store import Store
from tests.serve.asgi import Client
from tests.serve.world import APPLICATION, NOW, RETRIEVER, World

SLOW_S = 0.05


@pytest.fixture
def client(own_store: Store) -> Iterator[Client]:
    service = FusedService(ServiceConfig(application=APPLICATION, store=str(own_store.root)))
    yield Client(create_app(service))
    service.stop()


@pytest.fixture
def slow(client: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    """From now on its ranker takes long, and it has learnt so."""
    fast = GBDTRanker.score

    def score(self: GBDTRanker, *args: Any) -> Any:
        time.sleep(SLOW_S)
        return fast(self, *args)

    monkeypatch.setattr(GBDTRanker, "score", score)
    for _ in range(30):
        ask(client)
    return client


def ask(client: Client, **fields: Any) -> Any:
    answer = client.post({"user_id": 103, "request_time": NOW, **fields})
    assert answer.status == 200, answer.body
    return answer.json


def order_of_retrieval(own_store: Store, world: World) -> list[str]:
    service = FusedService(
        ServiceConfig(application=RETRIEVER, store=str(own_store.root))
    )  # has no log: what was seen is left out here
    found = ask(Client(create_app(service)), k=100)["items"]
    service.stop()
    return [item["item_id"] for item in found if int(item["item_id"][1:]) not in world.seen(3)]


def test_a_ranker_that_is_late_is_left_out(slow: Client, own_store: Store, world: World) -> None:
    answer = ask(slow, budget_ms=10)
    assert answer["skipped"] == [{"stage": "rank", "reason": "late"}]
    assert [item["item_id"] for item in answer["items"]] == order_of_retrieval(own_store, world)[:10]
    assert ask(slow)["skipped"] == []
    assert ask(slow, budget_ms=MAX_BUDGET_MS)["skipped"] == []
    told = slow.get("/metrics").body.decode()
    assert 'reason="late"' in next(
        line for line in told.splitlines() if line.startswith("recray_skipped_total")
    )


def test_reasons_there_is_no_time_for_are_left_out(slow: Client) -> None:
    answer = ask(slow, budget_ms=10, explain=True)
    assert {"stage": "rank", "reason": "late"} in answer["skipped"]
    assert len(answer["items"]) == 10


def test_a_ranker_that_fails_is_left_out(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ask(client)

    def broken(self: GBDTRanker, *args: Any) -> Any:
        raise FloatingPointError("trees on fire")

    with monkeypatch.context() as patch:
        patch.setattr(GBDTRanker, "score", broken)
        answer = ask(client)
        assert answer["skipped"] == [{"stage": "rank", "reason": "failed"}]
        scores = [item["score"] for item in answer["items"]]
        assert scores == sorted(scores, reverse=True)
    assert ask(client)["items"] == before["items"]


def test_a_version_whose_ranker_fails_is_not_taken(own_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: GBDTRanker, *args: Any) -> Any:
        raise FloatingPointError("trees on fire")

    monkeypatch.setattr(GBDTRanker, "score", broken)
    with pytest.raises(FloatingPointError, match="trees on fire"):
        FusedService(ServiceConfig(application=APPLICATION, store=str(own_store.root)))


def test_the_application_may_have_a_budget_of_its_own(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ServiceConfig(application=APPLICATION, store=str(own_store.root), budget_ms=30)
    service = FusedService(config)
    client = Client(create_app(service))
    monkeypatch.setattr(GBDTRanker, "score", lambda self, *args: time.sleep(SLOW_S) or np.zeros(len(args[0])))
    reasons = {one["reason"] for _ in range(60) for one in ask(client)["skipped"]}
    assert reasons == {"late"}
    service.stop()


@pytest.mark.parametrize("budget", [0, -1, MAX_BUDGET_MS + 1, 1.5, "10"])
def test_budgets_that_are_none_are_refused(client: Client, budget: Any) -> None:
    answer = client.post({"user_id": 103, "budget_ms": budget})
    assert answer.status == 422
    assert answer.json["message"].startswith("budget_ms: ")
