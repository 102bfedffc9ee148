"""What a judge of guarded rollouts sees, how soon, and how often it sees what is not there.

python -m benchmarks.guardrails [--runs 200] [--planted-runs 20]

``equal_arms``: runs of twenty minutes at 50 requests a second between equal arms, a look every ten seconds,
on users who keep their arm, differ and come back (``guardrails_world``): how many were stopped, by which
check; of the same traffic, how many by designs that count a user again and again. ``equal_arms_ramped``: the
same, a tenth of new users at first. ``planted``: what the judge
says of candidates with a known fault, and after how many seconds, requests and users of both arms. ``power``:
users until a fifth fewer clicks is seen, beside ``ville`` where it is installed. ``interleaving``: users
until the worse of two rankers is known, by interleaved lists and by A/B. All is simulated and depends on the
seed only. The last line is one JSON object.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.guardrails_peers import Naive, interleaving, power, summary
from benchmarks.guardrails_world import RATE, Planted, Request, played, traffic
from recray.serve.traffic.guardrails import Guardrails
from recray.serve.traffic.judge import Judge

RESULT = Path(__file__).parent / "results" / "guardrails.json"
SHARES = {"baseline": 0.5, "candidate": 0.5}
RAMP = {"baseline": 0.9, "candidate": 0.1}
EVERY_S, WINDOW_S = 10.0, 60.0
SECONDS = 1200.0
LONGEST_S = 3 * 3600.0
PLANTED = {
    "30 % slower": Planted(slower=1.3),
    "20 % fewer clicks": Planted(clicks=0.8),
    "1 % errors": Planted(errors=0.01),
    "5 % empty answers": Planted(empty=0.05),
    "55 % in place of 50 %": Planted(share=0.55),
    "60 % in place of 50 %": Planted(share=0.6),
    "equal": Planted(),
}


def equal_arms(runs: int, ramp_s: float = 0.0) -> dict[str, Any]:
    """How many of so many equal candidates were stopped; with a tenth of new users, and then a half."""
    checks: Counter[str] = Counter()
    naive: Counter[str] = Counter()
    stopped = 0
    rails = Guardrails(least_s=2 * SECONDS)  # no promotion: all runs are as long
    for seed in range(runs):
        requests = traffic(Planted(ramp_s=ramp_s), np.random.default_rng([1, seed]), SECONDS)
        judge = Judge(RAMP if ramp_s else SHARES, rails)
        for told in played(judge, requests, EVERY_S):
            if told.now == ramp_s:
                judge.ramp(SHARES)
            verdict = judge.verdict(told.now)
            if verdict.final:
                stopped += 1
                checks.update([check.name for check in verdict.checks if check.crossed] or ["sample ratio"])
                break
        if not ramp_s:
            naive.update(seen_by_others(requests))
    found = {"runs": runs, "requests": int(SECONDS * RATE), "stopped": stopped, "by_check": dict(checks)}
    return (
        found if ramp_s else found | {"stopped_by_other_designs": {name: naive[name] for name in Naive.NAMES}}
    )


def seen_by_others(requests: list[Request]) -> set[str]:
    """Designs that count a user again and again, and that saw a difference after some window."""
    other, seen = Naive(), set[str]()
    windows: dict[int, list[Request]] = {}
    for each in requests:
        windows.setdefault(int(each.at / WINDOW_S), []).append(each)
    for window in windows.values():
        seen.update(other.told(window))
    return seen


def planted(what: Planted, runs: int) -> dict[str, Any]:
    """What the judge says of a candidate, and when."""
    actions: Counter[str] = Counter()
    ends: list[tuple[float, int, int]] = []
    cpu_s = 0.0
    for seed in range(runs):
        judge, ended = Judge(SHARES), False
        for told in played(judge, traffic(what, np.random.default_rng([2, seed]), LONGEST_S), EVERY_S):
            began_s = time.process_time()
            verdict = judge.verdict(told.now)
            cpu_s = max(cpu_s, time.process_time() - began_s)
            ended = verdict.final or verdict.action == "promote"
            if ended:
                ends.append((told.now, told.requests, told.users))
                break
        actions[verdict.action if ended else "none"] += 1
    columns = zip(*ends, strict=True)
    late = [None] * (runs - len(ends))
    found = dict(zip(("seconds", "requests", "users"), (summary([*x, *late]) for x in columns), strict=True))
    return {"actions": dict(actions), **found, "verdict_ms_at_most": round(1e3 * cpu_s, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--planted-runs", type=int, default=20)
    args = parser.parse_args()
    result: dict[str, Any] = {"planted": {}}
    for name, what in PLANTED.items():
        result["planted"][name] = planted(what, args.planted_runs)
        print(name, json.dumps(result["planted"][name]), flush=True)
    result["power"] = power(args.planted_runs * 5)
    print("power", json.dumps(result["power"]), flush=True)
    result["interleaving"] = interleaving(args.planted_runs * 2)
    print("interleaving", json.dumps(result["interleaving"]), flush=True)
    result["equal_arms"] = equal_arms(args.runs)
    result["equal_arms_ramped"] = equal_arms(args.runs // 2, SECONDS / 2)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
