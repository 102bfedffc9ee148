"""Experiments on live traffic: who is asked, what the journal says of it, and what damage does to that."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from recray.config import ConfigError
from recray.store import Reference, Store, StoreError
from recray.store import store as store_module
from recray.store.experiments import Arm, Experiment, RampStep, Running, Traffic, place
from recray.store.journal import JOURNAL_FILE, Entry, Started, TurnAction, read_journal
from recray.store.ledger import TrafficLedger
from recray.store.manifest import DamagedError

USERS = [f"user-{n}" for n in range(20_000)]
RAMP = (RampStep(after_s=0.0, part=0.02), RampStep(after_s=60.0, part=0.2), RampStep(after_s=600.0, part=1.0))
APP = "shop-ranker"


def reference(version: int) -> Reference:
    return Reference(name=APP, version=version, digest=f"{version:064d}")


def canary(name: str = "v2", **changes: object) -> Experiment:
    arms = (
        Arm(name="baseline", reference=reference(1), share=0.5),
        Arm(name="canary", reference=reference(2), share=0.5),
    )
    return replace(Experiment(name=name, kind="canary", arms=arms, salt="s", ramp=RAMP), **changes)  # type: ignore[arg-type]  # of a test


def shares(one: Running, now: float) -> dict[str | None, float]:
    arms = [one.asks(user, now) for user in USERS]
    return {
        name: sum((arm.name if arm else None) == name for arm in arms) / len(USERS)
        for name in ("baseline", "canary", None)
    }


def test_arms_get_their_shares_and_users_stay_where_they_are() -> None:
    one = Running(canary(), 0.0, began=1_000.0, by="")
    assert shares(one, 1_000.0) == pytest.approx({"baseline": 0.01, "canary": 0.01, None: 0.98}, abs=0.003)
    assert shares(one, 1_060.0) == pytest.approx({"baseline": 0.1, "canary": 0.1, None: 0.8}, abs=0.007)
    assert shares(one, 1_600.0) == pytest.approx({"baseline": 0.5, "canary": 0.5, None: 0.0}, abs=0.012)
    for user in USERS:
        asked = [one.asks(user, now) for now in (1_000.0, 1_060.0, 1_600.0, 9_999.0)]
        names = [arm.name for arm in asked if arm]
        assert len(set(names)) == 1, "one arm, whatever the ramp"
        assert asked[-len(names) :] == [arm for arm in asked if arm], "asked once, asked from then on"


def test_a_pause_stops_the_ramp_and_moves_nobody() -> None:
    one = Running(canary(), 0.0, began=1_000.0, by="")
    before = {user: one.asks(user, 1_100.0) for user in USERS}
    paused = one.pause(1_100.0)
    assert all(paused.asks(user, 5_000.0) is None for user in USERS)
    assert paused.ran_s(5_000.0) == 100.0
    again = paused.resume(5_000.0)
    assert {user: again.asks(user, 5_000.0) for user in USERS} == before
    assert not again.has_ramped(5_499.0)
    assert again.has_ramped(5_500.0)


def test_salts_divide_users_independently() -> None:
    both = sum(place("a", user) < 0.5 and place("b", user) < 0.5 for user in USERS) / len(USERS)
    assert both == pytest.approx(0.25, abs=0.01)
    assert place("a", "\ud800") != place("a", "x"), "whatever a client calls a user"


def test_experiments_of_one_group_share_no_user(store: Store) -> None:
    ledger = TrafficLedger(store, APP)
    small = tuple(replace(arm, reference=live(store, arm.reference), share=0.2) for arm in canary().arms)
    for name in ("a", "b"):
        ledger.start(canary(name, arms=small, salt="", ramp=(RAMP[0],)))
    with pytest.raises(StoreError, match=r"c needs 0\.4 of the users of group 'default'.*b 0\.4: stop"):
        ledger.start(canary("c", arms=small))
    ledger.start(canary("c", arms=small, group="other"))
    now = time.time()
    a, b, c = ledger.now().running
    asked = {one.experiment.name: {u for u in USERS if one.asks(u, now)} for one in (a, b, c)}
    assert asked["a"]
    assert not asked["a"] & asked["b"]
    ledger.turn("stop", "a")
    ledger.start(canary("d", arms=small))
    assert ledger.now().find("d").left == a.left  # type: ignore[union-attr]  # it runs


def test_a_promotion_ends_what_was_compared_with_production(store: Store) -> None:
    ledger = TrafficLedger(store, APP)
    begin(store, ledger)
    shadow = (Arm(name="shadow", reference=live(store, reference(3)), share=1.0),)
    ledger.start(canary("behind", kind="shadow", arms=shadow))
    assert [one.experiment.name for one in ledger.now().running] == ["v2", "behind"], "a shadow takes no user"
    store.promote(APP, 2)
    assert [one.experiment.name for one in ledger.now().running] == ["behind"]
    store.promote(APP, 3)
    assert ledger.now().running == ()


@pytest.mark.parametrize("kind", ["canary", "interleaving"])
def test_what_is_compared_with_production_begins_only_while_that_is_production(
    store: Store, kind: str
) -> None:
    ledger, arms = TrafficLedger(store, APP), canary().arms
    arms = tuple(replace(arm, reference=live(store, arm.reference)) for arm in arms)
    store.promote(APP, 3)  # since the arms were made
    with pytest.raises(StoreError, match=r"version 1.* but production is version 3 now: begin again"):
        ledger.start(canary(arms=arms, kind=kind))
    assert ledger.now().running == ()
    ledger.start(canary("free", arms=arms, kind="ab"))


def test_what_was_rolled_back_returns_only_by_force(store: Store) -> None:
    ledger = TrafficLedger(store, APP)
    begin(store, ledger)
    ledger.turn("refuse", "v2", by="guardrails", why="1.2 % errors")
    said = r"version 2 .* was rolled back at .* by guardrails: 1\.2 % errors; --force"
    with pytest.raises(StoreError, match=said):
        begin(store, ledger)
    with pytest.raises(StoreError, match=said):
        store.promote(APP, 2)
    store.promote(APP, 2, to="candidate")
    store.promote(APP, 2, force=True)
    assert not ledger.now().refused
    store.rollback(APP, why="clicks fell", by="ada")
    with pytest.raises(StoreError, match="by ada: clicks fell"):
        store.promote(APP, 2)
    begin(store, ledger, force=True)
    assert not ledger.now().refused, "whoever tries it again may find it good"
    store.promote(APP, 2)


def test_of_two_tries_the_last_to_end_decides(store: Store) -> None:
    ledger = TrafficLedger(store, APP)
    begin(store, ledger)
    ledger.turn("refuse", "v2", by="guardrails", why="1.2 % errors")
    before = ledger.now().refused
    arms = tuple(
        replace(arm, reference=live(store, arm.reference), share=arm.share / 4) for arm in canary().arms
    )
    for name in ("first", "second"):
        ledger.start(canary(name, arms=arms), force=name == "first")
    ledger.turn("stop", "first")
    assert not ledger.now().refused
    ledger.turn("stop", "second")
    assert ledger.now().refused == before


def test_a_second_try_that_ends_without_a_promotion_leaves_it_refused(store: Store) -> None:
    ledger = TrafficLedger(store, APP)
    begin(store, ledger)
    ledger.turn("refuse", "v2", by="guardrails", why="1.2 % errors")
    before = ledger.now().refused
    begin(store, ledger, force=True)
    ledger.turn("stop", "v2")
    assert ledger.now().refused == before
    begin(store, ledger, force=True)
    store.promote(APP, 3)  # what it was compared with is gone, and it has ended with that
    assert ledger.now().running == ()
    assert ledger.now().refused == before
    with pytest.raises(StoreError, match="by guardrails"):
        store.promote(APP, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": canary().arms[:1]}, "canary needs 2 arms, got 1"),
        ({"arms": (canary().arms[0], canary().arms[0])}, "arms need names of their own"),
        ({"arms": tuple(replace(arm, share=0.6) for arm in canary().arms)}, "1.2 in all, above 1"),
        ({"ramp": RAMP[1:]}, "a ramp begins at 0 s"),
        ({"ramp": (RAMP[0], RAMP[2], RAMP[1])}, "goes on in time"),
    ],
)
def test_what_cannot_run_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        canary("v2", **changes)


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        (["resume"], "'v2' runs"),
        (["pause", "pause"], "is paused already"),
        (["stop", "stop"], "no experiment 'v2' runs"),
    ],
)
def test_turns_that_cannot_be_taken_change_nothing(
    store: Store, turns: list[TurnAction], message: str
) -> None:
    ledger = TrafficLedger(store, APP)
    begin(store, ledger)
    *before, last = turns
    for turn in before:
        ledger.turn(turn, "v2")
    written = (store.root / APP / JOURNAL_FILE).read_bytes()
    with pytest.raises(StoreError, match=message):
        ledger.turn(last, "v2")
    assert (store.root / APP / JOURNAL_FILE).read_bytes() == written


def test_a_damaged_journal_says_so_whatever_the_damage(store: Store) -> None:
    ledger = TrafficLedger(store, APP)
    begin(store, ledger)
    ledger.turn("pause", "v2", why="lunch")
    path = store.root / APP / JOURNAL_FILE
    whole, rng = path.read_bytes(), random.Random(0)
    as_it_was = ledger.now()
    found = []
    for _ in range(1_000):
        path.write_bytes(damaged(whole, rng))
        found.append(read_or_complaint(ledger))
    said = [one for one in found if isinstance(one, str)]
    assert len(said) > 900, "the rest say the same in another way"
    assert all("names.json: damaged" in one for one in said)
    assert all(one == as_it_was for one in found if not isinstance(one, str))
    path.write_bytes(whole)
    assert ledger.now() == as_it_was


def read_or_complaint(ledger: TrafficLedger) -> Traffic | str:
    try:
        return ledger.now()
    except DamagedError as error:
        return str(error)


def damaged(whole: bytes, rng: random.Random) -> bytes:
    at, size = rng.randrange(len(whole)), rng.randrange(1, 40)
    return rng.choice(
        [
            whole[:at],
            whole[:at] + rng.randbytes(size) + whole[at:],
            whole[:at] + whole[at + size :],
            whole[:at] + rng.randbytes(size) + whole[at + size :],
            whole[:at] + b"NaN" + whole[at:],
            whole.replace(b"0.5", rng.choice([b"NaN", b"-1", b"1e999", b'"x"', b"null", b"{}"])),
            whole.replace(b'"canary"', rng.choice([b'"cnary"', b"[]", b"7"])),
            b"[" * rng.randrange(1, 100_000),
        ]
    )


WALKER = """
import sys
from pathlib import Path
from recray.store import Store
from recray.store.ledger import TrafficLedger
from recray.store.journal import Started, read_journal
store = Store(Path(sys.argv[1]))
ledger = TrafficLedger(store, "shop-ranker")
experiment = next(e.experiment for e in read_journal(store.root / "shop-ranker") if isinstance(e, Started))
for n in range(10_000):
    for step in (
        lambda: ledger.turn("pause", "v2"), lambda: ledger.turn("resume", "v2"),
        lambda: store.promote("shop-ranker", 2, force=True), lambda: store.rollback("shop-ranker"),
        lambda: ledger.start(experiment, force=True),
    ):
        step()
        print("done", flush=True)
