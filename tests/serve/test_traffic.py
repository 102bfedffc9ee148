"""Experiments on live traffic, through the gateway: arms, interleaved lists, shadows, changes, outcomes."""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import TypeAdapter

from recray.folders import write_whole
from recray.serve.http.admin import CHANGES, TOKEN
from recray.serve.http.gateway import create_app
from recray.serve.http.requests import RecommendRequest, RequestError
from recray.serve.http.traffic_answers import Traffic
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.serve.place.pipeline import Pipeline
from recray.serve.traffic.analysis import FOLDER, Analysis
from recray.serve.traffic.arms import Arms
from recray.serve.traffic.exposures import ArmAnswer, Batch
from recray.serve.traffic.operations import Operations
from recray.serve.traffic.shadow import agreement
from recray.serve.versions import ServedBundles, open_served
from recray.store import Store
from recray.store.journal import JOURNAL_FILE, Turn
from tests.serve.asgi import JSON_TYPE, Answer, LoopClient
from tests.serve.test_follower import eventually
from tests.serve.world import APPLICATION, NUM_USERS
from tests.store.test_traffic import damaged

USERS = [f"visitor-{n}" for n in range(400)]
TRAFFIC = TypeAdapter(Traffic)
NUMBERS = itertools.count(1)  # of batches
GOOD = (b"authorization", b"Bearer a-token")


@dataclass
class Shop:
    """A replica with a desk of its own."""

    store: Store
    service: FusedService
    desk: Analysis
    client: LoopClient

    def ask(self, user: str, **fields: Any) -> Any:
        answer = self.client.post({"user_id": user, **fields})
        assert answer.status == 200, answer.body
        return answer.json

    def change(self, action: str, **fields: Any) -> Answer:
        return self.client.post(fields, [*JSON_TYPE, GOOD], f"/admin/{action}")

    def do(self, action: str, **fields: Any) -> None:
        answer = self.change(action, **fields)
        assert (answer.status, answer.json["done"]) == (200, action), answer.body

    def begin(self, action: str, **fields: Any) -> None:
        """Starts an experiment, and waits until it is asked."""
        self.do(action, **fields)
        eventually(lambda: bool(self.service._arms.serving.running))

    def arm(self, user: str) -> str | None:
        answer = self.ask(user)
        return answer["arm"]["arm"] if "arm" in answer else None

    def traffic(self) -> Any:
        self.service._reporter.send()  # type: ignore[union-attr]  # it has a desk
        answer = self.client.get("/traffic").json
        assert TRAFFIC.validate_python(answer) == answer, "a field that its type does not know is left out"
        return answer

    def tell(self, **event: Any) -> None:
        answer = self.client.post({"events": [event]}, path="/events")
        assert answer.status == 202, answer.body


