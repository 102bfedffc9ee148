"""Whether versions that are judged by the log are judged rightly.

python -m benchmarks.judged [--seeds 12] [--days 5]

A retriever and a ranker are served in a simulated world (``loop_world``), drawing lists by Plackett-Luce, and
rankers of fewer trees are trained on the same data. Each is judged by the lists that were logged, at three
depths (``pipelines.off_policy``), and the world knows what each would have earned of the same visits.
``held``: of the gains that were not refused, those whose 95 % interval holds the truth. The last line is one
JSON object.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import loop_world
from benchmarks.loop import home
from benchmarks.loop_world import EXPLORE, LOCAL, Policy, first_version, world_of, write_base
from recray import paths
from recray.arrays import Float64s
from recray.config import override
from recray.data.sources.synthetic.world import World
from recray.event_log.reading import Log, read
from recray.pipelines.feedback import FeedbackConfig
from recray.pipelines.off_policy import JudgeConfig, Judged, judge_by_log
from recray.pipelines.replay import Asked, Order, Replay
from recray.pipelines.same_queries import Contender
from recray.pipelines.train import train
from recray.recipes import run_again
from recray.serve.stages.listed import StagesConfig
from recray.serve.versions import open_served
from recray.store import Store

RESULT = Path(__file__).parent / "results" / "judged.json"
DEPTHS = (1, 3, 10)
OTHERS = {"40 trees": {"model.rounds": 40}, "20 trees": {"model.rounds": 20}, "5 trees": {"model.rounds": 5}}
STAGES = StagesConfig(rules=EXPLORE)
DRAWS = 40  # of a list, for the truth


class Case(NamedTuple):
    seed: int
    candidate: str
    judged: Judged
    truth: float  # gain


def cases(seed: int, days: int) -> list[Case]:
    with home() as folder:
        store, world = Store(), world_of(seed)
        application = first_version(write_base(folder, world), store)
        policy = Policy(store, application, seed, log=True)
        for day in range(days):
            policy.serve(day)
        policy.stop()
        now = Contender.of(store, store.open(application, "production"))
        log = read(paths.events_dir() / application)
        until = float(world.visits(days - 1).times_V.max()) + 7_200.0
        served = earned(world, log, application, store, now.first.manifest.version, days)
        found = []
        for name, changes in OTHERS.items():
            new = other(store, now, changes)
            truth_D = earned(world, log, application, store, new.first.manifest.version, days) - served
            config = JudgeConfig(stages=STAGES, depths=DEPTHS)
            judged = judge_by_log(store, application, log, now, new, config, FeedbackConfig(), until)
            found += [Case(seed, name, *each) for each in zip(judged, truth_D.tolist(), strict=True)]
        return found


def other(store: Store, now: Contender, changes: dict[str, int]) -> Contender:
    assert now.ranker
    recipe, run = run_again(now.ranker)
    return Contender(now.retriever, train(recipe, override(run, changes), LOCAL, store).bundle)


def earned(world: World, log: Log, application: str, store: Store, version: int, days: int) -> Float64s:
    """Expected clicks in the first items of the lists that a version would have drawn, by depth."""
    asked = log.shown.unique("request_id", keep="first", maintain_order=True).sort("at")
    orders = Replay(open_served(store, application, version), STAGES, log.events).orders(
        Asked(*row) for row in asked.select(Asked._fields).iter_rows()
    )
    visits = [world.visits(day) for day in range(days)]
    day_V = np.repeat(np.arange(days), [len(one.users_V) for one in visits])
    lists_VDK = np.array([drawn(order, v) for v, order in enumerate(orders)])
    users_V = np.concatenate([one.users_V for one in visits])
    sums_D = np.zeros(len(DEPTHS))
    for day in range(days):
        of_day = day_V == day
        users = np.repeat(users_V[of_day], DRAWS)
        lists = lists_VDK[of_day].reshape(-1, max(DEPTHS))
        sums_D += [world.expected_clicks(day, users, lists[:, :depth]).sum() for depth in DEPTHS]
    means_D: Float64s = sums_D / (len(users_V) * DRAWS)
    return means_D


def drawn(order: Order, seed: int) -> list[list[int]]:
    rng, ids = np.random.default_rng(seed), np.array([int(item[1:]) for item in order.item_ids])
    k, among = max(DEPTHS), min(order.num_ranked, EXPLORE.explore.among)
    return [ids[EXPLORE.explore.draw(among, k, rng).places_k].tolist() for _ in range(DRAWS)]


def summary(found: Sequence[Case]) -> dict[str, int]:
    told = [(case.judged.both.gain, case.truth) for case in found if case.judged.both]
    return {
        "held": sum(gain.low <= truth <= gain.high for gain, truth in told),
        "judged": len(told),
        "refused": len(found) - len(told),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--days", type=int, default=5)
    args = parser.parse_args()
    loop_world.TOGETHER = 1  # what somebody does is known to the next one, and to the replay
    found: list[Case] = []
    for seed in range(args.seeds):
        found += cases(seed, args.days)
        print(f"seed {seed}: {summary(found)}", flush=True)
    for name in OTHERS:
        for depth in DEPTHS:
            some = [case for case in found if (case.candidate, case.judged.depth) == (name, depth)]
            print(f"{name}, first {depth}: {summary(some)}")
    RESULT.write_text(json.dumps(summary(found)) + "\n")
    print(json.dumps(summary(found)))


if __name__ == "__main__":
    main()