"""


@pytest.mark.slow
def test_killed_between_any_two_steps_the_journal_is_whole(store: Store) -> None:
    """20 processes that promote, pause, resume, roll back and start again, each killed at some moment."""
    rng, ledger = random.Random(1), TrafficLedger(store, APP)
    begin(store, ledger)
    for _ in range(20):
        before = len(store.journal(APP))
        walker = subprocess.Popen(
            [sys.executable, "-c", WALKER, str(store.root)], stdout=subprocess.PIPE, text=True
        )
        assert walker.stdout is not None
        acknowledged = [walker.stdout.readline()]
        assert acknowledged[0] == "done\n"
        time.sleep(rng.random() * 0.2)
        walker.send_signal(signal.SIGKILL)
        acknowledged += walker.stdout.readlines()
        walker.wait()
        entries = store.journal(APP)  # names and traffic follow from it: they cannot disagree
        steps = sum(line == "done\n" for line in acknowledged)
        assert steps <= len(entries) - before <= steps + 1, "nothing acknowledged is lost"
        finish_round(store, ledger)


def finish_round(store: Store, ledger: TrafficLedger) -> None:
    """From wherever a walker was killed to the state in which the next one begins."""
    if store.names(APP)["production"] == 2:
        store.rollback(APP)
    one = ledger.now().find("v2")
    if one is None:
        begin(store, ledger, force=True)
    elif one.paused is not None:
        ledger.turn("resume", "v2")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three versions, the first of which is production."""
    store = Store(tmp_path)
    for version in (1, 2, 3):
        store.publish(APP, lambda folder, v=version: write(folder, v), model="gbdt", config={})  # type: ignore[misc]  # a default pins it
    store.promote(APP, 1)
    return store


