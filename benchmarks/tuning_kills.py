"""A search whose driver is killed at random moments and started again: what is done twice.

python -m benchmarks.tuning_kills [--kills 5] [--most 20] [-- two_tower ml-100k --trials 12 --grace 4 ...]
python -m benchmarks.tuning_kills --as pbt -- two_tower ml-100k --method pbt --trials 4 --loop.epochs 20

What stands behind ``--`` is a command line of ``recray tune``. A kill is SIGKILL, after so many further
reports of trials as are drawn. Counted: records of trials that had ended and were written anew, and epochs
that a trial reported twice (of each trial under way the last one, at most). Neither is a matter of load, so
they are always kept: in ``results/tuning_kills.json``, under the name that ``--as`` gives. The last line is
one JSON object.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.load import Load, watched

SEARCH = "killed"
MOST_FAILED = 10  # starts of Ray
DEFAULT = ("two_tower", "ml-100k", "--trials", "12", "--loop.epochs", "20", "--grace", "4")
LOOK_EVERY_S = 0.1
RESULT = Path(__file__).parent / "results" / "tuning_kills.json"


class Twice(NamedTuple):
    """What was done again, over all kills."""

    kills: int
    starts_failed: int  # of Ray, as on a machine that others keep busy; the command is given again
    trials: int
    records: int  # of trials that had ended
    epochs: int
    reported: int  # epochs in all


def killed(home: Path, arguments: Sequence[str], kills: int, most: int, seed: int) -> Twice:
    """Runs the search to its end, killing it on the way.

    Args:
        most: further reports before a kill.

    Raises:
        subprocess.CalledProcessError: it ended too often otherwise than by a kill, or well.
    """
    rng, folder = random.Random(seed), home / "runs" / SEARCH / "trials"
    command = [sys.executable, "-m", "recray", "tune", *arguments, "--launch.run", SEARCH]
    command += ["--seeds", "0", "--no-publish"]
    environment, first = {**os.environ, "RECRAY_HOME": str(home)}, dict[str, bytes]()
    done = failed = again = 0
    while True:
        before = _reports(folder)
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        until = before + rng.randint(1, most) if done < kills else None
        while process.poll() is None:
            if until is not None and _reports(folder) >= until:
                time.sleep(rng.random())
                process.send_signal(signal.SIGKILL)
                process.wait()
            time.sleep(LOOK_EVERY_S)
        records = {path.name: path.read_bytes() for path in folder.glob("*.json")}
        again += sum(records[name] != held for name, held in first.items())
        first = records
        print(f"{len(records)} trials ended, {_reports(folder)} epochs", flush=True)
        if process.returncode == 0:
            epochs = [_epochs(path) for path in folder.glob("*/metrics.jsonl")]
            twice = sum(len(each) - len(set(each)) for each in epochs)
            return Twice(done, failed, len(records), again, twice, sum(map(len, epochs)))
        if process.returncode == -signal.SIGKILL:
            done += 1
        elif (failed := failed + 1) > MOST_FAILED:
            raise subprocess.CalledProcessError(process.returncode, command)


def _reports(folder: Path) -> int:
    return sum(len(_epochs(path)) for path in folder.glob("*/metrics.jsonl"))


def _epochs(path: Path) -> list[float]:
    lines = path.read_text().splitlines()
    return [json.loads(line)["epoch"] for line in lines if line.endswith("}")]


@watched
def main(load: Load) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--most", type=int, default=20, help="reports between two kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--as", dest="name", default="tune-demo", help="under which it is kept")
    parser.add_argument("search", nargs="*", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recray-killed-") as home:
        found = killed(Path(home), options.search or DEFAULT, options.kills, options.most, options.seed)
    result = {"search": options.search or list(DEFAULT), **found._asdict()}
    kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.write_text(json.dumps({**kept, options.name: result}, indent=1) + "\n")
    load.finish(result)


if __name__ == "__main__":
    main()
