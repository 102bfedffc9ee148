"""Lists for everybody, ahead of time: the stages that a replica opens, asked user by user, as Parquet files.

A folder is written part by part, each in one step, so that whoever is killed goes on where it was: nothing is
missing and nothing is there twice. ``plan.json`` says what the lists are of; others need another folder.
"""

import io
import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from recray.config import ConfigError, UnavailableError, settings
from recray.folders import digest, write_whole
from recray.launch.tasks import run_each
from recray.schema import DataError
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.pipeline import Pipeline, source_of
from recray.serve.query import MAX_K
from recray.serve.stages.listed import StagesConfig
from recray.serve.versions import OpenedVersion, ServedBundles, open_served
from recray.store import Store
from recray.train.context import LaunchConfig

log = logging.getLogger(__name__)
PLAN = "plan.json"
_LIKE = {"item": pl.String, "place": pl.Int64, "similar": pl.String, "score": pl.Float64}
_LISTS = {
    "user": pl.String,
    "place": pl.Int64,
    "item": pl.String,
    "score": pl.Float64,
    "source": pl.String,
    "fallback": pl.String,
}


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """What the lists are of."""

    version: str = "production"
    """A number, a name, or latest."""
    k: int = 20
    """Items of a list."""
    at: int = 0
    """Unix seconds at which it is asked; 0: just after the newest event that the version knows."""
    similar: bool = False
    """Instead, for every item those that resemble it."""
    users_per_part: int = 2_000
    """Lists (of items, where similar) of one file; so much is done again after a kill."""
    stages: StagesConfig = field(default_factory=StagesConfig)
    """Rules and all else that a server can be asked for."""

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MAX_K:
            raise ConfigError(f"k must be from 1 to {MAX_K}, got {self.k}")
        if self.users_per_part < 1:
            raise ConfigError(f"users_per_part must be at least 1, got {self.users_per_part}")


class BatchDone(NamedTuple):
    lists: int  # all that the folder holds
    new: int  # of which this call made so many
    seconds: float


class _Share(NamedTuple):
    """What one worker does: parts by number, and whom each is for."""

    application: str
    config: BatchConfig
    version: int
    store: str
    folder: str
    parts: dict[int, list[str]]


def recommend_all(
    application: str,
    config: BatchConfig,
    folder: Path,
    store: Store,
    launch: LaunchConfig,
    users: Sequence[str] | None = None,
) -> BatchDone:
    """Writes what is missing of the lists into ``folder``; the workers share the parts.

    Args:
        application: a bundle: a ranker (brings its retriever along), a retriever or a decoder.
        folder: seen by every worker.
        users: raw ids; None: all that the version knows. Whom it does not know gets what a stranger gets.

    Raises:
        ConfigError: the folder holds other lists, or the version recommends nothing.
        DataError: a user is named twice, or there is nobody; a worker failed, after the others went on.
        UnavailableError: workers died, or lost their nodes, too often.
    """
    began = time.monotonic()
    bundles = open_served(store, application, config.version, config.stages.second_source)
    asked = _asked(config, bundles, users)
    plan = _plan(config, bundles, asked)
    folder.mkdir(parents=True, exist_ok=True)
    _keep(folder / PLAN, plan)
    parts = {
        number: asked[start : start + config.users_per_part]
        for number, start in enumerate(range(0, len(asked), config.users_per_part))
    }
    missing = {number: ids for number, ids in parts.items() if not _part(folder, number).exists()}
    if len(missing) < len(parts):
        log.info("%s: %d of %d parts are there", folder, len(parts) - len(missing), len(parts))
    version = bundles.first.manifest.version
    workers = min(len(missing), launch.workers if launch.where == "ray" else 1)
    numbers = list(missing)
    shares = [
        _Share(
            application,
            config,
            version,
            str(store.root),
            str(folder.absolute()),
            {n: missing[n] for n in numbers[w::workers]},
        )
        for w in range(workers)
    ]
    if launch.where == "local":
        for share in shares:
            _work(share)
    else:
        failed = [came for _, came in run_each(_work, shares, launch) if isinstance(came, Exception)]
        if failed:
            kind = UnavailableError if isinstance(failed[0], UnavailableError) else DataError
            raise kind(f"{folder} is not complete, the same command goes on: {failed[0]}")
    return BatchDone(len(asked), sum(map(len, missing.values())), time.monotonic() - began)


