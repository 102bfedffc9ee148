"""What is shown and told stands in the log as it was, and is known again after a restart."""

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recray.config import ConfigError
from recray.event_log.claims import marked
from recray.event_log.reading import Log, read
from recray.event_log.records import KINDS, WANTED
from recray.event_log.sinks import open_sink
from recray.event_log.tables import FEATURE
from recray.event_log.writer import LogWriter
from recray.serve.events.hub import LocalHub
from recray.serve.events.recorded import recorded
from recray.serve.events.told import Availability, Content, Event
from recray.serve.http.gateway import create_app
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.serve.place.log_actor import RunningLog
from recray.serve.place.pipeline import Pipeline
from recray.serve.rules.explore import ExploreConfig
from recray.serve.rules.per_category import PerCategoryConfig
from recray.serve.stages.listed import Rules
from recray.serve.traffic.exposures import Desk
from recray.serve.versions import open_served
from recray.store import Store
from tests.serve.asgi import Answer, Client
from tests.serve.test_events import eventually
from tests.serve.test_traffic import Shop
from tests.serve.test_traffic import shop as shop_with_a_desk
from tests.serve.world import APPLICATION

__all__ = ["shop_with_a_desk"]  # a fixture

RULES = Rules(
    per_category=PerCategoryConfig(column="genres", at_most=3),
    explore=ExploreConfig(policy="plackett_luce"),
)


class Recorded:
    """A replica whose answers are taken down."""

    def __init__(self, store: Store, *, hub: LocalHub | None = None, **options: Any) -> None:
        config = ServiceConfig(application=APPLICATION, store=str(store.root), **options)
        assert config.log_folder is not None
        self.folder = config.log_folder
        self.log = LogWriter(self.folder)
        self.service = FusedService(config, hub, keeper=self.log)
        self.client = Client(create_app(self.service))

    def ask(self, **fields: Any) -> Any:
        answer = self.client.post(fields)
        assert answer.status == 200, answer.body
        return answer.json

    def tell(self, *events: dict[str, Any]) -> Answer:
        return self.client.post({"events": list(events)}, path="/events")

    def read(self) -> Log:
        self.service._recorder.send()  # type: ignore[union-attr]  # it has a log
        return read(self.folder)

    def stop(self) -> None:
        self.service.stop()
        self.log.close()


@pytest.fixture
def start(own_store: Store) -> Iterator[Callable[..., Recorded]]:
    running: list[Recorded] = []

    def begin(**options: Any) -> Recorded:
        running.append(Recorded(own_store, **options))
        return running[-1]

    yield begin
    for one in running:
        one.service.stop()


def test_an_answer_stands_in_the_log_as_it_was_given(start: Callable[..., Recorded]) -> None:
    replica = start(rules=RULES)
    given = [replica.ask(user_id="103", k=7, context={"device": "phone"}), replica.ask(user_id="new", k=3)]
    shown = replica.read().shown
    for answer, user in zip(given, ["103", "new"], strict=True):
        rows = shown.filter(request_id=answer["request_id"])
        assert rows["item_id"].to_list() == [item["item_id"] for item in answer["items"]]
        assert rows["score"].to_list() == [item["score"] for item in answer["items"]]
        assert rows["source"].to_list() == [item["source"] for item in answer["items"]]
        assert rows["propensity"].to_list() == [item["propensity"] for item in answer["items"]]
        assert rows["rank"].to_list() == list(range(1, len(answer["items"]) + 1))
        first = rows.row(0, named=True)
        assert (first["user_id"], first["request_time"]) == (user, answer["request_time"])
        assert abs(first["at"] - time.time()) < 60
        assert json.loads(first["version"]) == {
            role: f"{one['name']}@{one['version']} {one['digest']}" for role, one in answer["version"].items()
        }
        assert "explore" in first["rules"]
        assert first["fallback"] == answer["fallback"]
    assert json.loads(shown["context"][0]) == {"device": "phone"}
    assert shown["asked"].to_list() == [7] * 7 + [3] * 3


def test_what_a_request_names_itself_stands_in_the_log(start: Callable[..., Recorded]) -> None:
    replica, too_long = start(), [f"{n:0>200}" for n in range(100)]
    items = [item["item_id"] for item in replica.ask(user_id="103", k=3)["items"]]
    replica.ask(history=items[:2], exclude=items[2:], k=1)
    replica.ask(user_id="103", history=[], k=1)
    replica.ask(user_id="103", exclude=too_long, k=1)
    shown = replica.read().shown.filter(rank=1)
    assert shown["brought"].to_list() == [0, 3, 0, 100]
    nothing, both, empty, not_kept = shown["named"].to_list()
    assert (nothing, not_kept) == (None, None)
    assert json.loads(both) == {"history": items[:2], "exclude": items[2:]}
    assert json.loads(empty) == {"history": []}  # not the one that is known


