"""A live model changed again and again, under load: what users notice.

``python -m benchmarks.rollouts --times 50`` serves a small application, asks it all the time for many users
(open loop), and promotes, rolls back, starts, pauses, resumes and stops a canary so many times. Counted are
answers that were not 200, seconds until answers follow, and users who met another arm than before, also after
a restart of the server. The last line is one JSON object.
"""

import argparse
import contextlib
import json
import logging
import platform
import statistics
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.constant_load import call
from benchmarks.serving_process import served
from benchmarks.serving_world import APPLICATION, WorldSize, publish_world
from recray.serve.http.haproxy import free_port
from recray.serve.traffic.operations import Operations
from recray.store import Store
from recray.store.ledger import TrafficLedger

log = logging.getLogger("benchmarks.rollouts")

SIZE = WorldSize(num_items=3_000, num_users=1_000, num_events=30_000, train_queries=50, trees=30)
USERS = 200
FOLLOWS_WITHIN_S = 60.0
EXPERIMENT = "canary-2"
SETTLES_S = 0.5
RAMPS_S = 10.0  # of the last experiment, so that most users are asked when the server is started again


class Users:
    """Many users who ask all the time, and what they were answered."""

    def __init__(self, port: int, rate: float) -> None:
        self._port, self._rate = port, rate
        self.statuses: Counter[str] = Counter()
        self.arms: dict[str, set[str]] = defaultdict(set)  # of each user, those of one experiment
        self.version = 0  # of the last answer without an arm
        self._stop = threading.Event()

    def ask(self, user: str) -> dict[str, Any]:
        status, body = call(self._port, "/recommend", {"user_id": user})
        self.statuses[str(status)] += 1
        answer: dict[str, Any] = json.loads(body) if status == 200 else {}
        if "arm" in answer:
            self.arms[user].add(answer["arm"]["arm"])
        return answer

    def _each(self) -> None:
        began, number = time.monotonic(), 0
        with ThreadPoolExecutor(64) as pool:
            while not self._stop.wait(max(0.0, began + number / self._rate - time.monotonic())):
                pool.submit(self.ask, str(number % USERS))
                number += 1

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        thread = threading.Thread(target=self._each)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            self._stop.clear()

    def moved(self) -> int:
        """Users who met more than one arm of one experiment."""
        return sum(len(arms) > 1 for arms in self.arms.values())


class Rollouts:
    """One server's live traffic, changed while users ask."""

    def __init__(self, store: Store, users: Users) -> None:
        self._on, self._ledger, self._users = (
            Operations(store, APPLICATION),
            TrafficLedger(store, APPLICATION),
            users,
        )
        self.took_s: dict[str, list[float]] = defaultdict(list)
        self.users_moved = 0

    def promote_and_roll_back(self) -> None:
        self._do("promote", lambda: self._on.promote(2, force=True), self._production_is(2))
        self._do("rollback", self._on.rollback, self._production_is(1))

    def canary(self, times: int) -> None:
        """One experiment that is ramped, paused and resumed; then others that begin and end."""
        time.sleep(SETTLES_S)  # answers of the one before are all here
        self.users_moved += self._users.moved()
        self._users.arms.clear()
        self._do("canary", self._start("5% 1s:20% 2s:50%"), self._is_asked)
        user = self._user()
        for _ in range(times):
            self._do("pause", lambda: self._on.turn("pause", EXPERIMENT), lambda: self._arm(user) is None)
            self._do(
                "resume", lambda: self._on.turn("resume", EXPERIMENT), lambda: self._arm(user) is not None
            )

    def stop(self) -> None:
        user = self._user()
        self._do("stop", lambda: self._on.turn("stop", EXPERIMENT), lambda: self._arm(user) is None)

    def _start(self, ramp: str) -> Callable[[], Any]:
        return lambda: self._on.canary(2, ramp=ramp, acts=False, force=True)

    def _do(self, name: str, change: Callable[[], Any], followed: Callable[[], bool]) -> None:
        began = time.monotonic()
        change()
        while not followed():
            if time.monotonic() - began > FOLLOWS_WITHIN_S:
                raise TimeoutError(f"{name}: answers did not follow")
            time.sleep(0.02)
        self.took_s[name].append(time.monotonic() - began)

    def _production_is(self, version: int) -> Callable[[], bool]:
        def is_so() -> bool:
            answer = self._users.ask("0")
            return bool(answer) and answer["version"]["ranker"]["version"] == version

        return is_so

    def _user(self) -> str:
        """Somebody whom the experiment asks from its beginning on."""
        one = self._ledger.now().running[0]
        return next(str(n) for n in range(100_000) if one.asks(str(n), one.began))

    def _is_asked(self) -> bool:
        return self._arm(self._user()) is not None

    def _arm(self, user: str) -> str | None:
        answer = self._users.ask(user)
        return answer["arm"]["arm"] if "arm" in answer else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--rate", type=float, default=40.0, help="requests per second")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "rollouts.json")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    with tempfile.TemporaryDirectory(prefix="recray-rollouts-") as folder:
        root = Path(folder) / "store"
        for _ in range(2):
            publish_world(root, SIZE)
        store, port = Store(root), free_port()
        users = Users(port, options.rate)
        rollouts = Rollouts(store, users)
        with served("fused", root, port), users.asking():
            for number in range(options.times):
                rollouts.promote_and_roll_back()
                log.info("%d: %s", number, {k: round(v[-1], 2) for k, v in rollouts.took_s.items()})
            rollouts.canary(options.times)
            for _ in range(options.times):
                rollouts.stop()
                rollouts.canary(0)
            time.sleep(RAMPS_S)
            moved = rollouts.users_moved + users.moved()
        before = {user: set(arms) for user, arms in users.arms.items()}
        log.info("restarting")
        with served("fused", root, port):  # the same experiment goes on
            time.sleep(5.0)
            after = {user: users.ask(user).get("arm", {}).get("arm") for user in before}
        restarted = sum(arm is not None and arm not in before[user] for user, arm in after.items())
    failed = {status: n for status, n in users.statuses.items() if status != "200"}
    summary = {
        "failed": sum(failed.values()),
        "asked": sum(users.statuses.values()),
        "statuses": failed,
        "times": {name: len(took) for name, took in rollouts.took_s.items()},
        "median_s": {name: round(statistics.median(took), 2) for name, took in rollouts.took_s.items()},
        "most_s": {name: round(max(took), 2) for name, took in rollouts.took_s.items()},
        "users_moved": moved,
        "users_of_the_last_experiment": len(before),
        "users_moved_by_a_restart": restarted,
        "users_asked_again_after_it": sum(arm is not None for arm in after.values()),
        "machine": {"cpu": platform.processor() or platform.machine()},
    }
    options.results.write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
