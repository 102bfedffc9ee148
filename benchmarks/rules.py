"""What each business rule does to the lists of an application, measured offline on the test part.

python -m benchmarks.rules [--dataset ml-1m] [--split global-time] [--application ml-1m-two_tower]

Every setting is one more run of the stages that a replica opens over the same queries: NDCG@10, the share of
places that are filled, diversity@10 (mean cosine distance of a list's pairs by the retriever's vectors) with
95 % bootstrap intervals over users, and coverage@10 of the catalogue, which is one number of all lists
together. The application is one that was trained before (README). The last line is one JSON object.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from recray.data.events.split_data import DataConfig, open_split
from recray.pipelines.two_stage import measure_served
from recray.serve.place.config import ServiceConfig
from recray.serve.rules.allowed import AllowedConfig
from recray.serve.rules.diversify import DiversityConfig
from recray.serve.rules.explore import ExploreConfig
from recray.serve.rules.listed import Rules
from recray.serve.rules.per_category import PerCategoryConfig
from recray.serve.rules.pinned import PinnedConfig
from recray.track.console import setup_logging

RESULT = Path(__file__).parent / "results" / "rules.json"
METRICS = ("ndcg@10", "filled@10", "diversity@10", "coverage@10")


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
    }
    return {
        "no rule": plain,
        **{name: replace(plain, rules=each) for name, each in rules.items()},
        "seen after 30 days": replace(plain, seen="after", seen_after_days=30.0),
        "seen keep": replace(plain, seen="keep"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", default="ml-1m")
    parser.add_argument("--split", default="global-time")
    parser.add_argument("--application", default="ml-1m-two_tower")
    parser.add_argument("--version", default="latest")
    args = parser.parse_args()
    setup_logging()
    data = open_split(DataConfig(dataset=args.dataset, split=args.split))
    pinned = str(data.dataset.items["raw_id"][0])
    found: dict[str, dict[str, object]] = {}
    for name, config in settings(ServiceConfig(application=args.application), pinned).items():
        served = measure_served(config, data.dataset, data.split, version=args.version).served
        summary = served.summary()
        found[name] = {metric: summary[metric]._asdict() for metric in METRICS}
        shown = "  ".join(f"{m} {summary[m].mean:.4f}" for m in METRICS)
        print(f"{name:34s} {shown}", flush=True)
        result = {
            "dataset": args.dataset,
            "split": args.split,
            "application": args.application,
            "users": len(served.user_ids_U),
            "rules": found,
        }
        # Not a number where an interval has no meaning: JSON has no word for it.
        text = json.dumps(result).replace("NaN", "null")
        RESULT.write_text(json.dumps(json.loads(text), indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
