"""How long the evaluation of 6,040 users x 3,706 items takes from given scores, beside peers.

``python -m benchmarks.evaluation`` measures, each several times, in one process:

* recray: ``evaluate`` and ``summary``: recall, hit, NDCG, MRR, MAP at 10, AUC, coverage, novelty,
  popularity bias, 1,000 bootstrap resamples, seen items filtered, ties as expected credit; with one
  target per user, with many, and with scores full of ties;
* ranx: the five accuracy metrics from top-10 lists (no AUC, no ties, no intervals); the time to cut the
  lists and put them into its types is given apart, and its compilation is not counted;
* scikit-learn: ``ndcg_score`` over the dense matrix, ties ignored, and ``roc_auc_score`` of 200 users.

It also states by how much the numbers differ. The last line is one JSON object.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import ranx
import torch
from sklearn.metrics import ndcg_score, roc_auc_score
from torch import Tensor

from benchmarks.load import Load, watched
from recray.arrays import Float32s, Int64s
from recray.batch import EvalExamples, Jagged, QueryBatch
from recray.eval.evaluate import Evaluation, evaluate
from recray.schema import ProtocolCard

NUM_USERS, NUM_ITEMS, K = 6_040, 3_706, 10
LIMIT_S = 3.0
REPEATS = 5
NUM_AUC_USERS = 200
CARD = ProtocolCard(
    dataset="generated", dataset_hash="", split="random", target="test", relevance="all", k_core=0
)
RANX_METRICS = {"recall": "recall", "hit_rate": "hit", "ndcg": "ndcg", "mrr": "mrr", "map": "map"}


@dataclass(frozen=True, kw_only=True)
class Task:
    """Scores of everyone for everything, and who has seen and should find what."""

    scores_UI: Tensor
    examples: EvalExamples
    item_counts_I: Int64s

    def evaluate(self) -> Evaluation:
        return evaluate(
            lambda queries: self.scores_UI[queries.user_ids_B],
            self.examples,
            CARD,
            self.item_counts_I,
            ks=(K,),
        )

    def masked_UI(self) -> Float32s:
        """The scores that rankings are made of: seen items at -inf."""
        history = self.examples.queries.history
        masked_UI = self.scores_UI.clone()
        masked_UI[history.rows_N(), history.values_N] = float("-inf")
        return masked_UI.numpy()


def generate(*, many_targets: bool, ties: bool, seed: int = 0) -> Task:
    """As many interactions as MovieLens 1M: about 165 per user, long-tailed."""
    rng = np.random.default_rng(seed)
    scores_UI = rng.standard_normal((NUM_USERS, NUM_ITEMS), dtype=np.float32)
    if ties:
        scores_UI = np.floor(scores_UI * 4)
    order_UI = np.argsort(rng.random((NUM_USERS, NUM_ITEMS), dtype=np.float32), axis=1)
    seen_U = np.clip(rng.lognormal(4.6, 1.0, NUM_USERS).astype(np.int64), 16, 1_800)
    wanted_U = np.clip(seen_U // 4, 1, 400) if many_targets else np.ones(NUM_USERS, dtype=np.int64)
    history = jagged(order_UI, np.zeros_like(seen_U), seen_U)
    users_U = torch.arange(NUM_USERS)
    times_N = torch.zeros_like(history.values_N)
    queries = QueryBatch(users_U, history, times_N, torch.zeros_like(users_U))
    examples = EvalExamples(queries, jagged(order_UI, seen_U, seen_U + wanted_U))
    counts_I = np.bincount(history.values_N.numpy(), minlength=NUM_ITEMS)
    return Task(scores_UI=torch.from_numpy(scores_UI), examples=examples, item_counts_I=counts_I)


def jagged(order_UI: Int64s, starts_U: Int64s, stops_U: Int64s) -> Jagged:
    place_I = np.arange(NUM_ITEMS)
    chosen_UI = (place_I >= starts_U[:, None]) & (place_I < stops_U[:, None])
    offsets_U = np.concatenate([[0], np.cumsum(stops_U - starts_U)])
    return Jagged(torch.from_numpy(order_UI[chosen_UI]), torch.from_numpy(offsets_U))


def median_s(run: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Median wall-clock seconds of a call."""
    times_s = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times_s.append(time.perf_counter() - began)
    return statistics.median(times_s)


