"""What it is worth to tell a server of new items: whoever had to do with them finds them at once.

python -m benchmarks.new_items [--datasets ml-100k] [--share 0.05] [--seeds 3] [--models two_tower item_knn]

A share of the items that have genres is taken out of the data, with all that anybody did with them. Each
model is trained and published on the rest and served; then the server is told of the items by ``PUT
/items/{id}``, with nothing but what the catalogue says of them. Users who had to do with them are asked for.
``among_new``: in which order the new ones come when all others are barred, recall@10 and @20 of a user's new
items, and their mean rank as a share of the list (0.5 by chance). ``in_list``: recall@20 and @100 in the
whole list, among all items. ``ranked``: with trees behind the model that have learnt to order its candidates
and have never seen an item without events. Peers, on the same users: ``random``; ``content``, which orders by
TF-IDF cosines with the user's history and learns nothing; ``hindsight``, the popularity that the new items
turned out to have. The last line is one JSON object.
"""

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from recray.arrays import Int64s
from recray.config import override
from recray.data.content.tfidf import fit_tfidf
from recray.data.events.dataset import Dataset
from recray.data.events.prepare import load_or_prepare
from recray.data.sources.tables.frames import frame_table
from recray.pipelines.train import train
from recray.recipes import RECIPES, run_for
from recray.serve.events.hub import LocalHub
from recray.serve.events.told import Availability
from recray.serve.http.live_requests import ItemRequest
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.serve.query import MAX_K
from recray.store import Reference, Store
from recray.track.console import setup_logging
from recray.train.context import LaunchConfig

RESULT = Path(__file__).parent / "results" / "new_items.json"
LOCAL = LaunchConfig(where="local")
Order = Callable[[str], Sequence[str]]
"""Of a user's raw id: the raw ids of new items, best first; those that are not found are left out."""

Found = dict[str, dict[str, float]]
"""Metrics, by ``among_new`` and ``in_list``."""


class Held(NamedTuple):
    """A data set without some of its items, and what users did with those."""

    table: str  # of the rest, as a data set is named
    history: Mapping[str, Int64s]  # of each user that is asked for: rows of the rest
    wanted: Mapping[str, frozenset[str]]  # of each user: raw ids of new items
    items: pl.DataFrame  # of the rest
    new: pl.DataFrame  # the items that are told of


def held_out(data: Dataset, share: float, seed: int) -> Held:
    """Without a share of the items of which genres are known, drawn by the seed."""
    rng = np.random.default_rng(seed)
    has_genres = np.flatnonzero((data.items["genres"].list.len() > 0).fill_null(value=False).to_numpy())
    is_new_I = np.zeros(data.num_items, bool)
    is_new_I[rng.choice(has_genres, int(share * data.num_items), replace=False)] = True
    is_new_N = is_new_I[data.item_ids_N]
    users, raw = data.users["raw_id"].to_numpy(), data.items["raw_id"].to_numpy()
    events = pl.DataFrame(
        {
            "user_id": users[data.user_ids_N],
            "item_id": raw[data.item_ids_N],
            "rating": data.ratings_N,
            "timestamp": data.timestamps_N,
        }
    )
    rest = data.items.filter(~is_new_I)
    row_of = {item: row for row, item in enumerate(rest["raw_id"].to_list())}
    wanted, history = (
        dict(events.filter(mask).group_by("user_id").agg("item_id").iter_rows())
        for mask in (is_new_N, ~is_new_N)
    )
    asked = sorted(user for user in wanted if user in history)
    table = frame_table(
        events.filter(~is_new_N),
        f"{data.name}-without-{seed}",
        items=rest.rename({"raw_id": "item_id"}),
        users=data.users.rename({"raw_id": "user_id"}),
    )
    return Held(
        table,
        {user: np.array([row_of[item] for item in history[user]]) for user in asked},
        {user: frozenset(wanted[user]) for user in asked},
        rest,
        data.items.filter(is_new_I),
    )


