"""What `make demo` trains: the presets, under one split, sized for a laptop."""

from typing import Literal

from recray.config import override
from recray.data.events.split_data import DataConfig, open_split
from recray.pipelines.train import Trained, train
from recray.recipes import RECIPES, run_for
from recray.store import Store
from recray.train.context import LaunchConfig

SPLIT: Literal["global-time"] = "global-time"


def train_on(name: str, dataset: str, where: LaunchConfig, store: Store) -> Trained:
    """One stage: a recipe's run for that data, under the demo's split."""
    run = override(run_for(RECIPES[name], dataset), {"data.split": SPLIT})
    return train(RECIPES[name], run, where, store)


def baselines(dataset: str) -> tuple[str, ...]:
    """Models beside the demo's own: what is easy, and on generated data what is possible."""
    return ("popularity", "item_knn", *(("ideal",) if dataset == "synthetic" else ()))


def latest_time(dataset: str) -> int:
    """Unix seconds just after the last event: when the demo's questions are asked."""
    return int(open_split(DataConfig(dataset=dataset)).dataset.timestamps_N[-1]) + 1


def some_users(dataset: str, count: int = 3) -> list[str]:
    """Raw ids of the users with the latest events, and one that nobody has heard of."""
    data = open_split(DataConfig(dataset=dataset)).dataset
    latest: dict[int, None] = dict.fromkeys(data.user_ids_N[::-1].tolist())
    return [*(str(data.users["raw_id"][u]) for u in list(latest)[:count]), "somebody-new"]
