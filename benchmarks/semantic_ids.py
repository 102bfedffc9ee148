"""How well the ways to train an RQ-VAE tell items apart, on one data set, over seeds.

python -m benchmarks.semantic_ids [--dataset amazon-beauty] [--seeds 3] [--only rotation ste]

Every row is the data set's preset with one thing changed. Figures are over all items, of the codes before
disambiguation: usage of the worst level, perplexity of each, the share of items that share their codes
with another one, 1 - distinct ids / items, the largest collision, and the reconstruction error; mean and
range over seeds. ``identical`` is the share of items whose content vector another item has too: no codes
of content can tell those apart. The last line is one JSON object.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recray.config import override
from recray.pipelines.train import fit
from recray.recipes import run_for
from recray.recipes.rqvae import RQVAE_RECIPE, RQVAERun
from recray.track.console import setup_logging
from recray.train.context import LaunchConfig

RESULT = Path(__file__).parent / "results" / "semantic_ids.json"
USAGE, COLLISIONS = 0.9, 0.05
SHOWN = ("usage", "collision_rate", "excess_rate", "largest_collision", "reconstruction", "train_s")

VARIANTS: dict[str, dict[str, Any]] = {  # name -> what it changes in the preset
    "ste": {"model.quantizer.estimator": "ste"},
    "rotation": {"model.quantizer.estimator": "rotation"},
    "gumbel": {"model.quantizer.estimator": "gumbel"},
    "sinkhorn": {"model.quantizer.sinkhorn_levels": 3},
    "simvq": {"model.quantizer.simvq": True},
    "cosine": {"model.quantizer.distance": "cosine"},
    "without spread": {"model.spread": 0.0},
    "without sketch": {"content.sketch": 0},
}


def trained(run: RQVAERun) -> dict[str, float]:
    """Metrics of a run's best weights, over every item that has content."""
    fitted = fit(RQVAE_RECIPE, run, LaunchConfig(where="local"))
    found = RQVAE_RECIPE.measure(run, fitted.data, fitted.model)
    return {**found.means(), "usage": min(found.quality.usage_L), "train_s": fitted.duration_s}


def variant(run: RQVAERun, changes: Mapping[str, Any], seeds: int) -> dict[str, dict[str, float]]:
    """metric -> mean, lowest and highest over seeds."""
    found = [trained(replace(override(run, changes), seed=seed)) for seed in range(seeds)]
    table = {name: np.array([metrics[name] for metrics in found]) for name in found[0]}
    return {
        name: {"mean": float(v.mean()), "low": float(v.min()), "high": float(v.max())}
        for name, v in table.items()
    }


def identical(run: RQVAERun) -> float:
    """Share of the items whose content vector another item has too."""
    vectors_IF = RQVAE_RECIPE.open(run).content.vectors_IF.round(5)
    _, shared = np.unique(vectors_IF, axis=0, return_counts=True)
    return float(shared[shared > 1].sum() / len(vectors_IF))


def show(rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    print("| | " + " | ".join(SHOWN) + " |")
    print("| --- |" + " ---: |" * len(SHOWN))
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(_cell(metric, row[metric]) for metric in SHOWN) + " |")


def _cell(metric: str, value: Mapping[str, float]) -> str:
    style = ".2%" if metric in ("usage", "collision_rate", "excess_rate") else ".3g"
    return f"{value['mean']:{style}} ({value['low']:{style}}..{value['high']:{style}})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="amazon-beauty")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    options = parser.parse_args(arguments)
    setup_logging(30)
    torch.set_num_threads(1)
    run = replace(run_for(RQVAE_RECIPE, options.dataset), alarm=0.0)  # what collapses is a row like any other
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for name in options.only:
        rows[name] = variant(run, VARIANTS[name], options.seeds)
        show({name: rows[name]})
    print(f"\n{options.dataset}, {options.seeds} seeds: mean (lowest..highest)\n")
    show(rows)
    best = min(rows, key=lambda name: rows[name]["collision_rate"]["mean"])
    result = {
        "dataset": options.dataset,
        "seeds": options.seeds,
        "identical": identical(run),
        "best": best,
        "usage_min": rows[best]["usage"]["low"],
        "collision_rate": rows[best]["collision_rate"]["mean"],
        "excess_rate": rows[best]["excess_rate"]["mean"],
        "usage_ok": rows[best]["usage"]["low"] >= USAGE,
        "collisions_ok": rows[best]["collision_rate"]["high"] <= COLLISIONS,
        "rows": rows,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "rows"}))


if __name__ == "__main__":
    main()
