"""How often intervals of off-policy estimates hold the truth, and whether obp says the same.

python -m benchmarks.off_policy [--runs 1000] [--first 0]

``covered``: of so many logs of 600 users (``off_policy_world``; of seeds from ``first`` on), those whose 95 %
interval holds the true reward; ``width``: of the interval, in clicks a list, the mean; ``bias``: of the
estimate. ``vs_obp``: the largest difference from ``sb-obp``'s estimators on the same log, where it is
installed. The last line is one JSON object.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.off_policy_peers import differences
from benchmarks.off_policy_world import World
from recray.eval.off_policy.estimate import NoSupportError, estimate
from recray.eval.off_policy.estimators import METHODS, WITH_MODEL

RESULT = Path(__file__).parent / "results" / "off_policy.json"
APART = {"near": 0.4, "far": 0.7}


def covered(world: World, seeds: range) -> dict[str, dict[str, float]]:
    """By method."""
    truth, found = world.truth(), dict[str, dict[str, float]]()
    rows: dict[str, list[tuple[bool, float, float]]] = {}
    for seed in seeds:
        lists, model, _ = world.log(seed)
        for method in (*METHODS, *(name for name in WITH_MODEL if name != "direct")):
            mean, low, high = estimate(lists, method, model).reward
            rows.setdefault(method, []).append((low <= truth <= high, high - low, mean - truth))
    for method, each in rows.items():
        holds, width, bias = np.array(each, dtype=np.float64).T
        found[method] = {
            "covered": int(holds.sum()),
            "width": float(width.mean()),
            "bias": float(bias.mean()),
        }
    return found


def refused(world: World) -> str:
    """Why a policy is not judged that the log hardly covers."""
    lists, _, _ = world.log(0)
    try:
        estimate(lists)
    except NoSupportError as error:
        return str(error)
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args()
    runs, first = args.runs, args.first
    result: dict[str, Any] = {"runs": runs, "first": first}
    for name, apart in APART.items():
        result[name] = covered(World.make(apart), range(first, first + runs))
        for method, each in result[name].items():
            held, width, bias = each["covered"], each["width"], each["bias"]
            print(f"{name:5} {method:10} {held:.0f} of {runs}, width {width:.4f}, bias {bias:+.5f}")
    result["refused"] = refused(World.make(3.0))
    print(f"refused: {result['refused']}")
    result["vs_obp"] = differences(World.make(APART["far"]))
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    least = min(each["covered"] for name in APART for each in result[name].values())
    furthest = max(result["vs_obp"].values(), default=None)
    print(json.dumps({"covered_least": least, "runs": runs, "vs_obp": furthest}))


if __name__ == "__main__":
    main()
