"""Tables that a person reads: metrics side by side, recommendations with their reasons."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from recray.cli.terminal import Terminal
from recray.eval.ages import METRIC, as_words
from recray.eval.bootstrap import Interval
from recray.eval.clicks import ClickEvaluation
from recray.eval.compare import PairedDifference, Row, compare, table, to_json
from recray.eval.evaluate import Evaluation
from recray.eval.semantic_ids import MeasuredCodes
from recray.eval.two_stage import MeasuredStages
from recray.schema import FULL_CATALOGUE, ProtocolCard
from recray.train.run import Measured, Unmeasured

SHOWN = ("hit", "ndcg", "mrr", "coverage", "novelty")


@functools.singledispatch
def show(measured: Measured, model: str, seed: int) -> None:
    """What was measured, as a person reads it."""
    raise TypeError(f"nothing shows a {type(measured).__name__}")


@show.register
def _(measured: Unmeasured, model: str, seed: int) -> None:
    print(f"{model}: trained on all data; nothing is held out, so nothing is measured")


@show.register
def _(measured: Evaluation, model: str, seed: int) -> None:
    if measured.card.candidates == FULL_CATALOGUE:
        show_evaluation([Row(model, seed, measured)])
    else:  # sessions, which have metrics of their own
        show_summary(model, measured.summary(), measured.card)


@show.register
def _(measured: ClickEvaluation, model: str, seed: int) -> None:
    show_summary(model, measured.summary(), measured.card)


@show.register
def _(measured: MeasuredCodes, model: str, seed: int) -> None:
    show_codes(measured.means())


@show.register
def _(measured: MeasuredStages, model: str, seed: int) -> None:
    retriever, both = _stages(measured, model, seed)
    show_evaluation([retriever, both])
    if show_gain(both, retriever).high < 0:
        print("warning: the ranker makes the retriever's order worse: serve the retriever alone")
    for at in measured.ages:
        gain = f"{at.both - at.first:+.4f} [{at.low:+.4f}, {at.high:+.4f}]"
        print(f"served {as_words(at.age_s)} after its newest event: {METRIC} {at.both:.4f}, {gain}")


def _stages(measured: MeasuredStages, model: str, seed: int) -> tuple[Row, Row]:
    return Row("retriever", seed, measured.retriever), Row(f"retriever + {model}", seed, measured.ranker)


@functools.singledispatch
def document(measured: Measured, model: str, seed: int) -> dict[str, Any]:
    """The same for a program: the card, and the metrics with their intervals where there are any."""
    card = measured.card.to_json() if measured.card else None
    return {"card": card, "model": model, "seed": seed, "metrics": measured.means()}


@document.register
def _(measured: Evaluation, model: str, seed: int) -> dict[str, Any]:
    return to_json([Row(model, seed, measured)])


@document.register
def _(measured: MeasuredStages, model: str, seed: int) -> dict[str, Any]:
    retriever, both = _stages(measured, model, seed)
    gain = compare(both.evaluation, retriever.evaluation, "ndcg@10")
    ages = [at._asdict() for at in measured.ages]
    return {**to_json([retriever, both]), "gain": gain._asdict(), "ages": ages}


def show_evaluation(rows: Sequence[Row]) -> None:
    """The main metrics at every k, and the protocol that they were measured under."""
    shared = set.intersection(*(set(row.evaluation.per_query) for row in rows))
    for k in sorted(int(name.removeprefix("ndcg@")) for name in shared if name.startswith("ndcg@")):
        Terminal().print(table(rows, [f"{name}@{k}" for name in SHOWN]))
    card = rows[0].evaluation.card
    print(f"protocol: {card.split}, {card.asked}, full ranking, seen items {card.seen}")
    print(f"to find: {card.relevance}; known at test: {card.known}; repeats {card.repeats}")
    for reason, count in card.dropped.items():
        print(f"users not asked: {count:,} with {reason}")


def show_summary(model: str, found: Mapping[str, Interval], card: ProtocolCard) -> None:
    """The metrics of one model with their intervals, and the protocol that they were measured under."""
    grid = Table(title=f"{model} on {card.dataset}, {card.split}, {card.target}", title_justify="left")
    for column in ("metric", "mean", "95 % interval"):
        grid.add_column(column)
    for name, interval in found.items():
        grid.add_row(name, f"{interval.mean:.4f}", f"{interval.low:.4f} to {interval.high:.4f}")
    Terminal().print(grid)
    print(f"protocol: {card.split}, {card.relevance}, {card.candidates}")


def show_parts(title: str, parts: Mapping[str, Mapping[str, float]]) -> None:
    """Metrics of each part of a split, side by side."""
    grid = Table(title=title, title_justify="left")
    for column in ("part", *next(iter(parts.values()))):
        grid.add_column(column)
    for part, found in parts.items():
        grid.add_row(part, *(f"{value:.4f}" for value in found.values()))
    Terminal().print(grid)


def show_gain(better: Row, base: Row, metric: str = "ndcg@10") -> PairedDifference:
    """The paired difference of two rows, with its interval."""
    gain = compare(better.evaluation, base.evaluation, metric)
    print(
        f"{better.model} - {base.model}, {metric}: {gain.mean:+.4f}, "
        f"95 % interval [{gain.low:+.4f}, {gain.high:+.4f}]"
    )
    return gain


def show_recommendations(user: str, answer: Mapping[str, Any]) -> None:
    """One user's list: title, score, which source proposed it, and what moved it most."""
    total_ms = sum(answer["timings_ms"].values())
    stood_in = f", fallback: {answer['fallback']}" if answer["fallback"] else ""
    grid = Table(
        title=f"user {escape(user)}{stood_in} ({total_ms:.1f} ms in the replica)", title_justify="left"
    )
    grid.add_column("#", justify="right")
    grid.add_column("title", max_width=42)
    grid.add_column("score", justify="right")
    grid.add_column("source")
    grid.add_column("why", overflow="fold")
    for place, item in enumerate(answer["items"], start=1):
        score = "" if item["score"] is None else f"{item['score']:.3f}"
        grid.add_row(str(place), escape(item["title"] or item["item_id"]), score, item["source"], _why(item))
    Terminal().print(grid)


def _why(item: Mapping[str, Any]) -> str:
    def part(reason: Mapping[str, Any]) -> str:
        value = "unknown" if reason["value"] is None else f"{reason['value']:.3g}"
        return f"{reason['feature']} {value} ({reason['contribution']:+.2f})"

    return ", ".join(map(part, item.get("why", [])[:2]))


def show_codes(metrics: Mapping[str, float]) -> None:
    """How codes are used and how many items they fail to tell apart."""
    grid = Table(title="codes before disambiguation", title_justify="left")
    levels = [name.removeprefix("usage_") for name in metrics if name.startswith("usage_")]
    for column in ("level", "usage", "perplexity"):
        grid.add_column(column, justify="right")
    for level in levels:
        usage, perplexity = metrics[f"usage_{level}"], metrics[f"perplexity_{level}"]
        grid.add_row(level, f"{usage:.1%}", f"{perplexity:.1f}")
    Terminal().print(grid)
    print(
        f"reconstruction {metrics['reconstruction']:.4f}, entropy {metrics['entropy']:.2f} bits; "
        f"{metrics['collision_rate']:.2%} of the items share their codes, at most "
        f"{metrics['largest_collision']:.0f} of them"
    )
