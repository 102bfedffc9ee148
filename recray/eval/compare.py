"""Evaluations side by side: paired differences, a table, a plot, JSON.

All of them refuse evaluations under different protocol cards or over different users. Runs of one
model with several seeds are averaged per user first, so that intervals stay over users; the spread
between seeds is shown beside them.

Shapes: U users, M metrics.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from recray.config import ConfigError, nearest
from recray.eval.bootstrap import NUM_RESAMPLES, Interval, intervals, sign_flip_p_value
from recray.eval.evaluate import Evaluation
from recray.eval.protocol import paired_order, require_same_card
from recray.pages.palette import BLUE, INK
from recray.pages.plots import panels


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
    """A PNG with one panel per metric: models, best first, with their values, 95 % intervals and seeds.

    A metric that says of every user what one before it says (recall is hit where one item is relevant) has no
    panel of its own.
    """
    results = aggregate(rows)
    names = _distinct(rows, _chosen(results, metrics))
    card = rows[0].evaluation.card
    title = f"{card.dataset}, {card.split}, {card.target}; 95 % intervals over users, a dot for each seed"
    plots = [(name, partial(_panel, name=name, results=results, rows=rows)) for name in names]
    panels(path, plots, title=title, columns=min(3, len(names)), size=(4.2, 1.0 + 0.42 * len(results)))


def _distinct(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    def says(name: str) -> tuple[bytes, ...]:
        found = (row.evaluation.per_query.get(name) for row in rows)
        return tuple(name.encode() if values is None else values.tobytes() for values in found)

    return list({says(name): name for name in reversed(names)}.values())[::-1]


def _panel(axes: Axes, *, name: str, results: Sequence[ModelResult], rows: Sequence[Row]) -> None:
    ordered = sorted(results, key=lambda result: -result.metrics[name].mean)
    for y, result in enumerate(ordered):
        mean, low, high = result.metrics[name]
        axes.barh(y, mean, color=BLUE, height=0.6, alpha=0.45)
        if not math.isnan(low):
            axes.plot([low, high], [y, y], color=INK, linewidth=1.2)
        dots = [row.evaluation.means()[name] for row in rows if row.model == result.model]
        axes.plot(dots, [y] * len(dots), "o", color=BLUE, markersize=3)
        end = mean if math.isnan(low) else high
        axes.annotate(f"{mean:.4f}", (end, y), (4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(ordered)), [result.model for result in ordered])
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(4))


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
