"""The quality report of a map of semantic ids as one HTML page."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from recray.arrays import Float64s
from recray.eval.semantic_ids import CodeQuality, collision_sizes
from recray.pages.check import Check
from recray.pages.page import figures, page, table
from recray.pages.palette import BLUE, GREY, ORANGE, SERIES
from recray.pages.plots import THOUSANDS, Draw
from recray.semantic_ids import SemanticIds

USAGE_WANTED, COLLISIONS_WANTED = 0.9, 0.05


def render(
    name: str,
    ids: SemanticIds,
    quality: CodeQuality,
    history: Sequence[Mapping[str, float]],
    metrics: Mapping[str, float],
) -> str:
    """The page: what the codes are, whether they are good enough, how they are used, how they came about."""
    lead = (
        f"Codes of {quality.num_items:,} items, digest {ids.digest[:12]}. Every figure is over all items "
        "and over the codes before disambiguation."
    )
    tiles = {
        "levels × codes": " × ".join((str(len(quality.usage_L)), str(ids.sizes[0]))),
        "items in a collision": f"{quality.collision_rate:.2%}",
        "largest collision": f"{quality.largest_collision:,}",
        "lowest usage": f"{min(quality.usage_L):.1%}",
        "entropy": f"{quality.entropy:.2f} of {np.log2(quality.num_items):.2f} bits",
        "reconstruction": f"{metrics['reconstruction']:.4f}",
    }
    sections = [_levels(ids, quality), figures(_plots(ids, history))]
    return page(name, lead, tiles, _checks(quality), "\n".join(sections), about="semantic ids")


def _checks(quality: CodeQuality) -> list[Check]:
    def check(name: str, good: bool, text: str) -> Check:
        level: Literal["ok", "warning"] = "ok" if good else "warning"
        return Check(name=name, level=level, text=text)

    usage = ", ".join(f"{value:.1%}" for value in quality.usage_L)
    return [
        check(
            "usage", min(quality.usage_L) >= USAGE_WANTED, f"{usage} of the codes of each level are in use"
        ),
        check(
            "collisions",
            quality.collision_rate <= COLLISIONS_WANTED,
            f"{quality.collision_rate:.2%} of the items share their codes with another item; moving "
            f"{quality.excess_rate:.2%} would leave none",
        ),
    ]


def _levels(ids: SemanticIds, quality: CodeQuality) -> str:
    rows = [
        (f"level {level}", f"{size}", f"{usage:.1%}", f"{perplexity:.1f}")
        for level, (size, usage, perplexity) in enumerate(
            zip(ids.sizes, quality.usage_L, quality.perplexity_L, strict=False), start=1
        )
    ]
    return table("Levels", ("", "codes", "in use", "perplexity"), rows)


def _plots(ids: SemanticIds, history: Sequence[Mapping[str, float]]) -> dict[str, Draw]:
    plots: dict[str, Draw] = {
        "Items of each code, most used first": lambda axes: _draw_usage(axes, ids),
        "Collisions: groups of items with equal codes": lambda axes: _draw_collisions(axes, ids),
    }
    if history:
        plots |= {
            "Reconstruction error while training": lambda axes: _draw_reconstruction(axes, history),
            "Usage and collisions while training": lambda axes: _draw_shares(axes, history),
        }
    return plots


def _draw_usage(axes: Axes, ids: SemanticIds) -> None:
    for level, column_I in enumerate(ids.content_codes().T):
        counts_C = np.sort(np.bincount(column_I, minlength=ids.sizes[level]))[::-1]
        color = SERIES[level % len(SERIES)]
        axes.plot(range(1, len(counts_C) + 1), counts_C, color=color, label=f"level {level + 1}")
    axes.set(xlabel="code, by rank", ylabel="items", ylim=(0, None))
    axes.yaxis.set_major_formatter(THOUSANDS)
    axes.legend()


def _draw_collisions(axes: Axes, ids: SemanticIds) -> None:
    groups = {size: count for size, count in collision_sizes(ids.content_codes()).items() if size > 1}
    places = range(len(groups))
    axes.bar(places, list(groups.values()), color=ORANGE, width=0.8)
    step = max(1, len(groups) // 12)
    axes.set_xticks(list(places)[::step], [str(size) for size in groups][::step])
    axes.set(xlabel="items in the group", ylabel="groups")


def _draw_reconstruction(axes: Axes, history: Sequence[Mapping[str, float]]) -> None:
    axes.plot(*_series(history, "reconstruction"), color=BLUE)
    axes.set(xlabel="epoch", ylabel="squared error per item", ylim=(0, None))


def _draw_shares(axes: Axes, history: Sequence[Mapping[str, float]]) -> None:
    levels = sum(name.startswith("usage_") for name in history[0])
    for level in range(1, levels + 1):
        color = SERIES[(level - 1) % len(SERIES)]
        epochs, share = _series(history, f"usage_{level}")
        axes.plot(epochs, 100 * share, color=color, label=f"usage, level {level}")
    epochs, share = _series(history, "collision_rate")
    axes.plot(epochs, 100 * share, color=GREY, linestyle=":", label="items in a collision")
    axes.set(xlabel="epoch", ylabel="%", ylim=(0, 103))
    axes.legend(fontsize=8)


def _series(history: Sequence[Mapping[str, float]], name: str) -> tuple[Float64s, Float64s]:
    return np.array([row["epoch"] for row in history]), np.array([row[name] for row in history])
