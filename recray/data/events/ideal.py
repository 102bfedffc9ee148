"""The best possible ranking of the synthetic data: the planted truth behind the retriever contract."""

import numpy as np
import torch
from torch import Tensor

from recray.arrays import Float32s, Int64s
from recray.batch import QueryBatch
from recray.config import from_dict
from recray.data.events.dataset import Dataset
from recray.data.sources.synthetic.truth import SyntheticConfig, plant, session_scores
from recray.data.sources.synthetic.waits import WaitsConfig, chances
from recray.schema import DataError

_NEVER = -1e9  # log probability of an item that is not out yet; finite, so that metrics stay finite


class IdealRanker:
    """Scores every item by the log probability with which the planted user picks it next.

    ``horizon_s`` 0 asks about the session that the request falls into, as leave-one-out does;
    otherwise the probabilities are averaged over the user's sessions in the ``horizon_s`` seconds
    after the request, as a global-time split needs. For one target per query no ranking can have a
    higher expected metric; for several it is the order of expected counts, best to first order.
    """

    def __init__(self, dataset: Dataset, horizon_s: int = 0) -> None:
        if dataset.manifest.source != "synthetic":
            raise DataError(f"{dataset.name} has no planted truth: only the synthetic data has one")
        self.truth = plant(from_dict(SyntheticConfig, dataset.manifest.options["config"]))
        self.horizon_s = horizon_s
        # The truth counts from 0 what the raw ids count from 1.
        self._user_rows_U = dataset.users["raw_id"].cast(int).to_numpy() - 1
        self._item_rows_I = dataset.items["raw_id"].cast(int).to_numpy() - 1

    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI, float32, log probabilities."""
        users_B = self._user_rows_U[queries.user_ids_B.numpy()]
        times_B = queries.request_times_B.numpy()
        rows = [self._score(int(u), int(t)) for u, t in zip(users_B, times_B, strict=True)]
        return torch.from_numpy(np.stack(rows)[:, self._item_rows_I])

    def _score(self, user: int, time: int) -> Float32s:
        scores_SI = session_scores(self.truth, self._sessions(user, time))
        scores_SI -= scores_SI.max(axis=1, keepdims=True)
        odds_SI = np.exp(scores_SI)
        chance_I = (odds_SI / odds_SI.sum(axis=1, keepdims=True)).mean(axis=0)
        with np.errstate(divide="ignore"):
            log_chance_I: Float32s = np.maximum(np.log(chance_I), _NEVER).astype(np.float32)
        return log_chance_I

    def _sessions(self, user: int, time: int) -> Int64s:
        """Rows of the user's sessions that the request is about, at least one."""
        sessions = self.truth.sessions
        first, stop = np.searchsorted(sessions.user_ids_S, [user, user + 1])
        starts = sessions.starts_S[first:stop]
        running = first + int(np.searchsorted(starts, time, side="right")) - 1
        if self.horizon_s == 0:
            return np.array([max(running, first)])
        ahead = np.arange(first, stop)[(starts >= time) & (starts <= time + self.horizon_s)]
        return ahead if len(ahead) else np.array([min(running + 1, stop - 1)])


class IdealAfterWaits:
    """Scores every item by the log probability with which it comes next, now that so much time has passed.

    Args:
        blind: the best of who does not look at the clock instead.
    """

    def __init__(self, dataset: Dataset, *, blind: bool = False) -> None:
        if dataset.manifest.source != "synthetic-waits":
            raise DataError(f"{dataset.name} has no planted waits: only synthetic-waits has them")
        self.config, self.blind = from_dict(WaitsConfig, dataset.manifest.options["config"]), blind
        self._user_rows_U = dataset.users["raw_id"].cast(int).to_numpy() - 1
        self._item_rows_I = dataset.items["raw_id"].cast(int).to_numpy() - 1

    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI, float32, log probabilities; of users who did something before."""
        return torch.from_numpy(np.stack([self._score(queries, b) for b in range(len(queries.user_ids_B))]))

    def _score(self, queries: QueryBatch, b: int) -> Float32s:
        seen = self._item_rows_I[queries.history.row(b).numpy()]
        last_s = int(queries.history_times_N[int(queries.history.offsets_B[b + 1]) - 1])
        wait_s = None if self.blind else float(int(queries.request_times_B[b]) - last_s)
        unseen_I = np.ones(self.config.num_topics * self.config.items_per_topic, bool)
        unseen_I[seen] = False
        user = int(self._user_rows_U[int(queries.user_ids_B[b])])
        chance_I = chances(self.config, user, int(seen[-1]), wait_s, unseen_I)[self._item_rows_I]
        with np.errstate(divide="ignore"):
            log_chance_I: Float32s = np.maximum(np.log(chance_I), _NEVER).astype(np.float32)
        return log_chance_I
