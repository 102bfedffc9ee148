"""What a client gets back. Plain dictionaries, typed here: nothing is validated on the way out.

What stands below a field is what the API page says of it.
"""

from typing import Any, NotRequired

# The standard library's own TypedDict cannot be read by pydantic before Python 3.12.
from typing_extensions import TypedDict

from recray.serve.version import Version, told_in_words


@told_in_words
class FeatureReason(TypedDict):
    """A feature that moved an item's score, largest contribution first."""

    feature: str
    """its name"""
    value: float | None
    """null: missing"""
    contribution: float
    """in units of the score; of trees the SHAP value"""


@told_in_words
class Item(TypedDict):
    item_id: str
    """as the data has it"""
    title: str | None
    """null: the catalogue has none"""
    details: NotRequired[dict[str, Any]]
    """the columns that the application shows, such as category, price"""
    score: float | None
    """the ranker's; else the retriever's (a decoder's: log probability); null: unranked"""
    source: str
    """the retriever's model, history, popular, decoder, pinned, or cold: generated, never trained on"""
    arm: NotRequired[str]
    """where two versions' lists are drawn from in turns: whose item this is"""
    propensity: NotRequired[float]
    """where lists are drawn: the chance of this item, given those before it"""
    features: NotRequired[dict[str, float | None]]
    """with explain: what the ranker went by, float32 values, exact"""
    why: NotRequired[list[FeatureReason]]
    """with explain: what moved the score, largest first"""


@told_in_words
class Candidates(TypedDict):
    """All that was ranked, in the order of retrieval, then what filled the list: what a replay needs."""

    item_ids: list[str]
    """in the order of retrieval, then what filled the list"""
    retrieval_scores: list[float | None]
    """one per candidate; null: nothing is known of the user"""
    sources: list[int]
    """bit mask: 1 retriever, 2 popular, 4 generative, 8 cold, 16 pinned"""


@told_in_words
class Skipped(TypedDict):
    """A stage that did not do its part."""

    stage: str
    """such as retrieve, second_source or rank"""
    reason: str
    """late, failed, or too old: of so old a log the ranker makes worse lists than none"""


@told_in_words
class Unknown(TypedDict):
    """Raw ids of the request that the catalogue does not have; they were left out."""

    history: list[str]
    """ids of the request's history that the catalogue does not have"""
    exclude: list[str]
    """the same, of exclude"""


@told_in_words
class ArmShown(TypedDict):
    """Of an experiment on live traffic, what this answer is."""

    experiment: str
    """its name"""
    arm: str
    """empty: of both, see the items"""
    failed: bool
    """production answered in its place"""


@told_in_words
class Recommendations(TypedDict):
    """Answer of ``POST /recommend``."""

    items: list[Item]
    """best first"""
    fallback: str | None
    """history or popular: for an unknown user's vector; recent: for retrieval; null: none was needed"""
    version: dict[str, Version]
    """by role: retriever and, where they are served, ranker and generative"""
    request_id: str
    """of this answer alone: events name it. x-request-id is for tracing, and comes back in the header"""
    request_time: int
    """unix seconds that were used"""
    age_s: int | None
    """seconds from the newest event that is known to the request; null: no events are"""
    skipped: list[Skipped]
    """what did not do its part"""
    unknown: Unknown
    """what was left out of the request"""
    timings_ms: dict[str, float]
    """milliseconds by stage, and in total"""
    arm: NotRequired[ArmShown]
    """where the user is in an experiment"""
    cached_s: NotRequired[float]
    """it was made so many seconds ago, for the same question"""
    candidates: NotRequired[Candidates]
    """with explain: all that was ranked, which is what a replay needs"""


@told_in_words
class SimilarItem(TypedDict):
    item_id: str
    """as the data has it"""
    title: str | None
    """null: the catalogue has none"""
    details: NotRequired[dict[str, Any]]
    """as of a recommended item"""
    score: float
    """inner product of the two items' vectors; of a decoder, cosine of their codes' embeddings"""


@told_in_words
class SimilarItems(TypedDict):
    """Answer of ``GET /items/{item_id}/similar``."""

    item_id: str
    """the one that was asked for"""
    items: list[SimilarItem]
    """nearest first"""
    version: dict[str, Version]
    """by role: retriever and, where they are served, ranker and generative"""
    request_id: str
    """as sent in x-request-id, else made here"""


@told_in_words
class Heard(TypedDict):
    """Answer of ``POST /events`` and ``PUT /items/{item_id}``: every replica knows within a second."""

    accepted: int
    """how many were taken in"""
    repeated: int
    """of an event_id that was told before: nothing is made of them again"""
    unknown_items: list[str]
    """that the version served now does not have: it makes nothing of them"""
    request_id: str
    """as sent in x-request-id, else made here"""


@told_in_words
class Done(TypedDict):
    """Answer of ``POST /admin/...``: it stands in the journal, and replicas follow within a second or two."""

    done: str
    """the change, which stands in the journal; replicas follow within a second or two"""
    request_id: str
    """as sent in x-request-id, else made here"""


@told_in_words
class Scores(TypedDict):
    """Answer of ``POST /score``."""

    scores: list[float]
    """probability of a click, one per row, in their order"""
    unknown: dict[str, int]
    """by column: values that are no category of the training part"""
    model: str
    """its kind: dlrm"""
    version: dict[str, Version]
    """by role: scorer"""
    request_id: str
    """as sent in x-request-id, else made here"""
    timings_ms: dict[str, float]
    """milliseconds by stage, and in total"""


@told_in_words
class TakenDown(TypedDict):
    """What the log of this node took down since its process began."""

    events: int
    """that were new"""
    repeated: int
    """events whose id was known"""
    answers: int
    """that were shown"""
    waiting: int
    """events and answers that wait for the disk"""
    commits: int
    """to the disk"""
    commit_s: float
    """seconds that all of them took"""
    unsent: int
    """answers of this replica that the log has not got yet"""
    lost: int
    """answers of this replica for which there was no room any more"""


@told_in_words
class Health(TypedDict):
    """Answer of ``GET /health``."""

    status: str
    """ok; degraded: another version serves than the store's name points at, or there is another problem;
    unavailable: nothing is loaded, or the store is not followed"""
    serving: dict[str, Version]
    """by role; none: nothing is loaded"""
    loaded_at: str | None
    """ISO 8601, UTC; null: nothing is loaded"""
    problem: str | None
    """why it is not ok"""
    known_until: str | None
    """ISO 8601, UTC: the newest event that is known; null: no events are"""
    age_s: int | None
    """seconds since then"""
    log: TakenDown | None
    """of what is shown and told; null: it is not taken down, or nothing was yet"""


@told_in_words
class Live(TypedDict):
    """Answer of ``GET /live``: the process runs."""

    live: bool
    """true"""


@told_in_words
class Ready(TypedDict):
    """Answer of ``GET /ready``."""

    ready: bool
    """whether it may be sent requests"""
    problem: str | None
    """why not; or, of one that is ready, what it cannot follow for now"""


@told_in_words
class Problem(TypedDict):
    """Answer to every wrong request."""

    error: str
    """for programs"""
    message: str
    """for people"""
    request_id: str
    """as sent in x-request-id, else made here"""
