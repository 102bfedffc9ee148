"""What is asked, in the words of the model. Shapes: N ids of one request, H events of a history."""

from dataclasses import dataclass, field
from typing import NamedTuple

from recray.arrays import Int64s
from recray.features.request import Context

UNKNOWN_USER = -1
MAX_HISTORY = 1_000  # events of a history that models look at
MAX_K = 500  # items that one request may ask for


class History(NamedTuple):
    """What a user did before a request, oldest first."""

    item_ids_H: Int64s
    times_H: Int64s  # unix seconds


@dataclass(frozen=True)
class Query:
    """A request: row numbers and unix seconds."""

    user_id: int  # UNKNOWN_USER where the raw id is not known
    history_ids: Int64s | None  # None: the client sent none or an empty one, what is known is used
    exclude_ids: Int64s
    time: int
    k: int
    history_times: Int64s | None = None  # unix seconds; None: the history is from just before ``time``
    explain: bool = False
    budget_ms: float | None = None  # for the whole answer; what there is no time for is left out
    lenient: bool = False  # a stage that can be done without may fail
    told: History | None = None  # what a user did whom the log does not know
    past: History | None = None  # what an evaluation's split says that the user did; None: what the log says
    context: Context = field(default_factory=dict)
