"""What a decoder generates for one query. Knows neither requests nor raw ids nor the other candidates.

Shapes: U users, I items, K generated items.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from recray.arrays import Float32s, Int64s
from recray.batch import Jagged, QueryBatch
from recray.config import ConfigError
from recray.contract import Generative
from recray.features.candidates import COLD, GENERATIVE, Candidates


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """How much a decoder proposes, and of what."""

    items: int = 50
    """Candidates per request, where a ranker chooses among those of several sources."""
    cold_share: float = 0.0
    """Share of the generated items, rounded up, that is kept for items without training events; they come
    out by their content codes. 0: only where they win by themselves."""

    def __post_init__(self) -> None:
        if self.items < 1:
            raise ConfigError(f"generated items must be at least 1, got {self.items}")
        if not 0.0 <= self.cold_share <= 1.0:
            raise ConfigError(f"cold_share must be between 0 and 1, got {self.cold_share}")


class Generator:
    """Unseen items by beam search over semantic ids.

    Args:
        item_counts_I: training events of each item; those without are cold.
    """

    def __init__(self, model: Generative, item_counts_I: Int64s, config: GeneratorConfig) -> None:
        self._model, self._config = model, config
        self.is_cold_I = item_counts_I == 0
        self._warm_ids = torch.from_numpy(np.flatnonzero(~self.is_cold_I))

    def generate(self, user_id: int, history_ids: Int64s, seen_ids: Int64s, time: int, k: int) -> Candidates:
        """The k items (or all that are left) that follow a history, best first, by log probability.

        Args:
            user_id: the decoder's, -1 where it is unknown.
            history_ids: oldest first, at least one.
            seen_ids: items that must not come out.
        """
        seen = torch.from_numpy(seen_ids)
        kept_cold = math.ceil(k * self._config.cold_share) if self.is_cold_I.any() else 0
        # The second row may say nothing but cold items: the best of them, exactly as far as beams reach.
        rows = [seen, torch.cat([seen, self._warm_ids])] if kept_cold else [seen]
        found = self._model.generate(
            _repeated(user_id, history_ids, time, len(rows)), k, exclude=_jagged(rows)
        )
        item_ids_BK, scores_BK = found.item_ids_BK.cpu().numpy(), found.scores_BK.cpu().numpy()
        item_ids_K, scores_K = item_ids_BK[0], scores_BK[0]
        if kept_cold:
            item_ids_K, scores_K = self._with_cold(item_ids_BK, scores_BK, kept_cold)
        exists_K = item_ids_K >= 0
        item_ids_K, scores_K = item_ids_K[exists_K], scores_K[exists_K]
        sources_K = np.where(self.is_cold_I[item_ids_K], GENERATIVE | COLD, GENERATIVE).astype(np.uint8)
        return Candidates(item_ids_K, scores_K, sources_K)

    def _with_cold(self, item_ids_2K: Int64s, scores_2K: Float32s, kept_cold: int) -> tuple[Int64s, Float32s]:
        """The first row's items, its last warm ones given up for the second row's best cold ones."""
        best, cold = item_ids_2K
        is_new_K = (cold >= 0) & ~np.isin(cold, best)
        is_warm_K = (best >= 0) & ~self.is_cold_I[best]
        missing = max(0, kept_cold - int(((best >= 0) & ~is_warm_K).sum()))
        new = np.flatnonzero(is_new_K)[:missing]
        # Places that are empty go first, then the last warm ones.
        free = np.flatnonzero(best < 0)[: len(new)]
        given_up = np.flatnonzero(is_warm_K)[::-1][: len(new) - len(free)]
        places = np.concatenate([free, given_up])
        item_ids_K, scores_K = best.copy(), scores_2K[0].copy()
        item_ids_K[places], scores_K[places] = cold[new[: len(places)]], scores_2K[1][new[: len(places)]]
        order_K = np.argsort(-scores_K, kind="stable")
        return item_ids_K[order_K], scores_K[order_K]


def _repeated(user_id: int, history_ids: Int64s, time: int, times: int) -> QueryBatch:
    history = _jagged([torch.from_numpy(history_ids)] * times)
    request_times_B = torch.full((times,), time)
    # Clients send no times with a history, so its events count as just before the request.
    history_times_N = request_times_B[:1].expand(len(history.values_N))
    return QueryBatch(torch.full((times,), user_id), history, history_times_N, request_times_B)


def _jagged(rows: list[torch.Tensor]) -> Jagged:
    offsets_B = torch.tensor([0, *map(len, rows)]).cumsum(0)
    return Jagged(torch.cat(rows), offsets_B)
