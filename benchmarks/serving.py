"""Requests per second over HTTP: this application, a naive Serve graph, and a bare FastAPI process.

``python -m benchmarks.serving`` measures all three in one run on the same machine: the same retrieval
(62,000 items x 64, HNSW, top 200), the same features and XGBoost ranking, at 1, 8 and 32 clients, the median
of three rounds. The first and the last, which are close, are asked in turns, so that a machine that speeds
up or slows down favours neither. It first checks that all three give the same items. With rules, a canary,
its baseline and their exposures it is asked beside bare FastAPI under the same rules, and with and without a
shadow (``serving_traffic``). Then requests arrive
whether or not others were answered, at 1, 16 and 128 candidates; ``--old`` asks a checkout of an older commit
as well, in turns (``serving_turns``). The last line is one JSON object.
"""

import argparse
import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.load import Load, watched
from benchmarks.load_client import LoadResult, run
from benchmarks.serving_process import Server, ask, loaded, served
from benchmarks.serving_traffic import on_live_traffic
from benchmarks.serving_turns import Turns, take_turns
from benchmarks.serving_world import NOW, WorldSize, publish_world, write_bodies
from recray.serve.http.haproxy import free_port

log = logging.getLogger("benchmarks.serving")

CLIENTS = (1, 8, 32)
CHECKED_REQUESTS = 100
RESULTS = Path(__file__).parent / "results" / "serving.json"
TARGETS = {"fused_vs_fastapi": 0.6, "fused_vs_naive": 8.0}
ROUNDS = 3
TOGETHER = (("fused", "bare"), ("naive",))  # are up at the same time
LABELS = {"fused": "recray fused, HAProxy", "bare": "bare uvicorn FastAPI", "naive": "naive 3 deployments"}


class Measured(NamedTuple):
    results: list[LoadResult]  # for each number of clients
    items: list[list[str]]  # of the checked requests


def measure(peers: Sequence[str], root: Path, seconds: float, bodies: Path) -> dict[str, Measured]:
    """By peer, which are asked in turns."""
    with contextlib.ExitStack() as stack:
        servers: dict[str, Server] = {}
        for peer in peers:
            log.info("%s: starting", LABELS[peer])
            servers[peer] = stack.enter_context(served(peer, root, free_port()))
        found = {peer: Measured([], _checked(server.port, bodies)) for peer, server in servers.items()}
        for clients in CLIENTS:
            rounds: dict[str, list[LoadResult]] = {peer: [] for peer in peers}
            for number in range(ROUNDS):
                for peer, server in servers.items():
                    if number == 0:
                        run(server.port, clients, min(2.0, seconds), bodies)  # warm-up
                    rounds[peer].append(loaded(server, clients, seconds, bodies))
                    log.info("%s: %s", LABELS[peer], rounds[peer][-1])
            for peer, results in rounds.items():
                found[peer].results.append(sorted(results, key=lambda r: r.requests_per_s)[ROUNDS // 2])
    return found


def _checked(port: int, bodies: Path) -> list[list[str]]:
    """The items of the first requests."""
    checked = json.loads(bodies.read_text())[:CHECKED_REQUESTS]
    answers = [ask(port, {**body, "request_time": NOW}) for body in checked]
    return [[item["item_id"] for item in answer["items"]] for answer in answers]


def summarise(results: dict[str, list[LoadResult]], unequal: int, turns: Turns) -> dict[str, Any]:
    """The figures that are claimed, and all that they rest on."""
    rates = {peer: {r.clients: r.requests_per_s for r in rows} for peer, rows in results.items()}

    def ratio(peer: str, clients: int) -> float:
        return round(rates["fused"][clients] / rates[peer][clients], 3)

    return {
        "fused_vs_fastapi": ratio("bare", CLIENTS[-1]),
        "fused_vs_naive": ratio("naive", CLIENTS[-1]),
        "errors": sum(r.errors for rows in results.values() for r in rows) + unequal,
        "unequal_answers": unequal,
        "fused_vs_fastapi_by_clients": {str(c): ratio("bare", c) for c in CLIENTS},
        "fused_vs_naive_by_clients": {str(c): ratio("naive", c) for c in CLIENTS},
        **turns.summary(),
        "targets": TARGETS,
        "results": {peer: [asdict(r) for r in rows] for peer, rows in results.items()},
        "machine": {"cores": os.cpu_count(), "memory_gb": _memory_gb()},
    }


def _memory_gb() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)


def table(results: dict[str, list[LoadResult]]) -> str:
    head = f"{'server':24}{'clients':>8}{'req/s':>10}{'p50 ms':>10}{'p95 ms':>10}{'p99 ms':>10}{'errors':>8}"
    head += f"{'CPU ms':>8}"
    rows = [
        f"{LABELS[peer]:24}{r.clients:8d}{r.requests_per_s:10.1f}{r.p50_ms or 0:10.2f}"
        f"{r.p95_ms or 0:10.2f}{r.p99_ms or 0:10.2f}{r.errors:8d}{r.replica_cpu_ms or 0:8.2f}"
        for peer, rows in results.items()
        for r in rows
    ]
    return "\n".join([head, *rows])


@watched
def main(load: Load) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="measured time of each round")
    parser.add_argument("--items", type=int, default=WorldSize().num_items)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--old", type=Path, help="checkout of an older commit, asked in turns")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    size = WorldSize(num_items=options.items)
    with tempfile.TemporaryDirectory(prefix="recray-bench-") as folder:
        root, bodies = Path(folder) / "store", Path(folder) / "bodies.json"
        publish_world(root, size)
        write_bodies(bodies, size)
        found: dict[str, Measured] = {}
        for peers in TOGETHER:
            found |= measure(peers, root, options.seconds, bodies)
        traffic = on_live_traffic(root, size, options.seconds, bodies)
    results = {peer: measured.results for peer, measured in found.items()}
    items = (measured.items for measured in found.values())
    unequal = sum(len({tuple(a) for a in answers}) > 1 for answers in zip(*items, strict=True))
    turns = take_turns(size.num_items, options.old, options.seconds / 2)
    summary = {**summarise(results, unequal, turns), **traffic.summary()}
    print(table(results))
    print(traffic.table())
    print(turns.table())
    load.finish(summary, options.results)


if __name__ == "__main__":
    main()