def measure_recray(name: str, task: Task) -> float:
    took_s = median_s(lambda: task.evaluate().summary())
    print(f"recray, {name}: {took_s:.2f} s (limit {LIMIT_S:.0f} s)", flush=True)
    return took_s


def measure_ranx(task: Task, ours: Evaluation) -> dict[str, float]:
    began = time.perf_counter()
    values_UK, items_UK = torch.from_numpy(task.masked_UI()).topk(K)
    run = ranx.Run(
        {
            f"q{u:04d}": {str(i): s for i, s in zip(items, scores, strict=True)}
            for u, (items, scores) in enumerate(zip(items_UK.tolist(), values_UK.tolist(), strict=True))
        }
    )
    targets = task.examples.targets
    qrels = ranx.Qrels(
        {f"q{u:04d}": {str(i): 1 for i in targets.row(u).tolist()} for u in range(len(targets.lengths_B()))}
    )
    lists_s = time.perf_counter() - began
    names = [f"{name}@{K}" for name in RANX_METRICS]
    theirs = ranx.evaluate(qrels, run, names)  # compiles
    metrics_s = median_s(lambda: ranx.evaluate(qrels, run, names))
    apart = max(
        abs(theirs[f"{n}@{K}"] - ours.per_query[f"{own}@{K}"].mean()) for n, own in RANX_METRICS.items()
    )
    print(f"ranx: lists {lists_s:.2f} s, five metrics {metrics_s:.2f} s, apart by {apart:.1e}", flush=True)
    return {"ranx_lists_s": lists_s, "ranx_metrics_s": metrics_s, "ranx_max_difference": apart}


def measure_sklearn(task: Task, ours: Evaluation) -> dict[str, float]:
    scores_UI = task.masked_UI()
    # It takes no -inf; far below everything else is the same for NDCG.
    finite_UI = np.where(np.isinf(scores_UI), np.float32(-1e9), scores_UI)
    relevant_UI = np.zeros(scores_UI.shape, dtype=np.int8)
    targets = task.examples.targets
    relevant_UI[targets.rows_N().numpy(), targets.values_N.numpy()] = 1
    ndcg: list[float] = []
    ndcg_s = median_s(
        lambda: ndcg.append(ndcg_score(relevant_UI, finite_UI, k=K, ignore_ties=True)), repeats=3
    )

    def user_auc(u: int) -> float:
        kept_I = ~np.isinf(scores_UI[u])
        return float(roc_auc_score(relevant_UI[u, kept_I], scores_UI[u, kept_I]))

    began = time.perf_counter()
    auc_U = [user_auc(u) for u in range(NUM_AUC_USERS)]
    auc_s = time.perf_counter() - began
    apart = max(
        abs(ndcg[0] - ours.per_query[f"ndcg@{K}"].mean()),
        float(np.abs(np.array(auc_U) - ours.per_query["auc"][:NUM_AUC_USERS]).max()),
    )
    print(
        f"scikit-learn: NDCG {ndcg_s:.2f} s, AUC of {NUM_AUC_USERS} users {auc_s:.2f} s, apart by {apart:.1e}"
    )
    return {"sklearn_ndcg_s": ndcg_s, "sklearn_auc_200_users_s": auc_s, "sklearn_max_difference": apart}


@watched
def main(load: Load) -> None:
    warnings.filterwarnings("ignore", message="unsafe cast")  # numba, while compiling ranx
    print(f"{NUM_USERS} users x {NUM_ITEMS} items, k = {K}, {torch.get_num_threads()} threads")
    many = generate(many_targets=True, ties=False)
    ours = many.evaluate()
    found = {
        "one_target_s": measure_recray("one target", generate(many_targets=False, ties=False)),
        "many_targets_s": measure_recray("many targets", many),
        "ties_s": measure_recray("many targets, scores tied", generate(many_targets=True, ties=True)),
    }
    slowest_s = max(found.values())
    result: dict[str, Any] = {"users": NUM_USERS, "items": NUM_ITEMS, "limit_s": LIMIT_S, **found}
    result |= {"slowest_s": slowest_s, "within_limit": slowest_s < LIMIT_S}
    result |= measure_ranx(many, ours) | measure_sklearn(many, ours)
    load.finish({k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in result.items()})


if __name__ == "__main__":
    main()
