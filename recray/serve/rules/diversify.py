"""A rule: items of a list are unlike each other."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pyversity import diversify

from recray.arrays import Float32s
from recray.config import ConfigError
from recray.serve.state import RequestState, Stage
from recray.serve.versions import OpenedVersion


@dataclass(frozen=True, kw_only=True)
class DiversityConfig:
    """Similar items are spread out, by the retriever's vectors. Scores are scaled to 0..1 for it."""

    strength: float = 0.0
    """0: the order stands; up to 1: only unlikeness counts."""
    strategy: Literal["mmr", "msd", "dpp"] = "mmr"
    """mmr: maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998); msd: maximal sum of distances
    (Borodin et al., PODS 2012); dpp: greedy determinantal point process (Chen et al., NeurIPS 2018)."""
    among: int = 250
    """The list is chosen from the first so many items of the order."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise ConfigError(f"diversity: strength must be between 0 and 1, got {self.strength}")
        if self.among < 2:
            raise ConfigError(f"diversity: among must be at least 2, got {self.among}")

    def open(self, version: OpenedVersion) -> Stage | None:
        return Diversify(version.item_vectors(), self) if self.strength else None


class Diversify:
    """Chooses a list of ``query.k`` items, one by one.

    Args:
        item_ID: vectors that tell how similar items are, by their cosine.
    """

    def __init__(self, item_ID: Float32s, config: DiversityConfig) -> None:
        self._item_ID, self._config = item_ID, config

    def __call__(self, state: RequestState) -> RequestState:
        """Books ``diversity``. What fills a list, and what has no score, stays behind."""
        is_scored_S = (state.order_S < state.num_ranked) & np.isfinite(state.scores_K[state.order_S])
        left_S = state.order_S[is_scored_S][: self._config.among]
        if not len(left_S):
            return state
        # Of two that are alike in everything the one that retrieval had first is taken.
        left_S = np.sort(left_S)
        scores_S = state.scores_K[left_S]
        scaled_S = (scores_S - scores_S.min()) / (float(np.ptp(scores_S)) or 1.0)
        vectors_SD = self._item_ID[state.candidates.item_ids_K[left_S]]
        places = diversify(
            vectors_SD, scaled_S, state.query.k, self._config.strategy, self._config.strength
        ).indices
        chosen_S = left_S[places]
        others_S = state.order_S[~np.isin(state.order_S, chosen_S)]
        state.clock.lap("diversity")
        return state._replace(order_S=np.append(chosen_S, others_S))
