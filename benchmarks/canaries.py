"""Canaries that end by themselves over HTTP: bad ones are rolled back or held, an equal one is promoted.

``python -m benchmarks.canaries`` serves a small application by Ray Serve and asks it like a shop: users come
at random moments (open loop), some often and most seldom, are shown a list by ``POST /recommend`` and tell
their clicks by ``POST /events``. One canary after the other is shown to half of them, its baseline to the
others, and nobody looks at it: what ends it is its verdict. Planted, as a shop would meet it:

- ``empty``: a version whose catalogue was cut to a hundred items, all of which 5 % of the requests exclude;
- ``errors``: a version whose log lacks an item that 1 % of the requests name as their history: their ranking
  fails (all others exclude it, for with it among the candidates many more would fail);
- ``slower``: a version whose ranker has so many more trees that answers take twice as long or so;
- ``slower 1.3``: the same with as many trees as take 1.3 times as long, by what the case before took;
- ``clicks``: an equal version that is clicked 0.8 times as often, where users click 0.2 of their lists;
- ``ratio``: an equal version a third of whose users do not get through;
- ``equal``: nothing.

The last line is one JSON object: of each case the verdict, the seconds until it stood in the journal and then
until answers followed, users and requests of both arms, and how many requests of all failed.
"""

import argparse
import json
import logging
import os
import platform
import queue
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.constant_load import call
from benchmarks.serving_process import served
from benchmarks.serving_world import APPLICATION, CANDIDATES, RETRIEVER, WorldSize, publish_world
from recray.bundles.log import read_log
from recray.bundles.ranker import read_ranker, write_ranker
from recray.bundles.retriever import read_catalogue
from recray.features.items import item_features
from recray.features.log import EventLog
from recray.serve.http.haproxy import free_port
from recray.serve.traffic.operations import Operations
from recray.store import Store
from recray.store.experiments import Running
from recray.store.journal import Move, Started, Turn, unix_seconds
from recray.store.ledger import TrafficLedger

log = logging.getLogger("benchmarks.canaries")

SIZE = WorldSize(num_items=3_000, num_users=60_000, num_events=30_000, train_queries=50, trees=30)
KNOWN = 100  # items of the version with a cut catalogue
LACKED = f"i{SIZE.num_items - 1}"  # by the version with a cut log
NAMES_IT = 0.01  # of requests
MORE_TREES = 900
SLOWER = 1.3  # times
CLICKED = 0.2  # of lists, on average; each user has a share of his own
EXCLUDES = 0.05  # of requests
LOST = 1 / 3  # of the canary's users
TOLD_EVERY_S = 0.5
ENDS_WITHIN_S = 1_500.0
LIMITS: Mapping[str, float | None] = {"least_s": 120.0}  # a shop has days


@dataclass(frozen=True)
class Case:
    """A canary, and how the shop's users meet it."""

    version: int
    clicks: float = 1.0  # times the usual chance of one
    lost: float = 0.0  # share of its users
    names_it: bool = False  # ``LACKED``, in some requests


CASES = {
    "empty": Case(3),
    "ratio": Case(2, lost=LOST),
    "errors": Case(5, names_it=True),
    "slower": Case(4),
    "slower 1.3": Case(6),
    "clicks": Case(2, clicks=0.8),
    "equal": Case(2),
}


def published(root: Path) -> Store:
    """The versions of all cases."""
    for size in (SIZE, SIZE, replace(SIZE, num_items=KNOWN), replace(SIZE, trees=MORE_TREES)):
        publish_world(root, size)
    store = Store(root)
    publish_cut_log(store)
    return store


def publish_cut_log(store: Store) -> None:
    """The first version again, but its log does not know the last item."""
    first = store.open(APPLICATION, 1)
    whole, ranker = read_log(first), read_ranker(first)
    kept_N = whole.item_ids_N < whole.num_items - 1
    events = (whole.user_ids_N, whole.item_ids_N, whole.ratings_N, whole.timestamps_N)
    cut = EventLog(
        *(values_N[kept_N] for values_N in events),
        num_users=whole.num_users,
        num_items=whole.num_items - 1,
        items=item_features(read_catalogue(store.open(RETRIEVER, 1))[1][:-1]),
    )
    store.publish(
        APPLICATION,
        lambda folder: write_ranker(folder, first.manifest.model, ranker, cut, CANDIDATES),
        model=first.manifest.model,
        config=first.manifest.config,
        requires=first.manifest.requires,
    )


def publish_slower(root: Path, p50_ms: Mapping[str, float]) -> None:
    """A version that takes ``SLOWER`` times as long as the first.

    Args:
        p50_ms: of the arms of the case ``slower``.
    """
    of_a_tree = (p50_ms["canary"] - p50_ms["baseline"]) / (MORE_TREES - SIZE.trees)
    trees = SIZE.trees + round((SLOWER - 1) * p50_ms["baseline"] / of_a_tree)
    log.info("%d trees are to take %g times as long", trees, SLOWER)
    publish_world(root, replace(SIZE, trees=trees))