def _asked(config: BatchConfig, bundles: ServedBundles, users: Sequence[str] | None) -> list[str]:
    """Raw ids in the order of the lists."""
    if config.similar and users is not None:
        raise ConfigError("similar: lists of items are of all items, users are of no use")
    if users is None:
        known = OpenedVersion(bundles).catalogue[1 if config.similar else 0]
        asked = known["raw_id"].cast(pl.String).to_list()
    else:
        asked = list(users)
    if not asked:
        raise DataError(f"{bundles.reference} knows no users: name some")
    if twice := [one for one, count in Counter(asked).items() if count > 1]:
        raise DataError(f"user {twice[0]!r} is named twice")
    return asked


def _plan(config: BatchConfig, bundles: ServedBundles, asked: Sequence[str]) -> dict[str, Any]:
    versions = {f"version of the {role}": str(found.reference) for role, found in bundles.by_role.items()}
    chosen = {name: value for name, value in settings(config).items() if name != "version"}
    return {**versions, **chosen, "number of lists": len(asked), "asked": digest({"ids": list(asked)})}


def _keep(path: Path, plan: dict[str, Any]) -> None:
    """
    Raises:
        ConfigError: another plan is there.
    """
    plain = json.loads(json.dumps(plan))
    if not path.exists():
        if any(path.parent.iterdir()):
            raise ConfigError(f"{path.parent} holds something else: name a new folder")
        write_whole(path, json.dumps(plain, indent=1).encode())
        return
    found = json.loads(path.read_text())
    if differing := [key for key in plain if found.get(key) != plain[key]]:
        key = differing[0]
        raise ConfigError(
            f"{path.parent} holds other lists, {key} {found.get(key)} instead of {plain[key]}: name a new "
            "folder"
        )


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06}.parquet"


def _work(share: _Share) -> int:
    """By one worker: opens the version once."""
    config, store = share.config, Store(Path(share.store))
    bundles = open_served(store, share.application, share.version, config.stages.second_source)
    pipeline = Pipeline(bundles, config.stages)
    done, began = 0, time.monotonic()
    for number, ids in share.parts.items():
        if _part(Path(share.folder), number).exists():  # by a worker that died
            continue
        write_whole(_part(Path(share.folder), number), part_of(pipeline, config, ids))
        done += len(ids)
        log.info("%d lists, %.0f a second", done, done / (time.monotonic() - began))
    return done


def part_of(pipeline: Pipeline, config: BatchConfig, ids: Sequence[str]) -> bytes:
    """The lists of some users (or items), as a Parquet file."""
    table = _alike(pipeline, config, ids) if config.similar else _lists(pipeline, config, ids)
    named = [bundle.manifest for bundle in pipeline.bundles.by_role.values()]
    versions = " + ".join(f"{manifest.name}:{manifest.version}" for manifest in named)
    content = io.BytesIO()
    table.with_columns(pl.lit(versions).alias("version")).write_parquet(content)
    return content.getvalue()


def _lists(pipeline: Pipeline, config: BatchConfig, users: Sequence[str]) -> pl.DataFrame:
    at = config.at or (pipeline.known_until or 0) + 1
    model = pipeline.bundles.retriever.manifest.model
    columns: dict[str, list[Any]] = {name: [] for name in _LISTS}
    for user in users:
        state, _ = pipeline.ranked(RecommendRequest(user_id=user, k=config.k, request_time=at))
        rows, count = state.item_ids_S.tolist(), len(state.item_ids_S)
        by_vector = "history" if state.fallback == "history" else model
        masks = state.candidates.sources_K[state.order_S].tolist()
        columns["user"] += [user] * count
        columns["place"] += range(1, count + 1)
        columns["item"] += [pipeline.catalogue.item_raw_ids[row] for row in rows]
        columns["score"] += state.scores_K[state.order_S].tolist()
        columns["source"] += [source_of(mask, by_vector) for mask in masks]
        columns["fallback"] += [state.fallback] * count
    return pl.DataFrame(columns, schema=_LISTS)


def _alike(pipeline: Pipeline, config: BatchConfig, items: Sequence[str]) -> pl.DataFrame:
    rows = [
        (item, place, found["item_id"], found["score"])
        for item in items
        for place, found in enumerate(pipeline.similar(item, config.k)["items"], start=1)
    ]
    return pl.DataFrame(rows, schema=_LIKE, orient="row")
