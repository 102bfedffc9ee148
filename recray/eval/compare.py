"""Evaluations side by side: paired differences, a table, a plot, JSON.

All of them refuse evaluations under different protocol cards or over different users. Runs of one
model with several seeds are averaged per user first, so that intervals stay over users; the spread
between seeds is shown beside them.

Shapes: U users, M metrics.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

from recray.config import ConfigError, nearest
from recray.eval.bootstrap import NUM_RESAMPLES, Interval, intervals, sign_flip_p_value
from recray.eval.evaluate import Evaluation
from recray.eval.protocol import paired_order, require_same_card


class PairedDifference(NamedTuple):
    """Mean over users of ``a - b`` with its 95 % interval and two-sided p-value."""

    mean: float
    low: float
    high: float
    p_value: float


class Row(NamedTuple):
    """One run of one model."""

    model: str
    seed: int
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """All runs of one model. ``seed_std``: standard deviation of a metric between seeds, NaN for one seed."""

    model: str
    num_seeds: int
    metrics: dict[str, Interval]
    seed_std: dict[str, float]


def compare(
    a: Evaluation, b: Evaluation, metric: str, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> PairedDifference:
    """How much better ``a`` is than ``b`` for the same users.

    The interval is a bootstrap over users, the p-value a paired randomisation test
    (``bootstrap.sign_flip_p_value``).

    Raises:
        ConfigError: the cards differ (names the fields and both values), the users differ, or no such metric.
    """
    require_same_card(a.card, b.card)
    for evaluation in (a, b):
        if metric not in evaluation.per_query:
            raise ConfigError(f"no metric {metric!r} per user{nearest(metric, evaluation.per_query)}")
    order_U = paired_order(a.user_ids_U, b.user_ids_U)
    differences_U = a.per_query[metric] - b.per_query[metric][order_U]
    [found] = intervals(differences_U[:, None], num_resamples=num_resamples, seed=seed)
    return PairedDifference(*found, sign_flip_p_value(differences_U, seed=seed))


def aggregate(rows: Sequence[Row]) -> list[ModelResult]:
    """One result per model, in order of first appearance; see the module's text for seeds.

    Raises:
        ConfigError: no rows, or rows that may not be compared.
    """
    _require_comparable(rows)
    by_model: dict[str, list[Evaluation]] = {}
    for row in rows:
        by_model.setdefault(row.model, []).append(row.evaluation)
    return [_result(model, runs) for model, runs in by_model.items()]


def _require_comparable(rows: Sequence[Row]) -> None:
    if not rows:
        raise ConfigError("no evaluations to show")
    first = rows[0].evaluation
    for row in rows[1:]:
        require_same_card(first.card, row.evaluation.card)
        paired_order(first.user_ids_U, row.evaluation.user_ids_U)


def _result(model: str, runs: list[Evaluation]) -> ModelResult:
    first = runs[0]
    orders = [paired_order(first.user_ids_U, run.user_ids_U) for run in runs]
    mean = Evaluation(
        card=first.card,
        per_query={
            name: np.mean([run.per_query[name][o] for run, o in zip(runs, orders, strict=True)], axis=0)
            for name in first.per_query
        },
        scalars={name: float(np.mean([run.scalars[name] for run in runs])) for name in first.scalars},
        user_ids_U=first.user_ids_U,
    )
    seeds = [run.means() for run in runs]
    spread = {
        n: float(np.std([s[n] for s in seeds], ddof=1)) if len(runs) > 1 else math.nan for n in seeds[0]
    }
    return ModelResult(model=model, num_seeds=len(runs), metrics=mean.summary(), seed_std=spread)


def table(rows: Sequence[Row], metrics: Sequence[str] | None = None) -> Table:
    """A rich table: a row per model, ``mean [low, high]`` over users and ``± std`` over seeds.

    Args:
        metrics: names to show, in this order; None: all.
    """
    results = aggregate(rows)
    names = _chosen(results, metrics)
    card = rows[0].evaluation.card
    title = f"{card.dataset}, {card.split}, {card.target}, {len(rows[0].evaluation.user_ids_U)} users"
    made = Table(title=title, caption="mean [95 % interval over users] ± standard deviation over seeds")
    made.add_column("model", overflow="fold")
    made.add_column("seeds", justify="right")
    for name in names:
        made.add_column(name, justify="right")
    for result in results:
        cells = [_cell(result.metrics[name], result.seed_std[name]) for name in names]
        made.add_row(result.model, str(result.num_seeds), *cells)
    return made


def _cell(interval: Interval, seed_std: float) -> str:
    text = f"{interval.mean:.4f}"
    if not math.isnan(interval.low):
        # Escaped: rich would read a bracket as markup.
        text += f" \\[{interval.low:.4f}, {interval.high:.4f}]"
    return text if math.isnan(seed_std) else f"{text} ± {seed_std:.4f}"


def _chosen(results: Sequence[ModelResult], metrics: Sequence[str] | None) -> list[str]:
    common = [name for name in results[0].metrics if all(name in result.metrics for result in results)]
    for name in metrics or ():
        if name not in common:
            raise ConfigError(f"no metric {name!r} in every evaluation{nearest(name, common)}")
    return list(metrics or common)


def plot(rows: Sequence[Row], path: Path, metrics: Sequence[str] | None = None) -> None:
    """A PNG with one panel per metric: a bar per model, its 95 % interval, a dot per seed."""
    results = aggregate(rows)
    names = _chosen(results, metrics)
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(1.2 + 2.8 * columns, 0.6 + 2.6 * lines), layout="constrained")
    for index, name in enumerate(names):
        _panel(figure.add_subplot(lines, columns, index + 1), name, results, rows)
    card = rows[0].evaluation.card
    figure.suptitle(f"{card.dataset}, {card.split}, {card.target}; 95 % intervals over users", fontsize=10)
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png")


def _panel(axes: Axes, name: str, results: Sequence[ModelResult], rows: Sequence[Row]) -> None:
    axes.bar(
        range(len(results)), [result.metrics[name].mean for result in results], color="#9ab8d8", width=0.6
    )
    for x, result in enumerate(results):
        mean, low, high = result.metrics[name]
        if not math.isnan(low):
            axes.errorbar(
                x, mean, yerr=[[max(mean - low, 0)], [max(high - mean, 0)]], ecolor="#1d3557", capsize=3
            )
        dots = [row.evaluation.means()[name] for row in rows if row.model == result.model]
        axes.plot([x] * len(dots), dots, ".", color="#1d3557", markersize=4)
    axes.set_title(name, fontsize=10)
    axes.set_xticks(range(len(results)), [r.model for r in results], rotation=30, ha="right", fontsize=8)
    axes.tick_params(axis="y", labelsize=8)


def to_json(rows: Sequence[Row]) -> dict[str, Any]:
    """``{"card": ..., "rows": [{"model", "seed", "<metric>": {"mean", "low", "high"}, ...}]}``, JSON-ready.

    One row per run. ``low`` and ``high`` are null where a metric has no interval over users (coverage).
    """
    _require_comparable(rows)
    return {
        "card": rows[0].evaluation.card.to_json(),
        "rows": [
            {"model": row.model, "seed": row.seed}
            | {name: _json_interval(found) for name, found in row.evaluation.summary().items()}
            for row in rows
        ],
    }


def _json_interval(interval: Interval) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in interval._asdict().items()}
