"""What experiments cost a request: rules, a canary and its baseline with their exposures, and a shadow.

Beside bare FastAPI under the same rules, asked in turns at 8 and 32 clients; and, at an even rate of requests
that arrive by chance, with and without a shadow that is asked for everybody, in turns. Part of
``benchmarks.serving``; ``python -m benchmarks.serving_traffic`` takes this part alone.
"""

import contextlib
import json
import logging
import math
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scipy.stats import t as student

from benchmarks import open_load
from benchmarks.load import Load, watched
from benchmarks.load_client import run
from benchmarks.open_load import OpenResult
from benchmarks.serving_process import Server, ask, loaded, served
from benchmarks.serving_world import APPLICATION, WorldSize, publish_world, write_bodies
from recray.serve.http.haproxy import free_port
from recray.serve.traffic.operations import Operations
from recray.store import Store
from recray.store.journal import TurnAction
from recray.store.ledger import TrafficLedger

log = logging.getLogger("benchmarks.serving")

RESULTS = Path(__file__).parent / "results" / "serving_traffic.json"
SECONDS = 6.0  # of each round
CLIENTS = (8, 32)
ROUNDS = 3
SHADOW_RATE = 150.0  # requests/s
SHADOW_ROUNDS = 12  # a p95 of 900 answers is known to 5 % or so
STARTS_WITHIN_S = 120.0


@dataclass
class OnLiveTraffic:
    """One entry per round."""

    ruled: dict[int, list[float]] = field(default_factory=dict)  # requests/s, by clients
    bare: dict[int, list[float]] = field(default_factory=dict)
    plain: list[OpenResult] = field(default_factory=list)
    shadowed: list[OpenResult] = field(default_factory=list)
    asked: dict[str, Any] = field(default_factory=dict)  # what the desk knows in the end
    errors: int = 0

    def ratio(self, clients: int) -> float:
        return round(statistics.median(self.ruled[clients]) / statistics.median(self.bare[clients]), 3)

    @staticmethod
    def p95_ms(rounds: list[OpenResult]) -> float:
        return statistics.median(one.p95_ms or 0.0 for one in rounds)

    def shadow_ratio(self) -> tuple[float, float, float]:
        """Of the p95 with and without: the geometric mean over rounds, and the ends of its 95 % interval."""
        pairs = zip(self.shadowed, self.plain, strict=True)
        logs = [math.log((one.p95_ms or 1.0) / (other.p95_ms or 1.0)) for one, other in pairs]
        mean, spread = statistics.fmean(logs), statistics.stdev(logs) / math.sqrt(len(logs))
        off = float(student.ppf(0.975, len(logs) - 1)) * spread
        low, middle, high = (round(math.exp(value), 3) for value in (mean - off, mean, mean + off))
        return low, middle, high

    def summary(self) -> dict[str, Any]:
        low, ratio, high = self.shadow_ratio()
        return {
            "full_vs_fastapi": self.ratio(CLIENTS[-1]),
            "full_vs_fastapi_by_clients": {str(clients): self.ratio(clients) for clients in CLIENTS},
            "full_req_s": {str(c): statistics.median(self.ruled[c]) for c in CLIENTS},
            "shadow_p95_ratio": ratio,
            "shadow_p95_ratio_95": [low, high],
            "shadow_p95_ms": [self.p95_ms(self.plain), self.p95_ms(self.shadowed)],
            "shadow_asked": self.asked,
            "traffic_errors": self.errors,
        }

    def table(self) -> str:
        rows = [
            f"rules, canary and baseline 10 %, exposures, {c:2d} clients: "
            f"{statistics.median(self.ruled[c]):7.1f} req/s; bare FastAPI, same rules: "
            f"{statistics.median(self.bare[c]):7.1f}; {self.ratio(c):.2f}"
            for c in CLIENTS
        ]
        plain, shadowed = self.p95_ms(self.plain), self.p95_ms(self.shadowed)
        said = f"p95 at {SHADOW_RATE:.0f} req/s without a shadow {plain:.2f} ms, with one {shadowed:.2f} ms"
        return "\n".join([*rows, f"{said}; {self.asked}"])


def on_live_traffic(root: Path, size: WorldSize, seconds: float, bodies: Path) -> OnLiveTraffic:
    """Publishes the world once more, as a second version, and shows that to users."""
    publish_world(root, size)
    store = Store(root)
    found = OnLiveTraffic()
    with contextlib.ExitStack() as stack:
        ruled = stack.enter_context(served("ruled", root, free_port()))
        bare = stack.enter_context(served("bare_ruled", root, free_port()))
        on = Operations(store, APPLICATION)
        _shadow_in_turns(found, on, ruled, seconds, bodies)
        # Endless: nobody clicks, so that no verdict ends it.
        on.canary(2, ramp="10%", acts=False, force=True)
        _until(lambda: _asks_an_arm(store, ruled))
        for clients in CLIENTS:
            found.ruled[clients], found.bare[clients] = [], []
            for number in range(ROUNDS):
                for server, rates in ((ruled, found.ruled), (bare, found.bare)):
                    if number == 0:
                        run(server.port, clients, min(2.0, seconds), bodies)  # warm-up
                    result = loaded(server, clients, seconds, bodies)
                    rates[clients].append(result.requests_per_s)
                    found.errors += result.errors
                    log.info("%s: %s", "full" if server is ruled else "bare, same rules", result)
    return found


def _shadow_in_turns(
    found: OnLiveTraffic, on: Operations, server: Server, seconds: float, bodies: Path
) -> None:
    on.shadow(2)
    time.sleep(5.0)  # it is loaded
    actions: list[tuple[list[OpenResult], TurnAction]]
    actions = [(found.plain, "pause"), (found.shadowed, "resume")]
    now: TurnAction = "resume"
    for number in range(SHADOW_ROUNDS):
        for rounds, action in actions if number % 2 == 0 else reversed(actions):
            if action != now:
                on.turn(action, "shadow-2")
            now = action
            time.sleep(2.0)
            rounds.append(open_load.run(server.port, SHADOW_RATE, seconds, bodies))
            found.errors += rounds[-1].errors
            log.info("%s: %s", "shadow" if action == "resume" else "no shadow", rounds[-1])
    found.asked = _shadow_numbers(server)
    on.turn("stop", "shadow-2")


def _shadow_numbers(server: Server) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/traffic", timeout=30) as response:
        numbers: dict[str, Any] = json.load(response)["experiments"][0]["numbers"]
    return numbers


def _asks_an_arm(store: Store, server: Server) -> bool:
    one = TrafficLedger(store, APPLICATION).now().running[0]
    user = next(str(n) for n in range(1_000) if one.asks(str(n), time.time()))
    return "arm" in ask(server.port, {"user_id": user})


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the experiment did not begin")
        time.sleep(0.1)


@watched
def main(load: Load) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    with tempfile.TemporaryDirectory(prefix="recray-bench-") as folder:
        root, bodies = Path(folder) / "store", Path(folder) / "bodies.json"
        publish_world(root, WorldSize())
        write_bodies(bodies, WorldSize())
        found = on_live_traffic(root, WorldSize(), SECONDS, bodies)
    print(found.table())
    load.finish(found.summary(), RESULTS)


if __name__ == "__main__":
    main()
