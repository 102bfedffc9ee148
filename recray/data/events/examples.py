"""Evaluation examples: what each user asks, knows and should find, under a stated protocol."""

from typing import Literal

import numpy as np
import torch

from recray.arrays import Bools, Int64s
from recray.batch import EvalExamples, Jagged, QueryBatch
from recray.data.events.dataset import Dataset
from recray.data.events.splits import Split
from recray.schema import DataError, ProtocolCard

Target = Literal["validation", "test"]


def eval_examples(
    dataset: Dataset, split: Split, target: Target, *, warm_only: bool = True
) -> tuple[EvalExamples, ProtocolCard]:
    """One query per user who has something to find, in order of user id, and the card of the protocol.

    The history is all that the user did before the target part (for ``test``: training and
    validation), oldest first. The request time is the time of the target under leave-one-out, the
    boundary under global time, and the user's last event under a random split. Targets that the
    history already holds are dropped, since seen items are filtered from the ranking; repeated
    targets count once. ``warm_only`` drops users without training history; items stay, so the
    ranking is always over the full catalogue.

    Raises:
        DataError: no user is left.
    """
    target_N = split.validation_N if target == "validation" else split.test_N
    history_N = split.train_N if target == "validation" else split.train_N | split.validation_N
    eligible_U = np.ones(dataset.num_users, dtype=bool)
    if warm_only:
        eligible_U = np.bincount(dataset.user_ids_N[split.train_N], minlength=dataset.num_users) > 0
    targets = _unseen_targets(
        dataset, _by_user(dataset, target_N & eligible_U[dataset.user_ids_N]), history_N
    )
    if len(targets) == 0:
        raise DataError(f"{split.name} of {dataset.name} leaves no user with anything to find in {target}")
    users_B = np.unique(dataset.user_ids_N[targets])
    asked_U = np.zeros(dataset.num_users, dtype=bool)
    asked_U[users_B] = True
    history = _by_user(dataset, history_N & asked_U[dataset.user_ids_N])
    queries = QueryBatch(
        user_ids_B=torch.from_numpy(users_B),
        history=_jagged(dataset, history, users_B),
        history_times_N=torch.from_numpy(dataset.timestamps_N[history]),
        request_times_B=torch.from_numpy(_request_times(dataset, split, target_N, targets, users_B)),
    )
    examples = EvalExamples(queries, _jagged(dataset, targets, users_B))
    return examples, _card(dataset, split, target, warm_only, len(users_B))


def item_counts(dataset: Dataset, mask_N: Bools) -> Int64s:
    """Interactions of each item within the mask, int64 [I]."""
    return np.bincount(dataset.item_ids_N[mask_N], minlength=dataset.num_items)


def _by_user(dataset: Dataset, mask_N: Bools) -> Int64s:
    rows = np.flatnonzero(mask_N)
    return rows[np.argsort(dataset.user_ids_N[rows], kind="stable")]


def _unseen_targets(dataset: Dataset, rows: Int64s, history_N: Bools) -> Int64s:
    """The target rows without repeats and without what the user's history holds."""
    pairs = dataset.user_ids_N[rows] * dataset.num_items + dataset.item_ids_N[rows]
    seen = dataset.user_ids_N[history_N] * dataset.num_items + dataset.item_ids_N[history_N]
    first = np.zeros(len(rows), dtype=bool)
    first[np.unique(pairs, return_index=True)[1]] = True
    return rows[first & ~np.isin(pairs, seen)]


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


def _card(dataset: Dataset, split: Split, target: Target, warm_only: bool, num_users: int) -> ProtocolCard:
    return ProtocolCard(
        dataset=dataset.name,
        dataset_hash=dataset.hash,
        split=split.name,
        target=target,
        relevance="all, of users with training history" if warm_only else "all",
        k_core=dataset.manifest.k_core,
        num_users=num_users,
    )
