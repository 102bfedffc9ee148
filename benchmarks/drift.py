"""How often nothing is found in a stream that did not move, and how soon what did.

python -m benchmarks.drift [--days 1000] [--runs 10]

``unchanged``: a hundred worlds of ``drift_world``, each with a first week and ten days of its own: a look at
the last 24 hours every twelve; days on which an alarm was raised, by streams of 400 and of 4,000 answers a
day, and by one in which each day has a whim of its own (a feature's mean by 0.03 of its spread). Beside them,
of the same windows, what others go by: an index above 0.1 or 0.2, and a chi-square test of rows that are
taken as independent, by Bonferroni. ``found``: what is planted begins at midnight and stays; the share of
runs in which it was raised within three days, by looks every six hours, the hours until then, and what else
was raised. ``null``: windows in which anything was found at a chance of 5 %, where no shift is too small to
be news. ``seconds_50x1e6``: to count a million rows of 50 features and compare them. All but times depends on
the seeds only. The last line is one JSON object.
"""

import argparse
import json
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import chi2

from benchmarks.drift_world import ITEMS, MONDAY, Planted, World, watched
from recray.arrays import Float32s
from recray.monitor import drift
from recray.monitor.alarms import AlarmState, looked
from recray.monitor.findings import findings
from recray.monitor.sketch import Rows, Sketch, added, fourier_features, watched_numbers

RESULT = Path(__file__).parent / "results" / "drift.json"
ANSWERS = (400, 4000)  # a day
NOTHING = Planted()
EVERY_H, LOOK_H, WINDOW_H, WEEK_H = 6, 12, 24, 7 * 24
DAYS_EACH, WITHIN_DAYS = 10, 3
PEER_CHANCE = 0.01
PLANTED: dict[str, tuple[Planted, Planted, Planted]] = {  # slight, clear, gross
    "mean": (Planted(mean=0.2), Planted(mean=0.5), Planted(mean=1.5)),
    "spread": (Planted(spread=1.15), Planted(spread=1.5), Planted(spread=3.0)),
    "missing values": (Planted(missing=0.05), Planted(missing=0.15), Planted(missing=0.5)),
    "read as zero": (Planted(zeroed=0.1), Planted(zeroed=0.3), Planted(zeroed=1.0)),
    "categories": (Planted(device=0.1), Planted(device=0.3), Planted(device=0.8)),
    "new items": (Planted(new_items=0.02), Planted(new_items=0.06), Planted(new_items=0.3)),
    "new users": (Planted(new_users=0.03), Planted(new_users=0.1), Planted(new_users=0.4)),
    "score": (Planted(score=0.15), Planted(score=0.4), Planted(score=1.5)),
    "popular items": (Planted(popular=0.05), Planted(popular=0.15), Planted(popular=0.5)),
    "vectors of items": (Planted(taste=0.15), Planted(taste=0.4), Planted(taste=1.0)),
    "coverage": (Planted(narrow=0.1), Planted(narrow=0.3), Planted(narrow=0.8)),
    "fallbacks": (Planted(fallback=0.02), Planted(fallback=0.08), Planted(fallback=0.4)),
}
CLASSES = ("slight", "clear", "gross")
TELLS = {
    "mean": {"likeness"},
    "spread": {"price"},
    "missing values": {"rating"},
    "read as zero": {"recent"},
    "categories": {"device"},
    "new items": {"item"},
    "new users": {"user"},
    "score": {"score", "retrieval_score"},
    "popular items": {"item popularity", "effective items", "price", "item vectors"},
    "vectors of items": {"item vectors", "effective items", "price", "item popularity"},
    "coverage": {"effective items", "item popularity", "price", "item vectors"},
    "fallbacks": {"answered"},
}
"""The columns that each kind moves."""