def test_a_clients_request_id_is_kept_and_tells_no_answers_apart(start: Callable[..., Recorded]) -> None:
    replica = start()
    headers = [(b"content-type", b"application/json"), (b"x-request-id", b"mine")]
    given = [replica.client.post({"user_id": user, "k": 3}, headers).json for user in ("103", "104")]
    for answer, user in zip(given, ["103", "104"], strict=True):
        item = answer["items"][0]["item_id"]
        replica.tell({"user_id": user, "item_id": item, "request_id": answer["request_id"]})
        replica.tell({"user_id": user, "item_id": item, "request_id": "mine"})
    log = replica.read()
    by_answer = log.shown.group_by("request_id", "trace_id", "user_id").len().sort("user_id")
    assert by_answer.rows() == [
        (a["request_id"], "mine", a_user, 3) for a, a_user in zip(given, ["103", "104"], strict=True)
    ]
    assert marked(log, 60)["mark"].to_list() == ["claimed", "forged"] * 2


def test_features_are_those_that_the_ranker_went_by(start: Callable[..., Recorded]) -> None:
    replica = start()
    answer = replica.ask(user_id="103", k=10)
    why = replica.ask(user_id="103", k=10, explain=True, request_time=answer["request_time"])
    replica.ask(user_id="103", request_time=answer["request_time"])
    shown = replica.read().shown
    assert shown["request_id"].unique().to_list() == [answer["request_id"]], "inspections are not taken down"
    names = [name.removeprefix(FEATURE) for name in shown.columns if name.startswith(FEATURE)]
    logged = [dict(zip(names, row, strict=True)) for row in shown.select(FEATURE + n for n in names).rows()]
    assert logged == [item["features"] for item in why["items"]]
    assert len(names) > 10


def test_an_answer_that_is_given_again_says_as_much_as_the_first(start: Callable[..., Recorded]) -> None:
    replica = start(rules=RULES, cache_s=60.0)
    given = [replica.ask(user_id="103", k=10) for _ in range(2)]
    assert ["cached_s" in answer for answer in given] == [False, True]
    shown = replica.read().shown
    own = ("request_id", "trace_id", "at", "took_ms", "seq")  # of each answer
    first, again = (shown.filter(request_id=answer["request_id"]).drop(own) for answer in given)
    assert again.equals(first)
    assert "explore" in again["rules"][0]
    assert again.select(pl.any_horizontal(pl.col(f"^{FEATURE}.*$").is_not_null()).all()).item()


def test_each_kind_is_taken_down_and_some_reach_the_versions(start: Callable[..., Recorded]) -> None:
    replica = start(rules=Rules())
    answer = replica.ask(user_id="103", k=10)
    items = [item["item_id"] for item in answer["items"]]
    claim = {"user_id": "103", "request_id": answer["request_id"]}
    events = [
        {**claim, "kind": kind, "item_id": item, "value": 2.5, "event_id": f"e-{kind}"}
        for kind, item in zip(KINDS, items, strict=False)
    ]
    told = replica.tell(*events)
    assert (told.status, told.json["accepted"], told.json["repeated"]) == (202, 7, 0)
    assert replica.tell(*events).json["repeated"] == 7
    log = replica.read()
    assert dict(log.events.select("kind", "value").iter_rows()) == dict.fromkeys(KINDS, 2.5)
    assert set(marked(log, 60)["mark"]) == {"claimed"}
    replica.service._feed.look()
    later = int(time.time()) + 2  # what happens in a second is known from the next one on
    asked = replica.ask(user_id="103", k=200, request_time=later)
    again = {item["item_id"] for item in asked["items"]}
    reached = {kind for kind, item in zip(KINDS, items, strict=False) if item not in again}
    assert reached == WANTED | {"dismissal"}