@pytest.fixture
def shop(own_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv(TOKEN, "a-token")
    desk = Analysis(own_store, APPLICATION)
    config = ServiceConfig(application=APPLICATION, store=str(own_store.root), poll_s=0.02)
    service = FusedService(config, desk=desk)
    client = LoopClient(create_app(service))
    yield Shop(own_store, service, desk, client)
    service.stop()
    client.close()


def again(shop: Shop) -> Shop:
    """Another replica over the same store, as after a restart."""
    config = ServiceConfig(application=APPLICATION, store=str(shop.store.root), poll_s=0.02)
    desk = Analysis(shop.store, APPLICATION)
    service = FusedService(config, desk=desk)
    eventually(lambda: bool(service._arms.serving.running))
    return Shop(shop.store, service, desk, LoopClient(create_app(service)))


def test_a_canary_gets_its_share_and_says_so(shop: Shop) -> None:
    assert all(shop.arm(user) is None for user in USERS[:20])
    shop.begin("canary", version=2, ramp="20%")
    answers = {user: shop.ask(user) for user in USERS}
    arms = {user: answer.get("arm", {}).get("arm") for user, answer in answers.items()}
    shares = Counter(arms.values())
    assert 50 < shares["canary"] < 115
    assert 50 < shares["baseline"] < 115
    versions = {arms[user]: answer["version"]["ranker"]["version"] for user, answer in answers.items()}
    assert versions == {None: 1, "baseline": 1, "canary": 2}
    experiment = shop.traffic()["experiments"][0]
    numbers = experiment["numbers"]["arms"]
    assert {arm: numbers[arm]["requests"] for arm in numbers} == {
        arm: shares[arm] for arm in ("baseline", "canary")
    }
    assert [arm["share"] for arm in experiment["arms"]] == [0.2, 0.2]
    shop.desk.look()
    assert shop.traffic()["experiments"][0]["verdicts"]["canary"]["action"] == "hold"


def test_a_user_keeps_the_arm_over_pause_and_restart(shop: Shop) -> None:
    shop.begin("canary", version=2, ramp="30%")
    before = {user: shop.arm(user) for user in USERS[:100]}
    assert set(before.values()) == {None, "baseline", "canary"}
    shop.do("pause", experiment="canary-2", why="lunch")
    eventually(lambda: shop.arm(next(u for u in before if before[u])) is None)
    assert all(shop.arm(user) is None for user in before)
    shop.do("resume", experiment="canary-2")
    eventually(lambda: shop.arm(next(u for u in before if before[u])) is not None)
    assert {user: shop.arm(user) for user in before} == before
    other = again(shop)
    assert {user: other.arm(user) for user in before} == before
    other.service.stop()


def test_what_somebody_only_inspects_is_not_counted(shop: Shop) -> None:
    shop.begin("ab", versions={"old": 1, "new": 2})
    shop.ask(USERS[0])
    shop.ask(USERS[0], explain=True)
    shop.ask(USERS[0], request_time=1_700_000_000)
    shop.client.post({})  # nobody in particular
    arms = shop.traffic()["experiments"][0]["numbers"]["arms"]
    assert sum(arm["requests"] for arm in arms.values()) == 1


def test_an_arm_that_fails_costs_its_users_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.begin("ab", versions={"old": 1, "new": 2})
    new = shop.service._arms.serving.loaded[
        shop.service._arms.serving.running[0].experiment.salt, "new"
    ].content.now
    real = Pipeline.made

    def fails(self: Pipeline, request: Any) -> Any:
        if self is new:
            raise ZeroDivisionError("a fault of the new version")
        return real(self, request)

    monkeypatch.setattr(Pipeline, "made", fails)
    answers = [shop.ask(user) for user in USERS[:60]]
    of_new = [answer for answer in answers if answer["arm"]["arm"] == "new"]
    assert of_new
    assert all(answer["arm"]["failed"] and answer["version"]["ranker"]["version"] == 1 for answer in of_new)
    assert all(answer["items"] for answer in answers)
    arms = shop.traffic()["experiments"][0]["numbers"]["arms"]
    assert (arms["new"]["rates"]["errors"], arms["old"]["rates"]["errors"]) == (1.0, 0.0)


def of_arm(shop: Shop, arm: str) -> Pipeline:
    serving = shop.service._arms.serving
    return serving.loaded[serving.running[0].experiment.salt, arm].content.now


def test_what_only_an_arm_refuses_production_answers(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.begin("ab", versions={"old": 1, "new": 2})
    new, real = of_arm(shop, "new"), Pipeline.made

    def refuses(self: Pipeline, request: Any) -> Any:
        if self is new or request.k == 7:  # what all refuse is the user's error
            raise RequestError(422, "invalid_request", "rows: no column of this version")
        return real(self, request)

    monkeypatch.setattr(Pipeline, "made", refuses)
    for user in USERS[:40]:
        shop.ask(user)
        assert shop.client.post({"user_id": user, "k": 7}).status == 422
    arms = shop.traffic()["experiments"][0]["numbers"]["arms"]
    assert (arms["new"]["rates"]["errors"], arms["old"]["rates"]["errors"]) == (1.0, 0.0)
    assert arms["new"]["requests"] + arms["old"]["requests"] == 40


def test_all_that_is_asked_for_one_answer_shares_its_budget(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.begin("interleave", version=2, share=1.0)
    arms, real, budgets = [of_arm(shop, arm) for arm in ("production", "candidate")], Pipeline.made, []

    def fails(self: Pipeline, request: Any) -> Any:
        budgets.append(request.budget_ms)
        if self in arms:
            time.sleep(0.02)
            raise ZeroDivisionError("a fault")
        return real(self, request)

    monkeypatch.setattr(Pipeline, "made", fails)
    shop.ask(USERS[0], budget_ms=1_000)
    assert budgets[:2] == [500, 500]
    assert budgets[2] <= 960
    shop.ask(USERS[0])
    assert budgets[3:] == [None, None, None]


def test_what_is_sent_again_after_a_time_out_counts_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.begin("ab", versions={"old": 1, "new": 2})
    real = shop.desk.take

    def takes_too_long(batch: Batch) -> None:
        real(batch)
        raise TimeoutError("no answer within 10 s")

    with monkeypatch.context() as late:
        late.setattr(shop.desk, "take", takes_too_long)
        for user in USERS[:5]:
            shop.ask(user)
        for _ in range(3):
            shop.service._reporter.send()  # type: ignore[union-attr]  # it has a desk
    shop.ask(USERS[5])
    shop.traffic()  # sends what was not taken, and then what came since
    arms = shop.traffic()["experiments"][0]["numbers"]["arms"]
    assert sum(arm["requests"] for arm in arms.values()) == 6


def test_interleaved_lists_draw_from_both_and_say_whose_each_item_is(shop: Shop) -> None:
    shop.begin("interleave", version=2, share=1.0)
    config = ServiceConfig(application=APPLICATION, store=str(shop.store.root))
    old, new = (Pipeline(open_served(shop.store, APPLICATION, version), config) for version in (1, 2))
    for user in USERS[:20]:
        answer = shop.ask(user)
        alone = {
            "production": [i["item_id"] for i in old.recommend(RecommendRequest(user_id=user))["items"]],
            "candidate": [i["item_id"] for i in new.recommend(RecommendRequest(user_id=user))["items"]],
        }
        assert answer["arm"] == {"experiment": "interleaving-2", "arm": "", "failed": False}
        ids = [item["item_id"] for item in answer["items"]]
        assert len(set(ids)) == len(ids) == 10
        for name, whole in alone.items():
            mine = [item["item_id"] for item in answer["items"] if item["arm"] == name]
            assert 4 <= len(mine) <= 6
            assert mine == [item for item in whole if item in mine], "in the order of its list"


def test_clicks_on_interleaved_lists_are_credited_once(shop: Shop) -> None:
    shop.begin("interleave", version=2, share=1.0)
    for user in USERS[:80]:
        answer = shop.ask(user)
        item = next(item for item in answer["items"] if item["arm"] == "candidate")
        for _ in range(3):  # sent again, as clients do
            shop.tell(user_id=user, item_id=item["item_id"], request_id=answer["request_id"])
    outcomes = shop.traffic()["outcomes"]
    assert outcomes == {"claimed": 80, "repeated": 160}
    shop.desk.look(time.time() + 120)
    experiment = shop.traffic()["experiments"][0]
    assert experiment["numbers"]["lists_with_a_winner"] == 80
    assert experiment["verdicts"]["candidate"]["action"] == "promote"
    assert "Users prefer candidate" in experiment["verdicts"]["candidate"]["reason"]


def test_an_answer_of_which_much_is_clicked_is_one_that_was(shop: Shop) -> None:
    shop.begin("ab", versions={"old": 1, "new": 2})
    answer = shop.ask(USERS[0])
    for item in answer["items"][:4]:
        shop.tell(user_id=USERS[0], item_id=item["item_id"], request_id=answer["request_id"])
    shop.tell(
        user_id=USERS[0],
        item_id=answer["items"][0]["item_id"],
        request_id=answer["request_id"],
        kind="purchase",
    )
    shown = shop.traffic()
    assert shown["outcomes"] == {"claimed": 5}
    arms = shown["experiments"][0]["numbers"]["arms"]
    assert arms[answer["arm"]["arm"]]["outcomes"] == {"click": 4, "purchase": 1}


def test_outcomes_that_belong_to_no_answer_count_for_nothing(shop: Shop) -> None:
    shop.begin("ab", versions={"old": 1, "new": 2})
    answer = shop.ask(USERS[0])
    shown = answer["items"][0]["item_id"]
    shop.tell(user_id=USERS[0], item_id=shown, request_id="forged")
    shop.tell(user_id=USERS[0], item_id="i299", request_id=answer["request_id"])
    shop.tell(user_id=USERS[0], item_id=shown, request_id=answer["request_id"], kind="impression")
    shop.tell(user_id=USERS[0], item_id=shown, request_id=answer["request_id"], kind="click")
    outcomes = shop.traffic()["outcomes"]
    assert outcomes["claimed"] == 2
    if "i299" not in {item["item_id"] for item in answer["items"]}:
        assert outcomes["of items that were not shown"] == 1
    eventually(lambda: asked_again(shop).get("of unknown requests") == 1)


def asked_again(shop: Shop) -> Any:
    shop.desk.take(Batch("a test", next(NUMBERS), (), 0))
    return shop.traffic()["outcomes"]


def test_an_impression_is_no_part_of_a_history(shop: Shop) -> None:
    shown = shop.ask("new-visitor")["items"][0]["item_id"]
    shop.tell(user_id="new-visitor", item_id=shown, kind="impression")
    time.sleep(0.3)
    assert shop.ask("new-visitor")["items"][0]["item_id"] == shown
    shop.tell(user_id="new-visitor", item_id=shown, kind="purchase")
    eventually(lambda: shown not in {i["item_id"] for i in shop.ask("new-visitor")["items"]})


def test_a_shadow_is_asked_and_never_shown(shop: Shop) -> None:
    shop.begin("shadow", version=2)
    answers = [shop.ask(user) for user in USERS[:60]]
    assert all("arm" not in answer for answer in answers)
    shop.ask(USERS[0], explain=True)  # is somebody's look at one answer, and takes the place of such
    assert {answer["version"]["ranker"]["version"] for answer in answers} == {1}
    eventually(lambda: asked(shop) >= 40)
    numbers = shop.traffic()["experiments"][0]["numbers"]
    assert 0 < numbers["overlap"] <= 1
    assert -1 <= numbers["rank_correlation"] <= 1
    assert numbers["failed"] == 0
    assert numbers["asked"] + numbers["left_out"] <= 60


def asked(shop: Shop) -> int:
    numbers = shop.traffic()["experiments"][0]["numbers"]
    return int(numbers["asked"] + numbers["left_out"])


def test_a_shadow_that_fails_is_counted_and_nobody_notices(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.begin("shadow", version=2)
    production, real = shop.service.growing.now, Pipeline.made

    def fails(self: Pipeline, request: Any) -> Any:
        if self is not production:
            raise ZeroDivisionError
        return real(self, request)

    monkeypatch.setattr(Pipeline, "made", fails)
    assert all(shop.ask(user)["items"] for user in USERS[:5])
    eventually(lambda: shop.traffic()["experiments"][0]["numbers"]["failed"] == 5)


@pytest.mark.parametrize(
    ("shown", "other", "expected"),
    [
        ("abc", "abc", (1.0, 1.0)),
        ("abc", "cba", (1.0, -1.0)),
        ("abcd", "xbya", (0.5, -1.0)),
        ("abcd", "abdc", (1.0, 0.8)),
        ("", "ab", (1.0, None)),
        ("ab", "bx", (0.5, None)),
    ],
)
def test_agreement_of_two_lists(shown: str, other: str, expected: tuple[float, float | None]) -> None:
    overlap, correlation = agreement(shown, other)
    assert overlap == expected[0]
    assert (
        correlation == pytest.approx(expected[1]) if expected[1] is not None else correlation != correlation
    )


def test_promoting_the_canary_takes_what_is_loaded_and_ends_it(shop: Shop) -> None:
    shop.begin("canary", version=2, ramp="30%")
    loaded = shop.service._arms.serving.loaded
    canary = next(one for (_, arm), one in loaded.items() if arm == "canary")
    shop.do("promote", version=2)
    eventually(lambda: shop.service.pinned().reference.version == 2)
    assert shop.service._serves.current is canary
    eventually(lambda: shop.service._arms.serving.running == ())
    assert shop.traffic()["experiments"] == []
    shop.do("rollback", why="no")
    eventually(lambda: shop.service.pinned().reference.version == 1)
    refused = shop.change("promote", version=2)
    assert refused.status == 409
    assert "was rolled back at" in refused.json["message"]
    shop.do("promote", version=2, force=True)


def test_a_worse_canary_is_rolled_back_by_itself(shop: Shop) -> None:
    shop.begin("canary", version=2, ramp="50%", guardrails={"window_s": 1})
    rng_users = [f"u{n}" for n in range(3_000)]
    salt = shop.service._arms.serving.running[0].experiment.salt
    now = time.time() - 30
    exposures = []
    for n, user in enumerate(rng_users):
        route = shop.service._arms.serving.route(user, time.time())
        assert route is not None
        failed = route.arm.name == "canary" and n % 20 == 0
        exposures.append(
            ArmAnswer(salt, route.arm.name, user, now, 5.0, failed, False, False, f"r{n}", ("i1",))
        )
    shop.desk.take(Batch("a test", 1, tuple(exposures), 0))
    shop.desk.look()
    assert shop.traffic()["experiments"] == []
    refused = shop.traffic()["refused"]
    assert len(refused) == 1
    assert "by guardrails: The candidate has more errors" in refused[0]["why"]
    assert shop.change("canary", version=2).status == 409
    assert shop.store.names(APPLICATION)["production"] == 1


def test_users_who_meet_faults_end_a_canary(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first request to the journal, by the clock of the desk: a version that fails one in five."""
    shop.desk.start()
    shop.begin("canary", version=2, ramp="50%", guardrails={"errors": 0.01}, by="ada")
    (key,) = [key for key in shop.service._arms.serving.loaded if key[1] == "canary"]
    canary, real = shop.service._arms.serving.loaded[key].content.now, Pipeline.made
    asked = itertools.count()

    def fails(self: Pipeline, request: Any) -> Any:
        if self is canary and next(asked) % 5 == 0:
            raise ZeroDivisionError("a fault of the new version")
        return real(self, request)

    monkeypatch.setattr(Pipeline, "made", fails)
    users, deadline = itertools.count(), time.monotonic() + 60
    while shop.service._arms.serving.running:
        assert time.monotonic() < deadline
        assert shop.ask(f"u{next(users)}")["items"], "nobody goes without"
    ended = shop.store.journal(APPLICATION)[-1]
    assert isinstance(ended, Turn)
    assert (ended.action, ended.by) == ("refuse", "guardrails")
    assert "more errors" in ended.why
    assert shop.change("canary", version=2).status == 409
    assert all(shop.arm(user) is None for user in USERS[:50])
    shop.desk.stop()


def test_evidence_outlives_the_desk(shop: Shop) -> None:
    shop.begin("ab", versions={"old": 1, "new": 2})
    for user in USERS[:50]:
        shop.ask(user)
    before = shop.traffic()["experiments"][0]["numbers"]["arms"]
    shop.desk.save()
    other = Analysis(shop.store, APPLICATION)
    other.look()
    after = other.numbers()["experiments"]["ab-2"]["numbers"]["arms"]
    assert after == before
    shop.do("stop", experiment="ab-2")
    other.look()
    other.save()
    assert list((shop.store.root / APPLICATION / FOLDER).iterdir()) == []


@pytest.mark.parametrize("action", CHANGES)
@pytest.mark.parametrize(
    ("header", "status", "reason"),
    [
        ([], 401, "unauthorized"),
        ([(b"authorization", b"Bearer wrong")], 401, "unauthorized"),
        ([(b"authorization", b"Basic a-token")], 401, "unauthorized"),
        ([(b"authorization", b"Bearer \xff\xfe")], 401, "unauthorized"),
        ([(b"authorization", b"Bearer a-tokenn")], 401, "unauthorized"),
    ],
)
def test_changes_need_the_token(
    shop: Shop, action: str, header: list[tuple[bytes, bytes]], status: int, reason: str
) -> None:
    before = shop.store.journal(APPLICATION)
    answer = shop.client.post({"version": 2}, [*JSON_TYPE, *header], f"/admin/{action}")
    assert (answer.status, answer.json["error"]) == (status, reason)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert shop.store.journal(APPLICATION) == before


@pytest.mark.parametrize("action", CHANGES)
def test_without_a_token_changes_are_off(shop: Shop, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN)
    answer = shop.change(action, version=2)
    assert (answer.status, answer.json["error"]) == (403, "admin_off")


@pytest.mark.parametrize(
    ("action", "fields", "status", "message"),
    [
        ("promote", {"version": 9}, 409, "no version 9"),
        ("promote", {"version": "2"}, 422, "version"),
        ("canary", {"version": 1}, 409, "is what production serves"),
        ("canary", {"version": 2, "ramp": "1% 10x:5%"}, 409, "is no time"),
        ("canary", {"version": 2, "ramp": "60%"}, 409, "1.2 in all, above 1"),
        ("canary", {"version": 2, "guardrails": {"slowdwn": 2}}, 409, "did you mean 'slowdown'"),
        ("ab", {"versions": {"a": 1}}, 409, "needs 2 to 20 arms"),
        ("ab", {"versions": {"a b": 1, "c": 2}}, 409, "the name of an arm is"),
        ("stop", {"experiment": "nothing"}, 409, "no experiment 'nothing' runs"),
        ("rollback", {}, 409, "no earlier version"),
        ("shadow", {"version": 2, "share": 0}, 422, "share"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    shop: Shop, action: str, fields: dict[str, Any], status: int, message: str
) -> None:
    before = shop.store.journal(APPLICATION)
    answer = shop.change(action, **fields)
    assert answer.status == status
    assert message in answer.json["message"]
    assert shop.store.journal(APPLICATION) == before


def test_a_damaged_journal_leaves_the_experiment_and_ready_says_so(shop: Shop) -> None:
    shop.begin("canary", version=2, ramp="30%")
    before = {user: shop.arm(user) for user in USERS[:50]}
    path = shop.store.root / APPLICATION / JOURNAL_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    eventually(lambda: "damaged" in (shop.client.get("/ready").json["problem"] or ""))
    assert shop.client.get("/ready").status == 200
    assert {user: shop.arm(user) for user in before} == before
    path.write_bytes(whole)
    eventually(lambda: shop.client.get("/ready").json["problem"] is None)


def test_whatever_the_damage_the_arms_stay_as_they_were(own_store: Store) -> None:
    Operations(own_store, APPLICATION).canary(2, ramp="30%", force=True)
    arms = Arms(own_store, APPLICATION, lambda bundles: bundles)
    arms.look()
    arms.load_due()
    before, path, rng = arms.serving.running, own_store.root / APPLICATION / JOURNAL_FILE, random.Random(0)
    whole, said = path.read_bytes(), 0
    for _ in range(1_000):
        write_whole(path, damaged(whole, rng))
        arms.look()
        if arms.problem:
            said += 1
            assert "names.json: damaged" in arms.problem
        assert arms.serving.running == before
    assert said > 800, "the rest say the same in another way"
    write_whole(path, whole)
    arms.look()
    assert (arms.problem, arms.serving.running) == (None, before)


def test_what_ends_while_an_arm_loads_is_seen_before_it_is_there(own_store: Store) -> None:
    operations = Operations(own_store, APPLICATION)
    begun, go_on = threading.Semaphore(0), threading.Event()

    def load(bundles: ServedBundles) -> ServedBundles:
        begun.release()
        assert go_on.wait(30)
        return bundles

    arms = Arms(own_store, APPLICATION, load, poll_s=0.01)
    arms.start()
    go_on.set()
    operations.canary(2, ramp="30%", force=True)
    eventually(lambda: len(arms.serving.running) == 1)
    assert begun.acquire(timeout=30)
    assert begun.acquire(timeout=30)
    go_on.clear()
    operations.shadow(2)
    assert begun.acquire(timeout=30)  # it is being loaded
    operations.turn("stop", "canary-2")
    eventually(lambda: arms.serving.running == ())
    operations.turn("stop", "shadow-2")
    eventually(lambda: arms._wanted == {})
    operations.ab({"old": 1, "new": 2}, force=True)
    go_on.set()
    eventually(lambda: len(arms.serving.running) == 1)
    assert {arm for _, arm in arms.serving.loaded} == {"old", "new"}  # the shadow came too late
    arms.stop()


class PanicError(BaseException):
    """As that of a library in Rust."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_loads_no_more_is_a_problem(own_store: Store) -> None:
    def load(bundles: ServedBundles) -> str:
        raise PanicError

    arms = Arms(own_store, APPLICATION, load, poll_s=0.01)
    arms.start()
    assert arms.problem is None
    Operations(own_store, APPLICATION).shadow(2)
    eventually(lambda: arms.problem == "experiments are not followed any more: start this replica again")
    arms.stop()


@pytest.mark.parametrize("action", CHANGES)
def test_with_the_token_each_change_is_looked_at(shop: Shop, action: str) -> None:
    answer = shop.change(action, what="is this?")
    assert answer.status == 422, "not refused for want of a right to ask"


def test_known_users_are_in_experiments_too(shop: Shop) -> None:
    shop.begin("ab", versions={"old": 1, "new": 2})
    arms = Counter(shop.arm(str(100 + n)) for n in range(NUM_USERS))
    assert set(arms) == {"old", "new"}


def test_limits_that_are_whole_numbers_come_back_from_the_journal(shop: Shop) -> None:
    shop.begin("canary", version=2, ramp="10%", guardrails={"least_users": 500, "window_s": 30})
    shop.desk.look()
    assert shop.desk.problem is None
    limits = shop.traffic()["experiments"][0]["guardrails"]
    assert (limits["least_users"], limits["window_s"]) == (500, 30)


def test_a_limit_beyond_all_numbers_is_refused(shop: Shop) -> None:
    body = b'{"version": 2, "guardrails": {"least_s": 1' + b"0" * 400 + b"}}"
    answer = shop.client.send("POST", "/admin/canary", body, [*JSON_TYPE, GOOD])
    assert answer.status == 422
    assert shop.store.journal(APPLICATION)


def test_damaged_evidence_is_set_aside_and_the_others_go_on(shop: Shop) -> None:
    shop.begin("ab", versions={"old": 1, "new": 2}, share=0.5)
    shop.do("ab", versions={"old": 1, "new": 2}, share=0.5, name="other")
    shop.desk.look()
    shop.desk.save()
    first, other = (one.experiment.salt for one in shop.desk._running)
    folder = shop.store.root / APPLICATION / FOLDER
    (folder / f"{first}.json").write_bytes(b"{half")
    desk = Analysis(shop.store, APPLICATION)
    desk.save()  # before it has looked it knows nothing, and removes nothing
    assert {path.name for path in folder.glob("*.json")} == {f"{first}.json", f"{other}.json"}
    desk.look()
    assert desk.problem is None
    assert set(desk.numbers()["experiments"]) == {"ab-2", "other"}
    assert (folder / f"{first}.damaged").exists()


def test_evidence_that_cannot_be_read_just_now_is_not_set_aside(shop: Shop) -> None:
    shop.begin("ab", versions={"old": 1, "new": 2})
    shop.ask(USERS[0])
    shop.traffic()
    shop.desk.look()
    shop.desk.save()
    (file,) = (shop.store.root / APPLICATION / FOLDER).glob("*.json")
    kept = file.rename(file.with_suffix(".kept"))
    file.mkdir()  # reading it is an OSError, as with too many open files
    desk = Analysis(shop.store, APPLICATION)
    desk.look()
    assert "what is known of ab-2 cannot be read" in str(desk.problem)
    file.rmdir()
    kept.rename(file)
    desk.look()
    assert desk.problem is None
    assert desk.numbers()["experiments"]["ab-2"]["numbers"]["users"] == 1


def test_a_refused_version_comes_back_in_no_arm(shop: Shop) -> None:
    shop.do("canary", version=2, ramp="10%")
    shop.do("refuse", experiment="canary-2", why="slow")
    for versions in ({"old": 1, "new": 2}, {"new": 2, "old": 1}):
        answer = shop.change("ab", versions=versions)
        assert answer.status == 409
        assert "was rolled back at" in answer.json["message"]


def test_a_token_out_of_a_file_may_end_in_a_newline(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "a-token\n")
    shop.do("shadow", version=2)


def test_traffic_is_told_while_the_desk_is_away(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.begin("canary", version=2, ramp="10%")

    def away() -> dict[str, Any]:
        raise TimeoutError("no answer within 10 s")

    monkeypatch.setattr(shop.desk, "numbers", away)
    answer = shop.client.get("/traffic").json
    assert [one["name"] for one in answer["experiments"]] == ["canary-2"]
    assert "out of reach" in answer["problem"]
    path = shop.store.root / APPLICATION / JOURNAL_FILE
    path.write_bytes(b"{")
    damaged_answer = shop.client.get("/traffic")
    assert (damaged_answer.status, damaged_answer.json["error"]) == (503, "store_unreadable")


def test_a_list_is_counted_once_however_late_its_clicks_are_told(shop: Shop) -> None:
    shop.begin("interleave", version=2, share=1.0)
    answer = shop.ask(USERS[0])
    mine = [item["item_id"] for item in answer["items"] if item["arm"] == "candidate"]
    for item in mine[:2]:
        shop.tell(user_id=USERS[0], item_id=item, request_id=answer["request_id"])
        shop.traffic()
        shop.desk.look(time.time() + 120)
    assert shop.traffic()["experiments"][0]["numbers"]["lists_with_a_winner"] == 1
