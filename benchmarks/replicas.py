"""What an update of a served application costs, and what a second replica brings on this machine.

``python -m benchmarks.replicas [--rate 20] [--seconds 3]`` serves a small application. Under a constant load
it is served again with another option, as an edited Serve config would do, with ``max_surge_percent`` 0 and
100 and with one and two replicas: answers that were not 200, seconds until the new replicas serve alone, and
the longest time without an answer. Then one replica and two: the most requests/s that are answered in time
(``open_load``), and CPU milliseconds of the replicas for each. The last line is one JSON object.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import open_load
from benchmarks.constant_load import Load
from benchmarks.serving_process import Server
from benchmarks.serving_world import APPLICATION, WorldSize, publish_world
from recray.serve.http.haproxy import free_port
from recray.serve.place.config import PlacementConfig, ServiceConfig
from recray.serve.place.session import Session, serving
from recray.track.console import setup_logging

SIZE = WorldSize(num_items=3_000, num_users=1_000, num_events=30_000, train_queries=50, trees=30)
SURGES, REPLICAS = (0, 100), (1, 2)
QUIET_S, AFTER_S = 3.0, 5.0


class Placed:
    """An application in a session, which can be served again with other options."""

    def __init__(self, session: Session, port: int, store: Path) -> None:
        self._session, self.port = session, port
        self._service = ServiceConfig(application=APPLICATION, store=str(store))

    def serve(self, placement: PlacementConfig) -> float:
        """With an option that it did not have before; returns seconds."""
        began = time.monotonic()
        self._service = replace(self._service, budget_ms=self._service.budget_ms + 10_000)
        self._session.start(self._service, placement)
        return time.monotonic() - began


def placement(replicas: int, surge: int) -> PlacementConfig:
    """Half a CPU for each replica: on two of them, there is room for twice as many as serve."""
    return PlacementConfig(replicas=replicas, cpus_per_replica=0.5, max_surge_percent=surge)


def updated(placed: Placed, replicas: int, surge: int, rate: float) -> dict[str, Any]:
    """An update of what serves already, under load."""
    wanted = placement(replicas, surge)
    placed.serve(wanted)
    with Load(placed.port, rate) as load:
        time.sleep(QUIET_S)
        began = time.monotonic()
        took_s = placed.serve(wanted)
        time.sleep(AFTER_S)
        found = load.noticed(began)
    kept = {name: found[name] for name in ("asked", "failed", "statuses", "silent_s")}
    return {"replicas": replicas, "surge_percent": surge, "update_s": round(took_s, 1), **kept}


def most_in_time(placed: Placed, replicas: int, seconds: float, bodies: Path) -> dict[str, Any]:
    """The highest rate that is answered in time, and what an answer costs."""
    placed.serve(placement(replicas, 0))
    server = Server(placed.port, os.getpid())

    def probe(rate: float) -> open_load.OpenResult:
        return open_load.run(server.port, rate, seconds, bodies)

    probe(20.0)  # the first answers of a replica take longer
    best = open_load.highest_in_time(probe)
    if best is None:
        return {"replicas": replicas, "in_time": None}
    worked_s = server.cpu_s()
    again = probe(best.rate)
    cpu_ms = 1e3 * (server.cpu_s() - worked_s) / max(1, again.answered)
    return {"replicas": replicas, "in_time": asdict(best), "replica_cpu_ms": round(cpu_ms, 2)}


def measure(rate: float, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        publish_world(Path(folder, "store"), SIZE)
        bodies = Path(folder, "bodies.json")
        bodies.write_text(json.dumps([{"user_id": str(user)} for user in range(200)]))
        port = free_port()
        with serving(port) as session:
            placed = Placed(session, port, Path(folder, "store"))
            updates = [updated(placed, n, surge, rate) for n in REPLICAS for surge in SURGES]
            in_time = [most_in_time(placed, n, seconds, bodies) for n in REPLICAS]
    return {"load": round(os.getloadavg()[0], 1), "updates": updates, "in_time": in_time}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=20.0, help="questions a second during updates")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each rate that is tried")
    args = parser.parse_args()
    setup_logging()
    print(json.dumps(measure(args.rate, args.seconds)))


if __name__ == "__main__":
    main()
