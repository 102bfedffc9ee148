"""Requests per second with a p99 of at most 20 ms, at 1, 16 and 128 candidates, and against an older commit.

Requests arrive by chance and do not wait for answers (``open_load``), and ask for 10 items, or all that there
are. Both servers are up and asked in turns, round by round, so that what else the machine does falls on both;
what is reported is the median of the rounds.
"""

import contextlib
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import open_load
from benchmarks.load_client import LoadResult
from benchmarks.open_load import OpenResult
from benchmarks.serving_process import CHECKOUT, Server, ask, environment, loaded, served
from benchmarks.serving_world import WorldSize
from recray.serve.http.haproxy import free_port

log = logging.getLogger("benchmarks.serving")

CANDIDATES = (1, 16, 128)
ROUNDS = 3
SWITCH_TIMEOUT_S = 60.0
CLOSED_CLIENTS = 8
# An older commit has modules of its own, so both sides run texts that they understand alike. The world is
# that of the other rows, but its ranker is published once for each number of candidates: version 1, 2, 3.
_PUBLISH = """
import sys
from pathlib import Path
from benchmarks import serving_world as world
write, publish = world.write_ranker, world.Store.publish
def publish_each(store, name, content, **about):
    if name != world.APPLICATION:
        return publish(store, name, content, **about)
    for retrieved in map(int, sys.argv[3:]):
        few = world.CandidateConfig(retrieved=retrieved, popular=0)
        world.write_ranker = lambda folder, model, ranker, log, _: write(folder, model, ranker, log, few)
        publish(store, name, content, **about)
world.Store.publish = publish_each
world.publish_world(Path(sys.argv[1]), world.WorldSize(num_items=int(sys.argv[2])))
"""
_PROMOTE = """
import sys
from pathlib import Path
from benchmarks.serving_world import APPLICATION
from recray.store import Store
Store(Path(sys.argv[1])).promote(APPLICATION, int(sys.argv[2]))
"""


@dataclass
class Turns:
    """What every side did: "new", and "old" where one was given; one entry per round."""

    open_loop: dict[tuple[str, int], list[OpenResult | None]] = field(
        default_factory=lambda: defaultdict(list)
    )
    closed: dict[tuple[str, int], list[LoadResult]] = field(default_factory=lambda: defaultdict(list))

    def rate(self, side: str, candidates: int) -> float:
        """Requests per second in time; 0 where even the lowest rate was too much."""
        return statistics.median(
            result.rate if result else 0.0 for result in self.open_loop[side, candidates]
        )

    def cpu_ms(self, side: str, candidates: int) -> float:
        """CPU time of the replica per request, asked by eight clients."""
        return statistics.median(result.replica_cpu_ms or 0.0 for result in self.closed[side, candidates])

    def closed_rate(self, side: str, candidates: int) -> float:
        return statistics.median(result.requests_per_s for result in self.closed[side, candidates])

    @property
    def has_old(self) -> bool:
        return ("old", CANDIDATES[0]) in self.open_loop

    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = {"req_s_p99_20ms": {str(c): self.rate("new", c) for c in CANDIDATES}}
        if self.has_old:
            found["vs_0_4"] = {
                str(c): {
                    "req_s_p99_20ms": _ratio(self.rate("new", c), self.rate("old", c)),
                    "requests_per_s": _ratio(self.closed_rate("new", c), self.closed_rate("old", c)),
                    "replica_cpu": _ratio(self.cpu_ms("new", c), self.cpu_ms("old", c)),
                }
                for c in CANDIDATES
            }
        shares = [r.client_cores for results in self.open_loop.values() for r in results if r]
        found["load_client_cores"] = max(shares, default=None)
        found["turns"] = {
            f"{side} {c}": {
                "open": [result and asdict(result) for result in self.open_loop[side, c]],
                "closed": [asdict(result) for result in self.closed[side, c]],
            }
            for side, c in list(self.open_loop)
        }
        return found

    def table(self) -> str:
        head = (
            f"{'side':8}{'candidates':>12}{'req/s at p99 <= 20 ms':>24}{'8 clients, req/s':>18}{'CPU ms':>8}"
        )
        rows = [
            f"{side:8}{c:12d}{self.rate(side, c):24.0f}{self.closed_rate(side, c):18.0f}"
            f"{self.cpu_ms(side, c):8.2f}"
            for side, c in sorted(self.open_loop, key=lambda key: (key[1], key[0]))
        ]
        return "\n".join([head, *rows])


def _ratio(new: float, old: float) -> float | None:
    return round(new / old, 3) if old else None


def take_turns(num_items: int, old: Path | None, seconds: float) -> Turns:
    """Serves this checkout, and an older one where there is one, and loads them in turns.

    Args:
        seconds: of each probe.
    """
    checkouts = {"new": CHECKOUT, **({"old": old.resolve()} if old else {})}
    turns = Turns()
    with tempfile.TemporaryDirectory(prefix="recray-turns-") as folder, contextlib.ExitStack() as stack:
        bodies = {c: _bodies(Path(folder), c) for c in CANDIDATES}
        servers: dict[str, Server] = {}
        for side, checkout in checkouts.items():
            root = Path(folder) / side
            _run(checkout, _PUBLISH, root, num_items, *CANDIDATES)
            servers[side] = stack.enter_context(served("fused", root, free_port(), checkout))
        for _ in range(ROUNDS):
            for candidates in CANDIDATES:
                for side, server in servers.items():
                    _switch(server, checkouts[side], Path(folder) / side, 1 + CANDIDATES.index(candidates))
                    closed = loaded(server, CLOSED_CLIENTS, seconds, bodies[candidates])
                    best = _open(server, bodies[candidates], seconds)
                    turns.closed[side, candidates].append(closed)
                    turns.open_loop[side, candidates].append(best)
                    log.info("%s, %d candidates: %s; %s", side, candidates, best, closed)
    return turns


def _bodies(folder: Path, candidates: int) -> Path:
    path, num_users = folder / f"bodies-{candidates}.json", WorldSize().num_users
    users = [(7919 * n) % num_users for n in range(5_000)]
    path.write_text(json.dumps([{"user_id": str(user), "k": min(10, candidates)} for user in users]))
    return path


def _run(checkout: Path, text: str, *arguments: object) -> None:
    command = [sys.executable, "-c", text, *map(str, arguments)]
    subprocess.run(command, cwd=checkout, env=environment(checkout), check=True, timeout=600)


def _switch(server: Server, checkout: Path, root: Path, version: int) -> None:
    """Serves another version: its replica follows the store."""
    _run(checkout, _PROMOTE, root, version)
    give_up = time.monotonic() + SWITCH_TIMEOUT_S
    while ask(server.port, {"user_id": "0"})["version"]["ranker"]["version"] != version:
        if time.monotonic() > give_up:
            raise RuntimeError(f"{checkout} does not follow its store to version {version}")
        time.sleep(0.2)


def _open(server: Server, bodies: Path, seconds: float) -> OpenResult | None:
    return open_load.highest_in_time(lambda rate: open_load.run(server.port, rate, seconds, bodies))