class Stream:
    """A world's looks, every six hours after its first week."""

    def __init__(self, seed: int, answers_a_day: int, wobble: float = 0.0) -> None:
        self.world = World(seed, answers_a_day, wobble)
        self.features_IR: Float32s = fourier_features(self.world.vectors_ID)
        first = self.world.rows(0, WEEK_H)
        self.watched = watched(first)
        self.reference = self.counted(first)
        self.state = AlarmState(looked_at=float(MONDAY + 3600 * WEEK_H))
        self.parts = [self.part(WEEK_H - hours) for hours in range(WINDOW_H, 0, -EVERY_H)]
        self.seed = seed

    def counted(self, rows: Rows) -> Sketch:
        sketch = Sketch.empty(self.watched, num_items=ITEMS, num_features=self.features_IR.shape[1])
        sketch.add(rows, self.features_IR)
        return sketch

    def part(self, hour: int, planted: Planted = NOTHING) -> Sketch:
        return self.counted(self.world.rows(hour, EVERY_H, planted))

    def goes_on(self, hour: int, planted: Planted = NOTHING) -> None:
        """By six hours from one on."""
        self.parts = [*self.parts[1:], self.part(hour, planted)]

    def look(self, hour: int) -> tuple[set[str], Sketch]:
        """What is raised at an hour, and the window up to it."""
        window, now = added(self.parts), float(MONDAY + 3600 * hour)
        compared = drift.compare(self.reference, window, self.state.chance(now), seed=hour)
        change = looked(self.state, findings(compared, self.reference, window), now, "shop@1")
        self.state = change.state
        return {alarm.name for alarm in change.raised}, window


