"""Requests per second with a p99 of at most 20 ms, at 1, 16 and 128 candidates, and against an older commit.

Requests arrive by chance and do not wait for answers (``open_load``). Who asks for k items has k candidates
ranked, and gets all of them. Both servers are up and asked in turns, round by round, so that what else the
machine does falls on both; what is reported is the median of the rounds.
"""

import contextlib
import json
import logging
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import open_load
from benchmarks.load_client import LoadResult
from benchmarks.open_load import OpenResult
from benchmarks.serving_process import CHECKOUT, Server, environment, loaded, served
from benchmarks.serving_world import WorldSize
from recray.serve.http.haproxy import free_port

log = logging.getLogger("benchmarks.serving")

CANDIDATES = (1, 16, 128)
ROUNDS = 3
CLOSED_CLIENTS = 8
# An older commit has modules of its own, so the world is published by a text that both understand: but for
# what the ranker says of its candidates, it is that of the other rows.
_PUBLISH = """
import sys
from pathlib import Path
from benchmarks import serving_world as world
write, few = world.write_ranker, world.CandidateConfig(retrieved=1, popular=0)
world.write_ranker = lambda folder, model, ranker, log, candidates: write(folder, model, ranker, log, few)
world.publish_world(Path(sys.argv[1]), world.WorldSize(num_items=int(sys.argv[2])))
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
            _publish(checkout, root, num_items)
            servers[side] = stack.enter_context(served("fused", root, free_port(), checkout))
        for _ in range(ROUNDS):
            for candidates in CANDIDATES:
                for side, server in servers.items():
                    closed = loaded(server, CLOSED_CLIENTS, seconds, bodies[candidates])
                    best = _open(server, bodies[candidates], seconds)
                    turns.closed[side, candidates].append(closed)
                    turns.open_loop[side, candidates].append(best)
                    log.info("%s, %d candidates: %s; %s", side, candidates, best, closed)
    return turns


def _bodies(folder: Path, candidates: int) -> Path:
    path, num_users = folder / f"bodies-{candidates}.json", WorldSize().num_users
    users = [(7919 * n) % num_users for n in range(5_000)]
    path.write_text(json.dumps([{"user_id": str(user), "k": candidates} for user in users]))
    return path


def _publish(checkout: Path, root: Path, num_items: int) -> None:
    command = [sys.executable, "-c", _PUBLISH, str(root), str(num_items)]
    subprocess.run(command, cwd=checkout, env=environment(checkout), check=True, timeout=600)


def _open(server: Server, bodies: Path, seconds: float) -> OpenResult | None:
    return open_load.highest_in_time(lambda rate: open_load.run(server.port, rate, seconds, bodies))