def content_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of an item, as JSON has it."""
    said = {name: value for name, value in row.items() if value is not None and name != "raw_id"}
    return {n: v.isoformat() if isinstance(v, datetime.date) else v for n, v in said.items()}


def told_of(service: FusedService, held: Held) -> None:
    """Tells the server of every new item and waits until it knows them."""
    for row in held.new.iter_rows(named=True):
        asyncio.run(service.tell_of_item(row["raw_id"], ItemRequest(**content_of(row))))
    while not set(held.new["raw_id"]) <= service.catalogue.item_rows.keys():
        service._feed.look()


def published(name: str, held: Held, seed: int, changes: Mapping[str, Any]) -> Reference:
    """One model, trained without the new items, in production."""
    recipe, store = RECIPES[name], Store()
    run = override(run_for(recipe, held.table), {"seed": seed, **changes})
    bundle = train(recipe, run, LOCAL, store).bundle
    store.promote(bundle.reference.name, bundle.reference.version)
    return bundle.reference


def served(application: str, held: Held) -> Found:
    """What its server shows once it was told of the new items."""
    hub = LocalHub()
    service = FusedService(ServiceConfig(application=application), hub)
    known = list(service.catalogue.item_rows)
    told_of(service, held)

    def shown(user: str, k: int) -> list[str]:
        answer = service.growing.now.recommend(RecommendRequest(user_id=user, k=k))
        return [item["item_id"] for item in answer["items"]]

    whole = {user: shown(user, 100) for user in held.wanted}
    in_list = {f"recall@{k}": recall(lambda user: whole[user], held, k) for k in (20, 100)}
    hub.append([Availability(item, available=False) for item in known])
    service._feed.look()
    among = among_new(lambda user: shown(user, min(len(held.new), MAX_K)), held)
    service.stop()
    return {"among_new": among, "in_list": in_list}


def models_of(models: Sequence[str], held: Held, seed: int) -> Iterator[tuple[str, Found]]:
    """Each model alone and with a ranker behind it; the two-tower also without what it says of side features:
    known by the most alike."""
    for name in models:
        retriever = published(name, held, seed, {})
        yield name, served(retriever.name, held)
        behind = {"retriever": retriever.name, "retriever_version": str(retriever.version)}
        ranker = published("gbdt_ranker", held, seed, behind)
        yield f"{name}, ranked", served(ranker.name, held)
    if "two_tower" in models:
        alike = published("two_tower", held, seed, {"model.side_features": False})
        yield "two_tower, by likeness", served(alike.name, held)


def recall(order: Order, held: Held, k: int) -> float:
    """Mean over users of the share of their new items that are among the first k."""
    return float(
        np.mean([len(set(order(user)[:k]) & want) / len(want) for user, want in held.wanted.items()])
    )


def among_new(order: Order, held: Held) -> dict[str, float]:
    """Recall, and the mean rank of what was wanted, 0 first to 1 last; what is not found stands in the middle
    of what is left."""
    orders = {user: order(user) for user in held.wanted}
    last, ranks = len(held.new) - 1, []
    for user, want in held.wanted.items():
        place = {item: n for n, item in enumerate(orders[user])}
        unfound = (len(place) + last) / 2
        ranks.append(np.mean([place.get(item, unfound) for item in want]) / last)
    return {
        **{f"recall@{k}": recall(orders.__getitem__, held, k) for k in (10, 20)},
        "mean_rank": float(np.mean(ranks)),
    }


def peers(held: Held, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Orders of the new items that need no server."""
    new = held.new["raw_id"].to_numpy()
    encoder = fit_tfidf(pl.concat([held.items, held.new]), dim=512)
    old_IF, new_EF = encoder.encode(held.items), encoder.encode(held.new)
    counts = [sum(item in want for want in held.wanted.values()) for item in new]
    rng = np.random.default_rng(seed)
    orders: dict[str, Order] = {
        "random": lambda user: rng.permutation(new).tolist(),
        "content": lambda user: new[
            np.argsort(-(new_EF @ old_IF[held.history[user]].mean(axis=0)), kind="stable")
        ].tolist(),
        "hindsight": lambda user: new[np.argsort(-np.array(counts), kind="stable")].tolist(),
    }
    return {name: {"among_new": among_new(order, held)} for name, order in orders.items()}


def averaged(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean and standard deviation over the seeds."""
    return {
        part: {
            metric: {
                "mean": float(np.mean([run[part][metric] for run in runs])),
                "std": float(np.std([run[part][metric] for run in runs])),
            }
            for metric in runs[0][part]
        }
        for part in runs[0]
    }


def measure(dataset: str, share: float, seeds: int, models: Sequence[str]) -> dict[str, Any]:
    data = load_or_prepare(dataset)
    runs: dict[str, list[Any]] = {}
    for seed in range(seeds):
        with home_of_its_own():
            held = held_out(data, share, seed)
            for name, found in [*peers(held, seed).items(), *models_of(models, held, seed)]:
                runs.setdefault(name, []).append(found)
    sizes = {"new_items": int(share * data.num_items), "items": data.num_items, "seeds": seeds}
    return {**sizes, **{name: averaged(each) for name, each in runs.items()}}


@contextlib.contextmanager
def home_of_its_own() -> Iterator[None]:
    """A ranker finds its retriever in the store under RECRAY_HOME; the one that there is stays as it is."""
    before = os.environ.get("RECRAY_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RECRAY_HOME"] = folder
        try:
            yield
        finally:
            os.environ.pop("RECRAY_HOME")
            if before is not None:
                os.environ["RECRAY_HOME"] = before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", nargs="+", default=["ml-100k"])
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["two_tower", "item_knn"])
    args = parser.parse_args()
    setup_logging()
    result = {name: measure(name, args.share, args.seeds, args.models) for name in args.datasets}
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.write_text(json.dumps({**known, **result}, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
