"""What clients notice of an update of the application, and what a second replica costs.

``python -m benchmarks.updates`` serves 62,000 items behind HAProxy, by one and by two replicas in turns (16
clients, closed loop), then updates two replicas ``--times`` times under a constant load, with
``max_surge_percent`` 0 (old replicas go first) and 100 (new ones come first). The last line is one JSON
object.
"""

import argparse
import json
import logging
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.constant_load import Load
from benchmarks.faults import wait_for
from benchmarks.load_client import run
from benchmarks.serving_world import APPLICATION, WorldSize, publish_world
from recray.serve.http.haproxy import free_port, use_haproxy
from recray.serve.place.config import PlacementConfig, ServiceConfig

log = logging.getLogger("benchmarks.updates")

CLIENTS, SECONDS = 16, 6.0
BACK_WITHIN_S = 120.0


def served(root: Path, port: int, placement: PlacementConfig, revision: int) -> None:
    """An application that differs from the one of another revision: the server takes it for an update."""
    from recray.serve.place.deployments import start

    start(
        ServiceConfig(application=APPLICATION, store=str(root), budget_ms=10_000 + revision),
        placement,
        port=port,
    )


def updated(root: Path, port: int, surge: int, rate: float, revision: int) -> dict[str, Any]:
    """One update under load, until everything is answered by the new replicas."""
    placement = PlacementConfig(replicas=2, cpus_per_replica=0.5, max_surge_percent=surge)
    served(root, port, placement, revision)
    with Load(port, rate) as load:
        time.sleep(2.0)
        moment = time.monotonic()
        served(root, port, placement, revision + 1)
        took_s = time.monotonic() - moment
        wait_for(lambda: load.is_back_since(moment + took_s), BACK_WITHIN_S)
        found = load.noticed(moment)
    return {**found, "took_s": round(took_s, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--rate", type=float, default=10.0, help="questions a second during an update")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    use_haproxy(drain_s=1.0)
    import ray

    from recray.serve.place.deployments import stop

    results: dict[str, Any] = {"cores": os.cpu_count(), "replicas": {1: [], 2: []}, "surge": {0: [], 100: []}}
    with tempfile.TemporaryDirectory(prefix="recray-bench-") as folder:
        root, bodies, port = Path(folder) / "store", Path(folder) / "bodies.json", free_port()
        publish_world(root, WorldSize())
        bodies.write_text(json.dumps([{"user_id": str(n)} for n in range(0, WorldSize().num_users, 7)]))
        ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        for turn in range(options.times):
            for replicas, found in results["replicas"].items():
                served(root, port, PlacementConfig(replicas=replicas, cpus_per_replica=0.5), 0)
                run(port, CLIENTS, 2.0, bodies)
                found.append({**asdict(run(port, CLIENTS, SECONDS, bodies)), "load": os.getloadavg()[0]})
                log.info("%d replicas: %s", replicas, found[-1])
            for surge, found in results["surge"].items():
                found.append(updated(root, port, surge, options.rate, 2 * turn))
                log.info("surge %d: %s", surge, found[-1])
        stop()
        ray.shutdown()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
