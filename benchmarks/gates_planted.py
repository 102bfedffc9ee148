"""What the gates of quality see: the same model trained again twenty times, and one that lost 3 %.

python -m benchmarks.gates_planted [--only NAME ...] [--times 20]

Planted: of so many users that 3 % of the metric is theirs at most, the list is shown from its end. Of the
gates those that take six seconds at most, unless some are named; ``results/gates_planted.json`` keeps what
was seen of each. The last line is one JSON object.
"""

import argparse
import json
import os
import tempfile
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from benchmarks.gates import GATES, Trained, chosen, hardware, quality, trained
from recray.arrays import Int64s
from recray.batch import QueryBatch
from recray.eval.evaluate import Evaluation
from recray.monitor.gates import Gate, read_gates, verdict_of

RESULT = GATES.parent / "results" / "gates_planted.json"
PLANTED = 0.03
QUICK_MINUTES = 0.1


class Seen(NamedTuple):
    """What became of one gate."""

    alarms: int  # without a loss
    times: int
    caught: bool  # the loss
    change: float  # that was planted, as a share of what was reached


def seen(gate: Gate, times: int) -> Seen:
    """Trains the gate's model ``times`` times, and once more to plant the loss."""
    here, seeds = hardware(), range(gate.runs)
    alarms = sum(not verdict_of(gate, [quality(gate, s) for s in seeds], here).passed for _ in range(times))
    lost = [spoilt(trained(gate, seed), gate.metric) for seed in seeds]
    caught = verdict_of(gate, lost, here).passed is False
    return Seen(alarms, times, caught, float(np.mean(lost)) / gate.value - 1)


def spoilt(found: Trained, metric: str) -> float:
    """What a model of lists reaches once the loss is planted."""
    users = those_who_have(PLANTED, cast(Evaluation, found.measure()), metric)
    model = found.fitted.model
    honest = model.score_items

    def from_the_end(queries: QueryBatch) -> Tensor:
        scores_BI: Tensor = honest(queries)
        is_chosen_B = torch.isin(queries.user_ids_B, torch.from_numpy(users))
        return torch.where(is_chosen_B[:, None], -scores_BI, scores_BI)

    model.score_items = from_the_end
    return found.measure().means()[metric]


def those_who_have(share: float, evaluation: Evaluation, metric: str) -> Int64s:
    """As many users as have ``share`` of a metric's sum at most: those with little first."""
    values_U = evaluation.per_query[metric]
    order_U = np.argsort(values_U, kind="stable")
    order_U = order_U[values_U[order_U] > 0]
    so_far_U = np.cumsum(values_U[order_U])
    count = np.searchsorted(so_far_U, share * so_far_U[-1], side="right")
    return evaluation.user_ids_U[order_U[:count]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--times", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)  # sums depend on how they are split
    gates = chosen(read_gates(GATES), options.only, fast=False)
    found = {}
    with tempfile.TemporaryDirectory(prefix="recray-gates-") as home:
        os.environ["RECRAY_HOME"] = home
        for gate in gates:
            if options.only or gate.minutes <= QUICK_MINUTES:
                found[gate.name] = seen(gate, options.times)._asdict()
                print(f"{gate.name}: {found[gate.name]}", flush=True)
    kept = json.loads(RESULT.read_text())["gates"] if RESULT.exists() else {}
    result = {"hardware": hardware(), "planted": PLANTED, "gates": {**kept, **found}}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