def write(folder: Path, version: int) -> None:
    (folder / "trees").write_text(str(version))


def live(store: Store, wanted: Reference) -> Reference:
    return store.open(APP, wanted.version).reference


def begin(store: Store, ledger: TrafficLedger, *, force: bool = False) -> None:
    arms = tuple(replace(arm, reference=live(store, arm.reference)) for arm in canary().arms)
    ledger.start(canary(arms=arms), force=force)


def test_the_journal_says_who_did_what_and_why(store: Store) -> None:
    ledger = TrafficLedger(store, APP)
    begin(store, ledger)
    ledger.turn("stop", "v2", by="ada", why="a test")
    move, started, stopped = read_journal(store.root / APP)
    assert isinstance(started, Started)
    assert (stopped.by, stopped.why, stopped.action) == ("ada", "a test", "stop")
    assert move.by, "whoever ran the process"


def test_a_journal_that_did_not_change_is_not_read_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []

    def counted(folder: Path) -> list[Entry]:
        reads.append(folder)
        return read_journal(folder)

    monkeypatch.setattr(store_module, "read_journal", counted)
    follower, ledger = Store(store.root), TrafficLedger(store, APP)
    for _ in range(5):
        assert follower.names(APP) == {"production": 1}
    assert len(reads) == 1
    begin(store, ledger)
    store.promote(APP, 3)
    reads.clear()
    assert [follower.names(APP)["production"] for _ in range(5)] == [3] * 5
    assert TrafficLedger(follower, APP).now().running == ()
    assert len(reads) == 1


def test_a_journal_of_0_8_is_read(store: Store) -> None:
    path = store.root / APP / JOURNAL_FILE
    moves = [
        {"name": "production", "version": version, "action": "promote", "at": "2026-01-01T00:00:00+00:00"}
        for version in (1, 2)
    ]
    path.write_text(json.dumps({"moves": moves}))
    assert store.names(APP) == {"production": 2}
    assert store.rollback(APP, why="as ever") == 1
    store.promote(APP, 2)  # of which no digest was written: nobody can tell that it is the same
    assert [move.version for move in store.history(APP)] == [1, 2, 1, 2]