def test_a_hub_that_begins_anew_knows_what_the_log_has(
    start: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = start()
    items = [item["item_id"] for item in replica.ask(user_id="103", k=3)["items"]]
    replica.tell(
        {"user_id": "103", "item_id": items[0]}, {"user_id": "103", "item_id": items[1], "kind": "custom"}
    )
    replica.client.send(
        "PUT", f"/items/{items[1]}", b'{"available": false}', [(b"content-type", b"application/json")]
    )
    replica.client.send(
        "PUT", "/items/brand-new", b'{"title": "New", "year": 2024}', [(b"content-type", b"application/json")]
    )
    replica.stop()
    told = recorded(replica.folder)
    assert [one for one in told if isinstance(one, Availability)] == [Availability(items[1], False)]
    assert {"title": "New"} in [one.values for one in told if isinstance(one, Content)]
    assert [one.item_id for one in told if isinstance(one, Event)] == [items[0]]
    assert recorded(replica.folder, keep_days=1) == told
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr("time.time", lambda: now + 2 * 86_400)
        later = recorded(replica.folder, keep_days=1)
    assert [type(one) for one in later] == [Availability, Event]  # an item that is sold out stays so
    hub = LocalHub()
    hub.append(told)
    other = start(hub=hub)

    def found() -> set[str]:
        return {item["item_id"] for item in other.ask(user_id="103", k=200)["items"]}

    eventually(lambda: not found() & {*items[:2]})
    assert items[2] in found()
    assert "brand-new" in other.service.catalogue.item_rows


def test_without_a_log_nothing_is_taken_down_and_all_else_is_as_ever(
    own_store: Store, tmp_path: Path
) -> None:
    config = ServiceConfig(application=APPLICATION, store=str(own_store.root), record=False)
    assert config.log_folder is None
    service = FusedService(config)
    client = Client(create_app(service))
    assert client.post({"user_id": "103"}).status == 200
    told = client.post(
        {"events": [{"user_id": "103", "item_id": "i1"}, {"item_id": "i2", "kind": "impression"}]},
        path="/events",
    )
    assert (told.status, told.json["accepted"]) == (202, 2)
    service.stop()


def test_a_full_disk_is_said_and_answers_go_on(start: Callable[..., Recorded]) -> None:
    replica = start()
    replica.tell({"item_id": "i1"})

    def pages(most: int) -> None:
        replica.log.do(lambda live: live._connection.execute(f"pragma max_page_count = {most}").fetchone())

    pages(1)
    many = [{"item_id": f"i{n % 100}", "event_id": "x" * 150 + str(n)} for n in range(1_000)]
    refused = replica.tell(*many)
    assert (refused.status, refused.json["error"]) == (503, "events_not_kept")
    assert "full" in refused.json["message"]
    assert replica.ask(user_id="103")["items"]
    for _ in range(200):
        replica.ask(user_id="103", k=50)
    replica.service._recorder.send()  # type: ignore[union-attr]
    health = replica.client.get("/health").json
    assert health["status"] == "degraded"
    assert "full" in health["problem"]
    pages(1_000_000)
    assert replica.tell(*many).json["accepted"] == 1_000
    log = replica.read()
    assert log.shown["request_id"].n_unique() == 201
    assert log.events.height == 1_001
    assert replica.client.get("/health").json["problem"] is None


def test_answers_whose_receipt_was_lost_are_there_once(
    start: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    replica, kept = start(), LogWriter.expose

    def too_late(self: LogWriter, *args: Any) -> None:
        kept(self, *args)
        raise TimeoutError("the log did not answer")

    with monkeypatch.context() as patch:
        patch.setattr(LogWriter, "expose", too_late)
        first = replica.ask(user_id="103", k=3)
        replica.read()
        assert "did not answer" in replica.client.get("/health").json["problem"]
        second = replica.ask(user_id="103", k=3)
    shown = replica.read().shown
    assert sorted(shown["request_id"]) == sorted([first["request_id"]] * 3 + [second["request_id"]] * 3)


def test_an_event_has_one_number(start: Callable[..., Recorded]) -> None:
    refused = start().tell({"item_id": "i1", "rating": 4, "value": 2})
    assert refused.status == 422
    assert refused.json["message"] == "events[0]: send a rating or a value, not both"


def test_lists_of_experiments_say_whose_they_are(shop_with_a_desk: Shop) -> None:
    shop = shop_with_a_desk
    desk: Desk = shop.desk
    replica = Recorded(shop.store, poll_s=0.02)
    replica.stop()
    config = ServiceConfig(application=APPLICATION, store=str(shop.store.root), poll_s=0.02)
    log = LogWriter(replica.folder)
    service = FusedService(config, desk=desk, keeper=log)
    shop.begin("interleave", version=2, share=1.0)
    while not service._arms.serving.running:
        time.sleep(0.01)
    client = Client(create_app(service))
    answer = client.post({"user_id": "somebody", "k": 8}).json
    service.stop()
    service._recorder.send()  # type: ignore[union-attr]
    log.close()
    of_arms = {
        arm: Pipeline(open_served(shop.store, APPLICATION, number))
        for arm, number in (("production", 1), ("candidate", 2))
    }
    shown = read(replica.folder).shown
    assert shown["team"].to_list() == [item["arm"] for item in answer["items"]]
    assert set(shown["experiment"]) == {"interleaving-2"}
    numbers = {"production": 1, "candidate": 2}
    for row, item in zip(shown.iter_rows(named=True), answer["items"], strict=True):
        ranker = json.loads(row["version"])["ranker"].split()[0]
        assert ranker == f"{APPLICATION}@{numbers[item['arm']]}"
        alone = of_arms[item["arm"]].recommend(
            RecommendRequest(user_id="somebody", k=20, explain=True, request_time=answer["request_time"])
        )
        (own,) = (each for each in alone["items"] if each["item_id"] == item["item_id"])
        assert row["score"] == item["score"] == own["score"]
        went_by = {name: None if math.isnan(value) else value for name, value in own["features"].items()}
        assert {name: row[FEATURE + name] for name in went_by} == went_by


def test_a_log_goes_where_it_is_sent_as_well(tmp_path: Path) -> None:
    delta = f"delta:{tmp_path / 'delta'}"
    log = RunningLog(str(tmp_path / "shop"), 0, [delta])
    log.record([Event("ann", "i1", 1.0, 1.7e9)])
    log.close()
    assert open_sink(delta, "shop").last_row("events", log.node) == 1
    with pytest.raises(ConfigError, match="cannot be sent to 'kafka://host'"):
        ServiceConfig(application=APPLICATION, send_events_to=("kafka://host",))