def unchanged(days: int, answers_a_day: int, wobble: float) -> dict[str, Any]:
    """Days with an alarm; and of the windows of whole days, those at which others would have raised one."""
    wrong, names, peers = 0, Counter[str](), Counter[str]()
    for seed in range(days // DAYS_EACH):
        stream = Stream(seed, answers_a_day, wobble)
        for day in range(DAYS_EACH):
            raised = set[str]()
            for hour in range(EVERY_H, 24 + EVERY_H, EVERY_H):
                stream.goes_on(WEEK_H + 24 * day + hour - EVERY_H)
                if hour % LOOK_H == 0:
                    new, window = stream.look(WEEK_H + 24 * day + hour)
                    raised |= new
            wrong += bool(raised)
            names.update(raised)
            peers.update(of_peers(stream.reference, window))
    return {
        "answers_a_day": answers_a_day,
        "wobble": wobble,
        "days": days // DAYS_EACH * DAYS_EACH,
        "false_alarm_days": wrong,
        "by": dict(names.most_common()),
        "false_alarm_days_of_peers": dict(peers),
    }


def held(windows: int, answers_a_day: int) -> dict[str, Any]:
    """Days of which anything is found at a chance of 5 %, where nothing is too little to be news."""
    least, found = drift.LEAST, 0
    drift.LEAST = dict.fromkeys(least, 0.0)
    for seed in range(windows // DAYS_EACH):
        stream = Stream(20_000 + seed, answers_a_day)
        for day in range(DAYS_EACH):
            window = stream.counted(stream.world.rows(WEEK_H + 24 * day, 24))
            compared = drift.compare(stream.reference, window, 0.05, seed=day)
            found += any(one.statistic > one.threshold for one in compared.found)
    drift.LEAST = least
    return {"answers_a_day": answers_a_day, "windows": windows, "chance": 0.05, "found": found}


def of_peers(reference: Sketch, window: Sketch) -> set[str]:
    """Rules that would have raised an alarm."""
    found = set[str]()
    for column in reference.watched:
        of_reference_J, of_window_J = (
            one.column(column.name)[1].sum((0, 1)).astype(float) for one in (reference, window)
        )
        share_J, seen_J = of_reference_J / of_reference_J.sum(), of_window_J / of_window_J.sum()
        both = (share_J > 0) & (seen_J > 0)
        index = ((seen_J - share_J)[both] * np.log(seen_J[both] / share_J[both])).sum()
        found |= {name for name, limit in (("psi > 0.1", 0.1), ("psi > 0.2", 0.2)) if index > limit}
        rows = of_window_J.sum() * of_reference_J.sum() / (of_window_J.sum() + of_reference_J.sum())
        pooled_J = (of_window_J + of_reference_J) / (of_window_J.sum() + of_reference_J.sum())
        some = pooled_J > 0
        statistic = rows * ((seen_J - share_J)[some] ** 2 / pooled_J[some]).sum()
        if chi2.sf(statistic, max(int(some.sum()) - 1, 1)) < PEER_CHANCE / len(reference.watched):
            found.add("chi-square of rows")
    return found


def found_of(kind: str, planted: Planted, runs: int, answers_a_day: int) -> dict[str, Any]:
    """How soon one of the columns that it moves is raised."""
    hours, others = [], Counter[str]()
    for seed in range(runs):
        stream = Stream(10_000 + seed, answers_a_day)
        for hour in range(EVERY_H, 24 * WITHIN_DAYS + EVERY_H, EVERY_H):
            stream.goes_on(WEEK_H + hour - EVERY_H, planted)
            raised, _ = stream.look(WEEK_H + hour)
            others.update(raised - TELLS[kind])
            if raised & TELLS[kind]:
                hours.append(hour)
                break
    return {
        "share": len(hours) / runs,
        "hours": statistics.median(hours) if hours else None,
        **({"others": dict(others)} if others else {}),
    }


def seconds(rows: int = 1_000_000, features: int = 50, users: int = 100_000) -> dict[str, float]:
    """To count so many rows, and to compare them with a reference of as many."""
    rng = np.random.default_rng(0)
    names = [f"feature {n}" for n in range(features)]
    columns = {name: rng.normal(size=rows).astype(np.float32) for name in names}
    user_N = rng.integers(users, size=rows)
    at_N = MONDAY + np.sort(rng.uniform(0, 7 * 86_400, rows))
    frame = pl.DataFrame(columns)
    whole = Rows(
        at_N=at_N,
        users=pl.Series(user_N.astype(str)),
        answers=pl.Series(np.arange(rows) // 10),
        columns=frame,
        items=pl.Series(rng.zipf(1.3, rows) % 100_000).cast(pl.String),
        item_rows_N=None,
    )
    kinds = [watched_numbers(name, "features", frame[name][:100_000]) for name in names]
    began = time.perf_counter()
    window = Sketch.empty(kinds)
    window.add(whole)
    counted = time.perf_counter()
    compared = drift.compare(window, window, 1e-3)
    findings(compared, window, window)
    ended = time.perf_counter()
    return {"count": counted - began, "compare": ended - counted, "all": ended - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    result: dict[str, Any] = {"seconds": seconds(), "unchanged": [], "found": {}}
    print("seconds", json.dumps(result["seconds"]), flush=True)
    for answers, days, wobble in (
        (400, args.days, 0.0),
        (4000, args.days // 4, 0.0),
        (400, args.days // 4, 0.03),
    ):
        result["unchanged"].append(unchanged(days, answers, wobble))
        print(json.dumps(result["unchanged"][-1]), flush=True)
    for answers in ANSWERS:
        for kind, sizes in PLANTED.items():
            rows = {
                name: found_of(kind, planted, args.runs, answers)
                for name, planted in zip(CLASSES, sizes, strict=True)
            }
            result["found"].setdefault(str(answers), {})[kind] = rows
            print(answers, kind, json.dumps(rows), flush=True)
    result["null"] = [held(args.days // 5, answers) for answers in (60, 400, 3000)]
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    first = result["unchanged"][0]
    print(
        json.dumps(
            {
                "false_alarm_days_of_1000": first["false_alarm_days"] * 1000 / first["days"],
                "found": result["found"],
                "seconds_50x1e6": round(result["seconds"]["all"], 2),
            }
        )
    )


if __name__ == "__main__":
    main()
