"""What each business rule does to the lists of an application, measured offline on the test part.

python -m benchmarks.rules [--dataset ml-1m] [--split global-time] [--epochs 3]

No public data set says since when there is an item and whether it can be had. So its items get two columns:
``since``, the first day of the year in which a film appeared, and ``in_stock``, false for a drawn tenth. A
two-tower is trained on that. Every setting is one more run of the stages that a replica opens over the same
queries: NDCG@10, the share of places that are filled, diversity@10 (mean cosine distance of a list's pairs by
the retriever's vectors) with 95 % bootstrap intervals over users, and coverage@10 of the catalogue with an
interval of its own (``coverage``). The last line is one JSON object.
"""

import argparse
import datetime
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from recray import paths
from recray.arrays import Int64s
from recray.config import override
from recray.data.events.prepare import load_or_prepare
from recray.data.events.split_data import DataConfig, open_split
from recray.eval.bootstrap import Interval
from recray.folders import build_once
from recray.pipelines.train import train
from recray.pipelines.two_stage import measure_served
from recray.recipes import RECIPES, run_for
from recray.serve.place.config import ServiceConfig
from recray.serve.rules.allowed import AllowedConfig
from recray.serve.rules.available import AvailableConfig
from recray.serve.rules.diversify import DiversityConfig
from recray.serve.rules.explore import ExploreConfig
from recray.serve.rules.fresh import FreshConfig
from recray.serve.rules.listed import Rules
from recray.serve.rules.per_category import PerCategoryConfig
from recray.serve.rules.pinned import PinnedConfig
from recray.store import Store
from recray.track.console import setup_logging
from recray.train.context import LaunchConfig

RESULT = Path(__file__).parent / "results" / "rules.json"
METRICS = ("ndcg@10", "filled@10", "diversity@10", "coverage@10")
GONE = 0.1  # of the items cannot be had
RESAMPLES = 1_000
KEPT = 0.8  # of the users, in each
ANYTHING = AvailableConfig(enforced=False)


def settings(plain: ServiceConfig, pinned: str) -> dict[str, ServiceConfig]:
    """By what they are called.

    Args:
        pinned: raw id of an item.
    """
    rules = {
        "per_category at_most=2": Rules(per_category=PerCategoryConfig(at_most=2)),
        "diversity mmr 0.3": Rules(diversity=DiversityConfig(strength=0.3)),
        "diversity msd 0.3": Rules(diversity=DiversityConfig(strength=0.3, strategy="msd")),
        "diversity dpp 0.3": Rules(diversity=DiversityConfig(strength=0.3, strategy="dpp")),
        "explore epsilon 0.1": Rules(explore=ExploreConfig(policy="epsilon", epsilon=0.1, seed=0)),
        "explore plackett_luce 2": Rules(explore=ExploreConfig(policy="plackett_luce", seed=0)),
        "allowed deny_where=genres=Drama": Rules(allowed=AllowedConfig(deny_where=("genres=Drama",))),
        "pinned one item at the top": Rules(pinned=PinnedConfig(items=(f"1={pinned}",))),
        "fresh gain=0.5 half_life=1y": Rules(fresh=FreshConfig(gain=0.5, half_life_days=365, column="since")),
        "fresh gain=2 half_life=1y": Rules(fresh=FreshConfig(gain=2.0, half_life_days=365, column="since")),
    }
    return {
        "no rule": plain,
        **{name: replace(plain, rules=replace(each, available=ANYTHING)) for name, each in rules.items()},
        "available, without a tenth": replace(plain, rules=Rules()),
        "seen after 30 days": replace(plain, seen="after", seen_after_days=30.0),
        "seen keep": replace(plain, seen="keep"),
    }


def with_columns(name: str) -> str:
    """A data set with what the rules read of its items, as own data."""
    base = load_or_prepare(name)
    folder = paths.runs_dir() / "benchmarks" / f"rules-{base.hash[:12]}-stocked"

    def write(target: Path, _: Path) -> None:
        users, items = base.users["raw_id"], base.items["raw_id"]
        events = {
            "user_id": users[base.user_ids_N],
            "item_id": items[base.item_ids_N],
            "rating": base.ratings_N,
            "timestamp": base.timestamps_N,
        }
        pl.DataFrame(events).write_parquet(target / "events.parquet")
        in_stock_I = np.random.default_rng(0).random(len(items)) >= GONE
        since = [None if year is None else datetime.date(year, 1, 1) for year in base.items["year"].to_list()]
        table = base.items.rename({"raw_id": "item_id"}).with_columns(
            since=pl.Series(since), in_stock=in_stock_I
        )
        table.write_parquet(target / "items.parquet")
        base.users.rename({"raw_id": "user_id"}).write_parquet(target / "users.parquet")

    build_once(folder, lambda made: (made / "items.parquet").is_file(), write)
    return f"{folder}/events.parquet?items=items.parquet&users=users.parquet&name={base.name}-stocked"


def two_tower(preset: str, data: DataConfig, epochs: int) -> str:
    """Trained and published; returns what the bundle is called."""
    recipe = RECIPES["two_tower"]
    run = override(run_for(recipe, preset), {"data": data, "loop.epochs": epochs, "refit": False})
    return train(recipe, run, LaunchConfig(where="local"), Store()).bundle.manifest.name


def coverage(lists: Sequence[Int64s], num_items: int, k: int = 10, seed: int = 0) -> Interval:
    """The share of the catalogue in at least one list, and its 95 % interval over users.

    It is what all lists have together: a bootstrap draws some users twice, which show nothing more, so that
    its coverage is too small and moves too little. Here four fifths of the users are drawn without
    replacement, and what that moves stands for all of them (the delete-d jackknife: Shao & Wu, Annals of
    Statistics 17, 1989).

    Args:
        lists: item_ids_S of each user, best first; at least five.
    """
    shown_UI = np.zeros((len(lists), num_items), bool)
    for user, item_ids_S in enumerate(lists):
        shown_UI[user, item_ids_S[:k]] = True
    rng, kept = np.random.default_rng(seed), int(KEPT * len(lists))
    draws = [shown_UI[rng.permutation(len(lists))[:kept]].any(axis=0).mean() for _ in range(RESAMPLES)]
    mean = float(shown_UI.any(axis=0).mean())
    half = 1.96 * float(np.std(draws)) * math.sqrt(kept / (len(lists) - kept))
    return Interval(mean, max(mean - half, 0.0), min(mean + half, 1.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", default="ml-1m")
    parser.add_argument("--split", default="global-time")
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    setup_logging()
    of_run = DataConfig(dataset=with_columns(args.dataset), split=args.split)
    data, application = open_split(of_run), two_tower(args.dataset, of_run, args.epochs)
    pinned = str(data.dataset.items["raw_id"][0])
    found: dict[str, dict[str, object]] = {}
    plain = ServiceConfig(application=application, rules=Rules(available=ANYTHING))
    for name, config in settings(plain, pinned).items():
        measured = measure_served(config, data.dataset, data.split, version="latest")
        served = measured.served
        summary = served.summary() | {"coverage@10": coverage(measured.lists, len(data.dataset.items))}
        found[name] = {metric: summary[metric]._asdict() for metric in METRICS}
        shown = "  ".join(f"{m} {summary[m].mean:.4f}" for m in METRICS)
        print(f"{name:34s} {shown}", flush=True)
        result = {
            "dataset": args.dataset,
            "split": args.split,
            "application": application,
            "epochs": args.epochs,
            "users": len(served.user_ids_U),
            "rules": found,
        }
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
