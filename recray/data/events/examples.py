"""Evaluation examples: what each user asks, knows and should find, under a stated protocol."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from recray.arrays import Bools, Int64s, blocks
from recray.batch import EvalExamples, Jagged, QueryBatch
from recray.config import ConfigError
from recray.data.events.dataset import Dataset
from recray.data.events.splits import Split
from recray.data.source import ABSOLUTE_TIMES
from recray.schema import DataError, ProtocolCard

log = logging.getLogger(__name__)
Target = Literal["validation", "test"]
NO_TARGET, NO_TRAINING, ALL_SEEN = "nothing to find", "no training history", "only items of their history"


def eval_examples(
    dataset: Dataset,
    split: Split,
    target: Target,
    *,
    warm_only: bool = True,
    most_users: int = 0,
    seed: int = 0,
) -> tuple[EvalExamples, ProtocolCard]:
    """One query per user who has something to find, in order of user id, and the card of the protocol.

    What is to be found is what is relevant of the target part. The history is all that the user did before
    that part (for ``test``: training and validation, or training alone where ``split.known`` is "training"),
    oldest first. The request time is the time of the target under leave-one-out, the boundary under global
    time, and the user's last event otherwise. Where seen items are removed from the ranking, targets that
    the history already holds are dropped; repeated targets count once. ``warm_only`` drops users without
    training history; items stay, so the ranking is always over the full catalogue. The card counts the
    users that are not asked, by the reason, and tells of a sample.

    Args:
        most_users: as many are asked, drawn by the seed; 0: all. At test ``split.test_users``, the same ones.

    Raises:
        ConfigError: models should know everything at test, and the validation part was not learnt.
        DataError: no user is left.
    """
    _require_held_out(dataset, split, target)
    is_test = target == "test"
    part_N = split.test_N if is_test else split.validation_N
    target_N = part_N if split.relevant_N is None else part_N & split.relevant_N
    knows_more = is_test and split.known != "training"
    history_N = split.train_N | split.validation_N if knows_more else split.train_N
    eligible_U = np.ones(dataset.num_users, dtype=bool)
    if warm_only:
        eligible_U = _has_some(dataset, split.train_N)
    wanted = _by_user(dataset, target_N & eligible_U[dataset.user_ids_N])
    targets = _once(dataset, wanted, history_N if split.seen == "remove" else None)
    users_B = np.unique(dataset.user_ids_N[targets])
    asked_U = np.zeros(dataset.num_users, dtype=bool)
    asked_U[users_B] = True
    dropped = _dropped(dataset, target_N, eligible_U, asked_U)
    if not len(targets):
        raise DataError(_nobody(dataset, split, target, dropped))
    if dropped:
        log.info("%s: %d users asked; not asked: %s", target, len(users_B), _told(dropped))
    sample, (most_users, seed) = "", (split.test_users, 0) if is_test else (most_users, seed)
    if 0 < most_users < len(users_B):
        sample = f"{most_users:,} of {len(users_B):,} users"
        users_B = np.sort(np.random.default_rng(seed).choice(users_B, most_users, replace=False))
        asked_U[:] = False
        asked_U[users_B] = True
        targets = targets[asked_U[dataset.user_ids_N[targets]]]
    history = _by_user(dataset, history_N & asked_U[dataset.user_ids_N])
    queries = QueryBatch(
        user_ids_B=torch.from_numpy(users_B),
        history=_jagged(dataset, history, users_B),
        history_times_N=torch.from_numpy(dataset.timestamps_N[history]),
        request_times_B=torch.from_numpy(_request_times(dataset, split, target_N, targets, users_B)),
    )
    card = protocol(dataset, split, target, warm_only=warm_only)
    card = replace(card, num_users=len(users_B), sample=sample, dropped=dropped)
    card = replace(card, learnt=days(dataset, split.train_N))
    return EvalExamples(queries, _jagged(dataset, targets, users_B)), card


def protocol(dataset: Dataset, split: Split, target: Target, *, warm_only: bool = True) -> ProtocolCard:
    """The card of what ``eval_examples`` asks, without its users."""
    return ProtocolCard(
        dataset=dataset.name,
        dataset_hash=dataset.hash,
        split=split.name,
        target=target,
        relevance=f"{split.relevance}, of users with training history" if warm_only else split.relevance,
        k_core=dataset.manifest.k_core,
        seen="filtered" if split.seen == "remove" else "kept",
        repeats="merged" if split.repeats == "merge" else "kept",
        known=split.known,
    )


def days(dataset: Dataset, mask_N: Bools) -> str:
    """The first and last day of some interactions; empty where there are none, or no calendar."""
    times_N = dataset.timestamps_N[mask_N]
    if not len(times_N) or dataset.manifest.options.get("times", ABSOLUTE_TIMES) != ABSOLUTE_TIMES:
        return ""
    first, last = (str(np.datetime64(int(t), "s"))[:10] for t in (times_N.min(), times_N.max()))
    return f"{first} to {last}"


def item_counts(dataset: Dataset, mask_N: Bools) -> Int64s:
    """Interactions of each item within the mask, int64 [I]."""
    return np.bincount(dataset.item_ids_N[mask_N], minlength=dataset.num_items)


def _by_user(dataset: Dataset, mask_N: Bools) -> Int64s:
    rows = np.flatnonzero(mask_N)
    return rows[np.argsort(dataset.user_ids_N[rows], kind="stable")]


def _has_some(dataset: Dataset, mask_N: Bools) -> Bools:
    return np.bincount(dataset.user_ids_N[mask_N], minlength=dataset.num_users) > 0


def _once(dataset: Dataset, rows: Int64s, seen_N: Bools | None) -> Int64s:
    """The rows without repeats of their user and item, and without those that ``seen_N`` holds."""
    pairs = dataset.user_ids_N[rows] * dataset.num_items + dataset.item_ids_N[rows]
    kept = np.zeros(len(rows), dtype=bool)
    kept[np.unique(pairs, return_index=True)[1]] = True
    if seen_N is not None:
        for block in blocks(len(dataset)):
            users, items = (ids[block][seen_N[block]] for ids in (dataset.user_ids_N, dataset.item_ids_N))
            kept &= ~np.isin(pairs, users * dataset.num_items + items)
    return rows[kept]


def _require_held_out(dataset: Dataset, split: Split, target: Target) -> None:
    if not (split.validation_N | split.test_N).any():
        why = (
            "no user has enough interactions: three, or one that is to be found with another before it"
            if split.name == "leave-one-out"
            else "take a split that does (leave-one-out, global-time, random)"
        )
        raise DataError(
            f"{split.name} of {dataset.name} holds nothing out, so there is nothing to measure by: {why}"
        )
    if target == "test" and split.known == "everything" and split.validation_N.any():
        raise ConfigError(
            "known everything: at test a model knows the validation part, and this one was not trained on it "
            "yet. Fit it again with that part first, or set known to history or training"
        )


def _dropped(dataset: Dataset, target_N: Bools, eligible_U: Bools, asked_U: Bools) -> dict[str, int]:
    """How many users with interactions are not asked, by the first reason that holds."""
    left_U = _has_some(dataset, np.ones(len(dataset), dtype=bool)) & ~asked_U
    has_target_U = _has_some(dataset, target_N)
    counts = {
        NO_TARGET: left_U & ~has_target_U,
        NO_TRAINING: left_U & has_target_U & ~eligible_U,
        ALL_SEEN: left_U & has_target_U & eligible_U,
    }
    return {reason: int(is_so_U.sum()) for reason, is_so_U in counts.items() if is_so_U.any()}


def _told(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} with {reason}" for reason, count in dropped.items())


def _nobody(dataset: Dataset, split: Split, target: Target, dropped: Mapping[str, int]) -> str:
    text = (
        f"{split.name} of {dataset.name} leaves no user with anything to find in {target}: "
        f"{_told(dropped)} (to find: {split.relevance})"
    )
    if ALL_SEEN in dropped:
        types = ", ".join(dataset.manifest.event_types)
        which = f" (target says what is to be found, of {types})" if types else ""
        text += (
            ". What is asked for is in their users' histories already, and seen items are removed: set seen "
            f"to keep{which}, or repeats to merge"
        )
    return text


def _jagged(dataset: Dataset, rows: Int64s, users_B: Int64s) -> Jagged:
    lengths_B = np.bincount(dataset.user_ids_N[rows], minlength=dataset.num_users)[users_B]
    offsets_B = np.concatenate([[0], np.cumsum(lengths_B)])
    return Jagged(torch.from_numpy(dataset.item_ids_N[rows]), torch.from_numpy(offsets_B))


def _request_times(
    dataset: Dataset,
    split: Split,
    target_N: Bools,
    targets: Int64s,
    users_B: Int64s,
) -> Int64s:
    if split.name.startswith("global-time"):
        return np.full(len(users_B), dataset.timestamps_N[target_N].min())
    times_U = np.zeros(dataset.num_users, dtype=np.int64)
    # Int64s are in order of time, so of several writes to one user the last one is the latest.
    rows = targets if split.name == "leave-one-out" else np.arange(len(dataset))
    times_U[dataset.user_ids_N[rows]] = dataset.timestamps_N[rows]
    return times_U[users_B]
