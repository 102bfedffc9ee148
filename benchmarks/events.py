"""What the event log keeps when the power goes or it is killed, and how many events it takes a second.

python -m benchmarks.events [--cuts 200] [--kills 20] [--seconds 3]

Power: a program that writes, compacts and forgets is traced once, and its disk rebuilt at every cut
(``power_loss``). Kills: the same program, killed with SIGKILL and started again on the same folder, while it
writes and while it does nothing but compact beside. Full disk: a small one of its own, where this machine
lets us mount one. Speed: one event a call, from 1 and from 32 threads, in turns with a loop that inserts each
event into SQLite and commits it under the same pragmas. The last line is one JSON object.
"""

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.events_check import Acknowledged, Lost, lost
from benchmarks.events_speed import measured
from benchmarks.events_worker import event_of
from benchmarks.faults import mount
from benchmarks.load import Load, watched
from benchmarks.power_loss import traced
from recray.event_log.reading import read
from recray.event_log.writer import LogFailedError, LogWriter

RESULT = Path(__file__).parent / "results" / "events.json"
WORKER = (sys.executable, "-m", "benchmarks.events_worker")
DISK = "2m"


def power_cuts(times: int, rng: random.Random) -> Iterator[Lost]:
    """Each of one run of the program, at another moment."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "log"
        folder.mkdir()
        trace = traced([*WORKER, str(folder), "--forgetting"], folder)
    for cut in trace.moments(times, rng):
        with tempfile.TemporaryDirectory() as place:
            trace.rebuild(cut, rng, Path(place))
            yield lost(Path(place), Acknowledged(trace.said_before(cut)))


def kills(times: int, rng: random.Random, *, compacting: bool) -> Iterator[Lost]:
    """One after another, of the writer of one folder."""
    with tempfile.TemporaryDirectory() as place:
        folder, said, copy = Path(place) / "log", Path(place) / "said", Path(place) / "copy"
        options = ["--compacting"] if compacting else []
        for turn in range(times):
            first = ["--first", str(100_000 * turn), "--rounds", "10000"]
            with said.open("a") as output:
                before = said.stat().st_size
                process = subprocess.Popen([*WORKER, str(folder), *first, *options], stdout=output)
                while said.stat().st_size == before and process.poll() is None:
                    time.sleep(0.01)
                time.sleep(rng.random() / 2)
                process.kill()
                process.wait()
            assert process.returncode == -9, process.returncode
            shutil.copytree(folder, copy)
            yield lost(copy, Acknowledged(said.read_text().splitlines(keepends=True)))
            shutil.rmtree(copy)


def full_disk() -> dict[str, Any]:
    """What is said when there is no room, what was kept, and whether it goes on when there is."""
    with tempfile.TemporaryDirectory() as place:
        mount("-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", place)
        try:
            return _filled(Path(place))
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)


def _filled(disk: Path) -> dict[str, Any]:
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(2**20))
    log, taken, reason = LogWriter(disk / "log", compact_every_s=3_600.0), 0, ""
    while not reason:
        try:
            log.record([event_of(number) for number in range(taken, taken + 50)])
            taken += 50
        except LogFailedError as error:
            reason = str(error)
    kept = read(disk / "log").events.height
    ballast.unlink()
    goes_on = log.record([event_of(taken)]).taken == 1
    log.close()
    return {"reason": reason, "acknowledged": taken, "kept": kept, "goes_on": goes_on}


def summary(found: Iterator[Lost]) -> dict[str, int]:
    each = list(found)
    return {"times": len(each), **{name: sum(getattr(one, name) for one in each) for name in Lost._fields}}


@watched
def main(load: Load) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    speed = measured(options.seconds, options.turns)
    print(json.dumps(speed), flush=True)
    losses = {
        "power": summary(power_cuts(options.cuts, rng)),
        "writer killed": summary(kills(options.kills, rng, compacting=False)),
        "compaction killed": summary(kills(options.kills, rng, compacting=True)),
    }
    print(json.dumps(losses), flush=True)
    result = {
        "acknowledged_lost": sum(one["acknowledged"] for one in losses.values()),
        "half_read": sum(one["half"] for one in losses.values()),
        "events_per_s_32": speed["log, 32 clients"]["events_per_s"],
        "vs_sqlite_loop": speed["log, 32 clients"]["events_per_s"] / speed["sqlite loop"]["events_per_s"],
        "losses": losses,
        "speed": speed,
        "full_disk": full_disk(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }
    load.finish(result, RESULT)


if __name__ == "__main__":
    main()