class Shop:
    """Users who come, look and click."""

    def __init__(self, port: int, rate: float, seed: int = 0) -> None:
        self._port, self._rate, self._rng = port, rate, np.random.default_rng(seed)
        self._click_U = self._rng.beta(0.4, 1.6, SIZE.num_users) * CLICKED / 0.2
        self._clicks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.case = Case(1)
        self.running: Running | None = None  # of which some users are lost
        self.statuses: Counter[str] = Counter()
        self.empty: Counter[str] = Counter()  # answers without items, by arm
        self._stop = threading.Event()

    def __enter__(self) -> "Shop":
        self._threads = [threading.Thread(target=work) for work in (self._come, self._tell)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _come(self) -> None:
        at = time.monotonic()
        with ThreadPoolExecutor(32) as pool:
            while not self._stop.wait(max(0.0, at - time.monotonic())):
                at += self._rng.exponential(1 / self._rate)
                user = int(SIZE.num_users * self._rng.random() ** 2)  # some often, most seldom
                pool.submit(self._visit, user, *self._rng.random(3).tolist())

    def _visit(self, user: int, excludes: float, clicks: float, place: float) -> None:
        case, running = self.case, self.running
        arm = running.asks(str(user), time.time()) if running and case.lost else None
        if arm and arm.name == "canary" and (user * 0.618034) % 1.0 < case.lost:
            return
        body: dict[str, Any] = {"user_id": str(user)}
        if case.names_it:
            body |= {"history": [LACKED]} if excludes < NAMES_IT else {"exclude": [LACKED]}
        elif excludes < EXCLUDES:
            body["exclude"] = [f"i{n}" for n in range(KNOWN)]
        status, content = call(self._port, "/recommend", body)
        self.statuses[str(status)] += 1
        answer = json.loads(content) if status == 200 else {"items": []}
        shown = answer.get("arm", {}).get("arm", "")
        if not answer["items"]:
            self.empty[shown] += 1
        elif clicks < self._click_U[user] * (case.clicks if shown == "canary" else 1.0):
            item = answer["items"][int(place * len(answer["items"]))]
            event = {"user_id": str(user), "item_id": item["item_id"], "request_id": answer["request_id"]}
            self._clicks.put(event)

    def _tell(self) -> None:
        while not self._stop.wait(TOLD_EVERY_S):
            if events := [self._clicks.get() for _ in range(self._clicks.qsize())]:
                status, _ = call(self._port, "/events", {"events": events})
                self.statuses[f"events {status}"] += 1


def ended(store: Store, shop: Shop, port: int, case: Case) -> dict[str, Any]:
    """One canary, from its start to what became of it."""
    ledger, name = TrafficLedger(store, APPLICATION), f"canary-{case.version}"
    shop.empty.clear()
    Operations(store, APPLICATION, by="the shop").canary(
        case.version, ramp="50%", guardrails=LIMITS, why="nobody looks", force=True
    )
    began, numbers = time.time(), dict[str, Any]()
    shop.case, shop.running = case, ledger.now().running[0]
    verdict: dict[str, Any] = {}
    while time.time() - began < ENDS_WITHIN_S and ledger.now().running:
        time.sleep(1.0)
        status, content = call(port, "/traffic")
        of = json.loads(content)["experiments"] if status == 200 else []
        if of and of[0]["numbers"] and "arms" in of[0]["numbers"]:
            numbers, verdict = of[0]["numbers"], of[0]["verdicts"].get("canary", {})
            if verdict.get("action") == "hold" and "by their shares" in verdict["reason"]:
                break
    held_s = time.time() - began
    entry = store.journal(APPLICATION)[-1]
    result: dict[str, Any] = {"verdict": verdict.get("action"), "reason": verdict.get("reason"), "s": held_s}
    if not isinstance(entry, Started):  # who did it: the desk
        action = entry.action if isinstance(entry, Move | Turn) else ""
        result = {"verdict": action, "reason": entry.why, "s": unix_seconds(entry.at) - began}
        while "arm" in json.loads(call(port, "/recommend", {"user_id": "1"})[1]):
            time.sleep(0.1)
        result["followed_s"] = round(max(0.0, time.time() - unix_seconds(entry.at)), 1)
    else:
        Operations(store, APPLICATION).turn("stop", name, why="held")
    shop.case, shop.running = Case(1), None
    arms = numbers.get("arms", {})
    result["s"] = round(result["s"], 1)
    result["users"] = {arm: of["users"] for arm, of in arms.items()}
    result["requests"] = {arm: of["requests"] for arm, of in arms.items()}
    result["p50_ms"] = {arm: of["p50_ms"] for arm, of in arms.items()}
    result["clicked"] = {arm: of["rates"]["clicks"] for arm, of in arms.items()}
    result["failed"] = {arm: of["rates"]["errors"] for arm, of in arms.items()}
    result["empty"] = dict(shop.empty)
    result["load"] = os.getloadavg()[0]  # of the machine, when it ended
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rate", type=float, default=60.0, help="requests per second")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "canaries.json")
    options = parser.parse_args()
    if "slower 1.3" in options.cases and "slower" not in options.cases:
        parser.error("--cases slower 1.3: it goes by what slower took, name that before it")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    with tempfile.TemporaryDirectory(prefix="recray-canaries-") as folder:
        root = Path(folder) / "store"
        store, port = published(root), free_port()
        found: dict[str, Any] = {}
        with served("fused", root, port), Shop(port, options.rate) as shop:
            for name in options.cases:
                if name == "slower 1.3":
                    publish_slower(root, found["slower"]["p50_ms"])
                found[name] = ended(store, shop, port, CASES[name])
                log.info("%s: %s", name, found[name])
                if store.names(APPLICATION)["production"] != 1:
                    store.rollback(APPLICATION)
                time.sleep(3.0)
            statuses = dict(shop.statuses)
    asked = {status: n for status, n in statuses.items() if not status.startswith("events")}
    failed = sum(n for status, n in asked.items() if status != "200")
    summary = {
        "cases": found,
        "asked": sum(asked.values()),
        "failed": failed,
        "statuses": statuses,
        "rate": options.rate,
        "machine": {"cpu": platform.processor() or platform.machine()},
    }
    options.results.write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
