"""A comparison as one HTML page: who is better by how much, for whom, and how sure that is."""

import html
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from recray.arrays import Float64s
from recray.data.events.split_data import SplitData
from recray.eval.compare import ModelResult, Row, aggregate
from recray.eval.protocol import paired_order
from recray.pages.check import Check
from recray.pages.page import figures, page, table
from recray.pages.palette import BLUE, GREY, SERIES
from recray.pipelines.experiment_page import BESIDE
from recray.pipelines.segments import Segment, segments

FEW = 30  # users, of whom a mean says little


def render(rows: Sequence[Row], differences: pl.DataFrame, split: SplitData, metric: str) -> str:
    """
    Args:
        rows: under one card.
        differences: of all pairs, as ``recray.compare`` has them.
        metric: by which models are sorted and told apart, "ndcg@10".
    """
    found = sorted(aggregate(rows), key=lambda one: -one.metrics[metric].mean)
    user_ids_U = rows[0].evaluation.user_ids_U
    values = {one.model: _values(one.model, rows, metric) for one in found}
    kinds = segments(split.dataset, split.split, user_ids_U)
    card, k = rows[0].evaluation.card, metric.rpartition("@")[2]
    tiles = {
        "models": str(len(found)),
        "users": f"{len(user_ids_U):,}",
        f"best {metric}": f"{found[0].metrics[metric].mean:.4f}",
        "best": html.escape(found[0].model),
    }
    plots = {
        f"{metric}, with its 95 % interval over users": partial(_models, found=found, metric=metric),
        f"{metric} and novelty": partial(_novelty, found=found, metric=metric, novelty=f"novelty@{k}"),
        **{f"{metric} by {kind}": partial(_by_segment, of=of, values=values) for kind, of in kinds.items()},
    }
    sections = [
        _table_of_models(found, metric),
        _pairs(differences, metric) if len(found) > 1 else "",
        *(_segments(kind, of, values, metric) for kind, of in kinds.items()),
        figures(plots),
    ]
    lead = html.escape(f"{card.dataset}, {card.split}: {card.target} part, to find: {card.relevance}.")
    checks = _checks(found, kinds)
    return page(split.dataset.manifest.name, lead, tiles, checks, "\n".join(sections), "comparison")


def _values(model: str, rows: Sequence[Row], metric: str) -> Float64s:
    """values_U: means over the seeds of a model, users in the order of the first row."""
    first = rows[0].evaluation
    of_seeds = [
        row.evaluation.per_query[metric][paired_order(first.user_ids_U, row.evaluation.user_ids_U)]
        for row in rows
        if row.model == model
    ]
    values_U: Float64s = np.mean(of_seeds, axis=0)
    return values_U


def _table_of_models(found: Sequence[ModelResult], metric: str) -> str:
    k = metric.rpartition("@")[2]
    beside = [name for kind in BESIDE if all((name := f"{kind}@{k}") in one.metrics for one in found)]
    lines = []
    for one in found:
        mean, low, high = one.metrics[metric]
        others = [f"{one.metrics[name].mean:.4f}" for name in beside]
        lines.append([one.model, str(one.num_seeds), f"{mean:.4f} [{low:.4f}, {high:.4f}]", *others])
    return table("Models, 95 % intervals over users", ["model", "seeds", metric, *beside], lines)


def _pairs(differences: pl.DataFrame, metric: str) -> str:
    lines = [
        [f"{better} over {than}", f"{mean:+.4f}", f"{low:+.4f} to {high:+.4f}", f"{p_value:.4f}"]
        for better, than, mean, low, high, p_value in differences.iter_rows()
    ]
    return table(
        f"Differences of {metric}, users paired", ["pair", "difference", "95 % interval", "p (Holm)"], lines
    )


def _segments(kind: str, of: Sequence[Segment], values: Mapping[str, Float64s], metric: str) -> str:
    lines = []
    for one in of:
        means = [f"{values_U[one.user_U].mean():.4f}" for values_U in values.values()]
        lines.append([one.name, f"{one.user_U.sum():,}", *means])
    return table(f"{metric} by {kind}", [kind, "users", *values], lines)


def _models(axes: Axes, found: Sequence[ModelResult], metric: str) -> None:
    for place, one in enumerate(found):
        mean, low, high = one.metrics[metric]
        axes.plot([low, high], [place, place], color=BLUE, linewidth=2)
        axes.plot(mean, place, "o", color=BLUE)
        said = f"{one.model}: {mean:.4f}"
        axes.annotate(said, (mean, place), (0, 6), textcoords="offset points", ha="center")
    axes.set_yticks([])
    axes.invert_yaxis()
    axes.margins(x=0.15, y=0.2)
    axes.set_xlabel(metric)


def _novelty(axes: Axes, found: Sequence[ModelResult], metric: str, novelty: str) -> None:
    for n, one in enumerate(found):
        color = SERIES[n] if n < len(SERIES) else GREY
        x, y = one.metrics[novelty].mean, one.metrics[metric].mean
        axes.plot(x, y, "o", color=color, markersize=5, label=one.model)
    axes.margins(0.15)
    axes.set_xlabel(f"{novelty}, bits: how rare what is shown is")
    axes.set_ylabel(metric)
    axes.legend(fontsize=7)


def _by_segment(axes: Axes, of: Sequence[Segment], values: Mapping[str, Float64s]) -> None:
    for n, (model, values_U) in enumerate(values.items()):
        means = [values_U[one.user_U].mean() for one in of]
        color = SERIES[n] if n < len(SERIES) else GREY
        axes.plot(range(len(of)), means, color=color, marker="o", markersize=4, label=model)
    axes.set_xticks(range(len(of)), [one.name for one in of])
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)


def _checks(found: Sequence[ModelResult], kinds: Mapping[str, Sequence[Segment]]) -> list[Check]:
    smallest = min(int(one.user_U.sum()) for of in kinds.values() for one in of)
    seeds = min(one.num_seeds for one in found)
    return [
        Check(
            name="seeds",
            level="note",
            text="intervals of the models are over users; those of differences add what seeds differ by"
            if seeds > 1
            else "a model has one run: what another seed would change is in no interval",
        ),
        Check(
            name="segments",
            level="warning" if smallest < FEW else "ok",
            text=f"the smallest part of the users has {smallest:,}: its means are by chance"
            if smallest < FEW
            else f"each part of the users has at least {smallest:,}",
        ),
    ]
