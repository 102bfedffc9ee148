"""What it costs to take down what is shown and told, over HTTP: recommendations and events a second.

``python -m benchmarks.recording [--seconds 3] [--rounds 3] [--items 2000] [--old CHECKOUT]`` serves the
application of the serving benchmark with and without its log, both up at the same time and asked in turns;
then both are told of events, one a request, by 1 and 32 clients. ``--old`` asks and tells a checkout of an
older commit as well. Medians of the rounds. The last line is one JSON object.
"""

import argparse
import contextlib
import json
import logging
import os
import statistics
import tempfile
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.load_client import RECOMMEND, LoadResult
from benchmarks.serving_process import CHECKOUT, Server, loaded, served
from benchmarks.serving_world import WorldSize, publish_world
from recray.serve.http.haproxy import free_port

log = logging.getLogger("benchmarks.serving")

EVENTS = "/events"
CLIENTS = {RECOMMEND: (32,), EVENTS: (1, 32)}
RESULT = Path(__file__).parent / "results" / "recording.json"
SETTLE_S = 1.0


def measured(
    servers: dict[str, Server], bodies: dict[str, Path], seconds: float, rounds: int
) -> dict[str, list[LoadResult]]:
    """By what was asked of whom and how many clients asked; a round before the others is not counted."""
    found: dict[str, list[LoadResult]] = defaultdict(list)
    for number in range(rounds + 1):
        for path, clients_of_path in CLIENTS.items():
            for clients in clients_of_path:
                for name, server in servers.items():
                    result = loaded(server, clients, seconds if number else SETTLE_S, bodies[path], path)
                    log.info("%s %s: %s", name, path, result)
                    if number:
                        found[f"{name} {path} {clients}"].append(result)
    return found


def summary(found: dict[str, list[LoadResult]]) -> dict[str, Any]:
    rates = {
        name: round(statistics.median(result.requests_per_s for result in results), 1)
        for name, results in found.items()
    }
    vs_old = {
        str(clients): _ratio(found[f"recorded {EVENTS} {clients}"], found[f"old {EVENTS} {clients}"])
        for clients in CLIENTS[EVENTS]
        if f"old {EVENTS} {clients}" in found
    }
    return {
        "events_vs_old": vs_old,
        "recorded_vs_not": _ratio(found["recorded /recommend 32"], found["unrecorded /recommend 32"]),
        "requests_per_s": rates,
        "errors": sum(result.errors for results in found.values() for result in results),
        "rounds": {name: [asdict(result) for result in results] for name, results in found.items()},
        "machine": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}",
    }


def _ratio(these: list[LoadResult], those: list[LoadResult]) -> float:
    """Of their rates, the median over rounds."""
    pairs = zip(these, those, strict=True)
    return round(statistics.median(one.requests_per_s / other.requests_per_s for one, other in pairs), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--old", type=Path, help="checkout of an older commit, asked in turns")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    size = WorldSize(num_items=options.items)
    peers = {"recorded": ("fused", CHECKOUT), "unrecorded": ("unrecorded", CHECKOUT)}
    if options.old:
        peers["old"] = "fused", options.old.resolve()
    with tempfile.TemporaryDirectory(prefix="recray-bench-") as folder, contextlib.ExitStack() as stack:
        place = Path(folder)
        users = [(7919 * n) % size.num_users for n in range(5_000)]
        bodies = {RECOMMEND: place / "requests.json", EVENTS: place / "events.json"}
        bodies[RECOMMEND].write_text(json.dumps([{"user_id": str(user), "k": 10} for user in users]))
        told = [{"events": [{"user_id": str(user), "item_id": str(user % options.items)}]} for user in users]
        bodies[EVENTS].write_text(json.dumps(told))
        servers = {}
        for name, (peer, checkout) in peers.items():
            publish_world(place / name / "store", size)
            servers[name] = stack.enter_context(served(peer, place / name / "store", free_port(), checkout))
        result = summary(measured(servers, bodies, options.seconds, options.rounds))
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
