"""What `make demo` trains: the presets, under one split, sized for a laptop."""

from dataclasses import replace
from typing import Literal

from recray.recipes import preset
from recray.recipes.ranking import RankerRun
from recray.recipes.retrieval import DataConfig, TwoTowerRun, prepared

SPLIT: Literal["global-time"] = "global-time"


def _data(dataset: str) -> DataConfig:
    return DataConfig(dataset=dataset, split=SPLIT)


def retriever_run(dataset: str) -> TwoTowerRun:
    run: TwoTowerRun = preset("two_tower", dataset)
    return replace(run, data=_data(dataset))


def ranker_run(dataset: str) -> RankerRun:
    return RankerRun(data=_data(dataset))


def baselines(dataset: str) -> tuple[str, ...]:
    """Models beside the demo's own: what is easy, and on generated data what is possible."""
    return ("popularity", "item_knn", *(("ideal",) if dataset == "synthetic" else ()))


def latest_time(dataset: str) -> int:
    """Unix seconds just after the last event: when the demo's questions are asked."""
    return int(prepared(_data(dataset)).dataset.timestamps_N[-1]) + 1


def some_users(dataset: str, count: int = 3) -> list[str]:
    """Raw ids of the users with the latest events, and one that nobody has heard of."""
    data = prepared(_data(dataset)).dataset
    latest: dict[int, None] = dict.fromkeys(data.user_ids_N[::-1].tolist())
    return [*(str(data.users["raw_id"][u]) for u in list(latest)[:count]), "somebody-new"]
