"""What a client gets back. Plain dictionaries, typed here: nothing is validated on the way out."""

from typing import Any, NotRequired

# The standard library's own TypedDict cannot be read by pydantic before Python 3.12.
from typing_extensions import TypedDict

from recray.serve.version import Version


class FeatureReason(TypedDict):
    """A feature that moved an item's score, largest contribution first."""

    feature: str
    value: float | None  # None: missing
    contribution: float  # in units of the score; of trees the SHAP value


class Item(TypedDict):
    item_id: str
    title: str | None
    details: NotRequired[dict[str, Any]]  # the columns that the application shows, such as category, price
    score: float | None  # the ranker's; else the retriever's (a decoder's: log probability); None: unranked
    # The retriever's model, "history", "popular", "decoder", "pinned"; "cold": generated, never trained on.
    source: str
    arm: NotRequired[str]  # where two versions' lists are drawn from in turns: whose item this is
    propensity: NotRequired[float]  # where lists are drawn: the chance of this item, given those before it
    features: NotRequired[dict[str, float | None]]  # float32 values, exact
    why: NotRequired[list[FeatureReason]]


class Candidates(TypedDict):
    """All that was ranked, in the order of retrieval, then what filled the list: what a replay needs."""

    item_ids: list[str]
    retrieval_scores: list[float | None]
    sources: list[int]  # bit mask: 1 retriever, 2 popular, 4 generative, 8 cold, 16 pinned


class Skipped(TypedDict):
    """A stage that did not do its part."""

    stage: str
    reason: str  # "late", "failed", or "too old": of so old a log the ranker makes worse lists than none


class Unknown(TypedDict):
    """Raw ids of the request that the catalogue does not have; they were left out."""

    history: list[str]
    exclude: list[str]


class ArmShown(TypedDict):
    """Of an experiment on live traffic, what this answer is."""

    experiment: str
    arm: str  # "": of both, see the items
    failed: bool  # production answered in its place


class Recommendations(TypedDict):
    """Answer of ``POST /recommend``."""

    items: list[Item]
    fallback: (
        str | None
    )  # "history" or "popular": for an unknown user's vector; "recent": for retrieval; None
    version: dict[str, Version]  # by role: "retriever" and, where they are served, "ranker" and "generative"
    request_id: str
    request_time: int  # unix seconds that were used
    age_s: int | None  # seconds from the newest event that is known to the request; None: no events are
    skipped: list[Skipped]  # what did not do its part
    unknown: Unknown
    timings_ms: dict[str, float]
    arm: NotRequired[ArmShown]  # where the user is in an experiment
    cached_s: NotRequired[float]  # it was made so many seconds ago, for the same question
    candidates: NotRequired[Candidates]  # with explain


class SimilarItem(TypedDict):
    item_id: str
    title: str | None
    details: NotRequired[dict[str, Any]]  # as of a recommended item
    score: float  # inner product of the two items' vectors; of a decoder, cosine of their codes' embeddings


class SimilarItems(TypedDict):
    """Answer of ``GET /items/{item_id}/similar``."""

    item_id: str
    items: list[SimilarItem]
    version: dict[str, Version]
    request_id: str


class Heard(TypedDict):
    """Answer of ``POST /events`` and ``PUT /items/{item_id}``: every replica knows within a second."""

    accepted: int
    repeated: int  # of an event_id that was told before: nothing is made of them again
    unknown_items: list[str]  # that the version served now does not have: it makes nothing of them
    request_id: str


class Done(TypedDict):
    """Answer of ``POST /admin/...``: it stands in the journal, and replicas follow within a second or two."""

    done: str
    request_id: str


class Scores(TypedDict):
    """Answer of ``POST /score``."""

    scores: list[float]  # probability of a click, one per row, in their order
    unknown: dict[str, int]  # by column: values that are no category of the training part
    model: str  # "dlrm"
    version: dict[str, Version]  # by role: "scorer"
    request_id: str
    timings_ms: dict[str, float]


class Health(TypedDict):
    """Answer of ``GET /health``: "degraded" serves another version than the store's name points at."""

    status: str  # "ok", "degraded" or "unavailable": nothing is loaded, or the store is not followed
    serving: dict[str, Version]
    loaded_at: str | None  # None: nothing is loaded
    problem: str | None
    known_until: str | None  # ISO 8601, UTC: the newest event that is known; None: no events are
    age_s: int | None  # seconds since then


class Live(TypedDict):
    """Answer of ``GET /live``: the process runs."""

    live: bool


class Ready(TypedDict):
    """Answer of ``GET /ready``."""

    ready: bool
    problem: str | None  # why not; or, of one that is ready, what it cannot follow for now


class Problem(TypedDict):
    """Answer to every wrong request."""

    error: str  # for programs
    message: str  # for people
    request_id: str
