"""What stages hand on: a request, its candidates, their scores, and which of them are to be shown.

Shapes: K candidates, S of them to be shown, F features.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

from recray.arrays import Bools, Float32s, Float64s, Int64s
from recray.bundles.searcher import Fallback
from recray.features.candidates import Candidates
from recray.serve.clock import StageClock
from recray.serve.position import Position
from recray.serve.query import Query

StoodIn: TypeAlias = Fallback | Literal["recent"]
"""For an unknown user's vector; ``recent``: for the first stage, what it found for the user before."""

PINNED = 16  # a bit of candidates' source masks beside those of ``features.candidates``: a rule put it there

NO_CANDIDATES = Candidates(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.uint8))


@dataclass(frozen=True)
class Explanation:
    """Why the items to show stand where they stand: those that were ranked, which come first."""

    feature_names: tuple[str, ...]  # of the F columns
    features_SF: Float32s
    contributions_SF: Float32s


class Skipped(NamedTuple):
    """A stage that did not do its part, and what for: the answer says so."""

    stage: str
    reason: str


class RequestState(NamedTuple):
    """A request on its way through the stages.

    ``order_S`` are places among the candidates, best first: a stage that reorders or removes items changes
    it, and the candidates stay as they were retrieved.
    """

    query: Query
    clock: StageClock
    candidates: Candidates = NO_CANDIDATES  # unseen, in the order of retrieval; then what fills a long list
    num_ranked: int = 0  # the first so many are for the ranker; they do not depend on ``query.k``
    scores_K: Float32s = NO_CANDIDATES.scores_K  # by the last stage that scored; the retriever's until then
    order_S: Int64s = NO_CANDIDATES.item_ids_K
    propensities_S: Float64s | None = None  # of each draw, given those before it; None: nothing was drawn
    fallback: StoodIn | None = None  # None: candidates as the retriever was trained to find them
    feature_names: tuple[str, ...] = ()  # of the F columns
    features_KF: Float32s | None = None  # of what was ranked
    features_SF: Float32s | None = None  # of the items to show; rows of NaN: not ranked
    rules: tuple[str, ...] = ()  # that changed what is shown, in the order in which they acted
    explanation: Explanation | None = None
    skipped: tuple[Skipped, ...] = ()
    heard: tuple[Position, ...] = ()  # of the deployments that it went through, before they began
    known_until: int | None = None  # unix seconds at which the log ends; None: there is none

    @property
    def ranked(self) -> Candidates:
        """The candidates without what fills a list."""
        return self.candidates.first(self.num_ranked)

    @property
    def item_ids_S(self) -> Int64s:
        """The items to show, best first."""
        return self.candidates.item_ids_K[self.order_S]

    @property
    def age_s(self) -> int | None:
        """Seconds from the end of what is known to the request; None where there is no log."""
        return None if self.known_until is None else max(0, self.query.time - self.known_until)

    def skip(self, one: Skipped) -> "RequestState":
        return self._replace(skipped=(*self.skipped, one))

    def keep(self, mask_S: Bools) -> "RequestState":
        """Without the items to show at which the mask is False."""
        drawn_S, features_SF = self.propensities_S, self.features_SF
        return self._replace(
            order_S=self.order_S[mask_S],
            propensities_S=None if drawn_S is None else drawn_S[mask_S],
            features_SF=None if features_SF is None else features_SF[mask_S],
        )


class Stage(Protocol):
    """One step of a recommendation. Books its time on the state's clock, by the name of what it did."""

    def __call__(self, state: RequestState, /) -> RequestState: ...


class RetrievalStage(Stage, Protocol):
    """The first stage: finds unseen candidates by search (``retrieve``) or by generation (``decoder``).

    At least ``query.k`` of them, unless fewer items of the catalogue are unseen.
    """

    without: str
    """What it books that is no part of the time it needs: a source that may be left out."""

    def similar(self, item_id: int, k: int) -> Candidates:
        """The k items most like one item, without itself."""
