"""Whether a node that dies takes acknowledged events with it: its raylet, its log and whoever writes to it.

``python -m benchmarks.events_nodes [--kills 20]``: on one head, one node after another (``benchmarks.nodes``)
joins with a raylet of its own; a program there hands answers and events to the log actor of its node and
writes down what was acknowledged, until the whole node is killed at a random moment. Then the log is read as
the other nodes see it, before and after one of them has taken over what the dead one left. The folder is one
that all nodes see. Needs root. The last line is one JSON object.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path

import ray

from benchmarks.events_check import Acknowledged, Lost, differing
from benchmarks.events_worker import OF_ROUND, answer_of, event_of, say
from benchmarks.nodes import PORT, Nodes, nodes, why_not
from recray.event_log.writer import LogWriter
from recray.paths import events_dir
from recray.serve.place.config import ServiceConfig
from recray.serve.place.log_actor import ActorLog

RESULT = Path(__file__).parent / "results" / "events_nodes.json"
APPLICATION = "shop"
APART = 1_000_000  # numbers of two nodes
BEGINS_WITHIN_S = 120.0


def write(first: int) -> None:
    """On a node: until it dies."""
    ray.init(log_to_driver=False)
    log = ActorLog(ServiceConfig(application=APPLICATION))

    def one(number: int) -> None:
        with suppress(ray.exceptions.GetTimeoutError):  # on a busy machine: not acknowledged
            log.expose([answer_of(number)])
            say(answer=number)
            log.record([event_of(number)])
            say(event=number)

    with ThreadPoolExecutor(4) as pool:
        for begin in count(first, OF_ROUND):
            list(pool.map(one, range(begin, begin + OF_ROUND)))


def killed(cluster: Nodes, number: int, home: Path, rng: random.Random) -> list[str]:
    """What a node said was acknowledged before it died."""
    node, said = cluster.add(), f"said-{number}"
    words = (sys.executable, "-m", "benchmarks.events_nodes", "--write", str(APART * number))
    env = {"RAY_ADDRESS": f"{cluster.head.address}:{PORT}", "RECRAY_HOME": str(home)}
    writing = node.start(*words, env=env, log=said)
    file, deadline = node.folder / said, time.monotonic() + BEGINS_WITHIN_S
    while '"event"' not in file.read_text():
        assert time.monotonic() < deadline, file.read_text()
        time.sleep(0.02)
    time.sleep(rng.random())
    node.kill()
    writing.wait()
    return [line for line in file.read_text().splitlines(keepends=True) if line.startswith("{")]


def lost(folder: Path, acknowledged: Acknowledged) -> Lost:
    """As others see it, and when one of them has taken over; in a copy, so that the next node finds it."""
    with tempfile.TemporaryDirectory() as place:
        copy = shutil.copytree(folder, Path(place) / "log")
        missing, half = differing(copy, acknowledged)
        other = LogWriter(copy, "other", compact_every_s=3_600.0)
        other.tend()
        other.close()
        missing_later, half_later = differing(copy, acknowledged)
        return Lost(max(missing, missing_later), max(half, half_later), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write is not None:
        write(options.write)
    if reason := why_not():
        raise SystemExit(reason)
    rng, lines, found = random.Random(options.seed), list[str](), list[Lost]()
    subnet = f"10.{rng.randrange(16, 250)}.{os.getpid() % 250}"
    with tempfile.TemporaryDirectory() as place, nodes([1], subnet=subnet) as cluster:
        for number in range(options.kills):
            lines += killed(cluster, number, Path(place), rng)
            acknowledged = Acknowledged(lines)
            found.append(lost(events_dir(Path(place) / "store") / APPLICATION, acknowledged))
            print(f"{number + 1}: {len(acknowledged.events)} events, {found[-1]}", flush=True)
    result = {
        "nodes_killed": len(found),
        "acknowledged": len(acknowledged.events) + len(acknowledged.answers),
        "acknowledged_lost": sum(one.acknowledged for one in found),
        "half_read": sum(one.half for one in found),
    }
    RESULT.write_text(json.dumps(result) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
