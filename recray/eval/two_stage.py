"""What a second stage does to the order of the first, measured on the same queries."""

from typing import NamedTuple

from recray.eval.ages import AtAge
from recray.eval.evaluate import Evaluation
from recray.schema import ProtocolCard


class MeasuredStages(NamedTuple):
    """The same queries, ordered by the first stage and by both."""

    retriever: Evaluation
    ranker: Evaluation
    ages: tuple[AtAge, ...] = ()  # youngest first

    @property
    def card(self) -> ProtocolCard:
        return self.ranker.card

    def means(self) -> dict[str, float]:
        """Of what is served: both stages."""
        return self.ranker.means()
