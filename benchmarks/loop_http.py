"""One round of the closed loop as an operator runs it: over HTTP, and the canary's verdict promotes.

``python -m benchmarks.loop_http``: a retriever and a ranker of a simulated world are served by ``recray
serve``, drawing lists. Its people come by ``POST /recommend`` and tell their clicks by ``POST /events``, from
several threads. After the first day ``pipelines.retrain`` makes the next version of the log; it is shown as a
canary to half of the users, production to the others, and people go on coming until the server
itself ends it. The last line is one JSON object: what the round said, the verdict and when, what was
asked and how often it failed, and how many events that were acknowledged are not in the log.
"""

import argparse
import json
import logging
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.constant_load import call
from benchmarks.loop import home
from benchmarks.loop_world import LOCAL, K, first_version, write_base
from recray import paths
from recray.data.sources.synthetic.truth import SyntheticConfig
from recray.data.sources.synthetic.world import World, WorldConfig
from recray.event_log.reading import read
from recray.pipelines.feedback import HANDED_OVER_S, FeedbackConfig
from recray.pipelines.gates import GateConfig
from recray.pipelines.retrain import RetrainConfig, retrain
from recray.serve.http.haproxy import free_port
from recray.serve.traffic.operations import Operations
from recray.store import Store
from recray.store.journal import Move, Started, unix_seconds

log = logging.getLogger("benchmarks.loop_http")

RESULT = Path(__file__).parent / "results" / "loop_http.json"
AT_ONCE, TOGETHER = 4, 40  # threads; visits whose clicks are told in one request
STARTS_WITHIN_S, ENDS_WITHIN_S = 900.0, 1_500.0
ATTRIBUTION = "20s"  # of people who click at once
LIMITS = {"least_users": 300, "least_s": 60.0, "window_s": 15.0, "clicks_margin": 0.25, "slowdown": 2.0}
DRAWS = ("policy", "plackett_luce", "temperature", "3", "among", "40")


def world_of(seed: int) -> World:
    truth = SyntheticConfig(num_users=2_000, num_items=600, events_per_user=9.0, days=90, seed=seed)
    return World(WorldConfig(truth=truth))


@contextmanager
def served(application: str, folder: Path) -> Iterator[int]:
    """By the command, as a child process; gives the port."""
    port, explore = free_port(), [f"--service.rules.explore.{name}" for name in DRAWS[::2]]
    options = [word for pair in zip(explore, DRAWS[1::2], strict=True) for word in pair]
    words = ["serve", "--application", application, "--port", str(port), *options]
    said = folder / "server.txt"
    with said.open("w") as output:
        server = subprocess.Popen([sys.executable, "-m", "recray", *words], stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + STARTS_WITHIN_S
            while call(port, "/recommend", {"user_id": "u0"})[0] != 200:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"it does not come up: {said.read_text()[-4_000:]}")
                time.sleep(0.5)
            yield port
        finally:
            server.terminate()
            server.wait(timeout=60)


class People:
    """Of the world, who are shown lists and click."""

    def __init__(self, world: World, port: int) -> None:
        self._world, self._port = world, port
        self.statuses: Counter[str] = Counter()
        self.told: set[str] = set()  # ids of events that were acknowledged
        self.shown: Counter[str] = Counter()  # answers by the version of the ranker

    def come(self, day: int) -> Iterator[None]:
        """All visits of a day, some at a time."""
        users_V = self._world.visits(day).users_V
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for first in range(0, len(users_V), TOGETHER):
                some_V = users_V[first : first + TOGETHER]
                answers = list(pool.map(self._ask, some_V.tolist()))
                self._tell(day, first, some_V, answers)
                yield

    def _ask(self, user: int) -> dict[str, Any]:
        status, content = call(self._port, "/recommend", {"user_id": f"u{user}", "k": K})
        self.statuses[f"recommend {status}"] += 1
        answer: dict[str, Any] = json.loads(content) if status == 200 else {"items": []}
        if status == 200:
            self.shown[str(answer["version"]["ranker"]["version"])] += 1
        return answer

    def _tell(self, day: int, first: int, users_V: Any, answers: Sequence[dict[str, Any]]) -> None:
        whole = [place for place, answer in enumerate(answers) if len(answer["items"]) == K]
        lists_VK = np.array([[int(i["item_id"][1:]) for i in answers[place]["items"]] for place in whole])
        clicked_VK = self._world.react(day, users_V[whole], lists_VK, first).clicked_VK
        events = [
            {
                "event_id": f"{answers[place]['request_id']}-{rank}",
                "user_id": f"u{users_V[place]}",
                "item_id": answers[place]["items"][rank]["item_id"],
                "request_id": answers[place]["request_id"],
            }
            for place, clicked_K in zip(whole, clicked_VK, strict=True)
            for rank in np.flatnonzero(clicked_K).tolist()
        ]
        if events:
            status, _ = call(self._port, "/events", {"events": events})
            self.statuses[f"events {status}"] += 1
            if status == 202:
                self.told |= {event["event_id"] for event in events}


def ended(store: Store, application: str, people: People, version: int) -> dict[str, Any]:
    """The canary, from its start to the entry of the journal that ends it."""
    Operations(store, application, by="the loop").canary(
        version, ramp="50%", guardrails=LIMITS, why="retrained"
    )
    began = time.time()
    for day in count(1):
        for _ in people.come(day):
            entry = store.journal(application)[-1]
            if not isinstance(entry, Started):
                action = entry.action if isinstance(entry, Move) else type(entry).__name__
                return {"verdict": action, "reason": entry.why, "s": round(unix_seconds(entry.at) - began, 1)}
            if time.time() - began > ENDS_WITHIN_S:
                return {"verdict": None, "reason": "none within the time", "s": ENDS_WITHIN_S}
    raise AssertionError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    with home() as folder:
        store, world = Store(), world_of(options.seed)
        application = first_version(write_base(folder, world), store)
        with served(application, folder) as port:
            people = People(world, port)
            for _ in people.come(0):
                pass
            log.info("a day is over: %s", dict(people.statuses))
            time.sleep(HANDED_OVER_S + 20)
            by_lists = GateConfig(by="lists")  # the canary has the last word
            config = RetrainConfig(feedback=FeedbackConfig(attribution=ATTRIBUTION), gates=by_lists)
            done = retrain(application, config, LOCAL, store)
            steps = {step.name: step.text for step in done.round.steps if step.name != "data"}  # a path
            log.info("%s", steps)
            if done.candidate is None or done.round.failed:
                raise RuntimeError(f"the round ended: {done.round.failed}")
            found = ended(store, application, people, done.candidate.manifest.version)
            log.info("%s", found)
            production, until = store.names(application)["production"], time.monotonic() + 10.0
            while time.monotonic() < until:
                people.shown.clear()
                people._ask(1)
            time.sleep(2.0)
            kept = set(read(paths.events_dir() / application).events["event_id"])
    asked = {name: n for name, n in people.statuses.items() if name not in ("recommend 200", "events 202")}
    result = {
        "canary": found,
        "production": production,
        "shown_then": dict(people.shown),
        "events_acknowledged": len(people.told),
        "acknowledged_lost": len(people.told - kept),
        "asked": sum(people.statuses.values()),
        "failed": sum(asked.values()),
        "steps": steps,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
