"""What ``GET /traffic`` answers; see ``answers``."""

from typing import Any, NotRequired

# The standard library's own TypedDict cannot be read by pydantic before Python 3.12.
from typing_extensions import TypedDict

from recray.serve.version import told_in_words


@told_in_words
class ArmNow(TypedDict):
    """A version of an experiment, and who gets it."""

    name: str
    """of the arm; the first one's users get what the others are compared with"""
    version: int
    """its number in the store"""
    digest: str
    """of all its files"""
    share: float
    """of all users, now"""
    share_at_the_end: float
    """of all users, when the ramp has ended"""


@told_in_words
class ArmNumbers(TypedDict):
    """What an arm has shown."""

    share: float
    """of the experiment's users"""
    requests: int
    """answers"""
    users: int
    """who were enrolled"""
    users_closed: int
    """of them, those whose window has closed: their clicks count"""
    rates: dict[str, float | None]
    """errors, empty and fallbacks by answer; clicks by answer, the mean over users; null: of nothing"""
    outcomes: dict[str, int]
    """what users did, by kind"""
    p50_ms: float | None
    """milliseconds of an answer; null: there is none yet"""
    p95_ms: float | None
    """the same"""
    first_p95_ms: list[float | None]
    """bounds of the p95 of users' first answers; null: no upper one yet"""


@told_in_words
class CheckNumbers(TypedDict):
    """A check of a candidate against the first arm."""

    name: str
    """errors, empty, fallbacks, p75, p95 or clicks"""
    e: float
    """the evidence for a difference to the worse, as an e-value"""
    threshold: float
    """of e, from which on the check has spoken"""
    log_e: float
    """the logarithm of e"""
    level: float
    """the logarithm of the threshold"""
    crossed: bool
    """whether it has spoken"""
    ratio: float | None
    """of the candidate's rate to the first arm's; null: nothing is known of one"""
    bounds: list[float | None]
    """of the ratio, at any time; null: no upper one yet"""
    candidate: float | None
    """its rate; of p75 and p95, milliseconds"""
    baseline: float | None
    """the first arm's"""


@told_in_words
class SampleRatioNumbers(TypedDict):
    """Whether users came to the arms in the shares that were meant."""

    log_e: float
    """the evidence that they did not, as the logarithm of an e-value"""
    level: float
    """of log_e, from which on the experiment is not to be trusted"""
    crossed: bool
    """whether it is there"""


@told_in_words
class ComparedNumbers(TypedDict):
    """Of a canary, or of versions compared with each other."""

    arms: dict[str, ArmNumbers]
    """canary and ab: what each arm has shown, by its name"""
    checks: dict[str, list[CheckNumbers]]
    """canary and ab: by candidate"""
    sample_ratio: SampleRatioNumbers
    """canary and ab: whether users came in the shares that were meant"""
    age_s: float
    """canary and ab: seconds since the first answer"""
    users: int
    """canary and ab: enrolled in all"""
    requests_of_moved_users: int
    """canary and ab: of users whose arm has changed since; they count for nothing"""
    requests_of_users_left_out: int
    """canary and ab: of users beyond those that are remembered; they count for nothing"""
    decided: dict[str, list[str]]
    """canary and ab: what was decided for good of a candidate, and why"""


@told_in_words
class InterleavedNumbers(TypedDict):
    """Of lists that two versions are drawn from in turns."""

    requests: NotRequired[int]
    """interleaving: lists shown"""
    failed: NotRequired[int]
    """interleaving: production answered in its place"""
    empty: NotRequired[int]
    """interleaving: lists without an item"""
    lists_with_a_winner: int
    """interleaving: lists of which one version's items were clicked more"""
    candidate_wins: list[float]
    """interleaving: bounds of the candidate's share of those, at any time"""


@told_in_words
class ShadowNumbers(TypedDict):
    """Of a version whose answers nobody sees."""

    asked: int
    """shadow: requests that it was asked too"""
    failed: int
    """shadow: those that it did not answer"""
    left_out: int
    """shadow: requests for which there was no time"""
    overlap: float | None
    """shadow: share of the shown items that its list has too, the mean; null: of nothing"""
    rank_correlation: float | None
    """shadow: of the items in both lists, the mean; null: of nothing"""
    p95_took_ms: float | None
    """shadow: milliseconds of its answers"""
    p95_shown_ms: float | None
    """shadow: milliseconds of the answers that were shown"""


@told_in_words
class VerdictNow(TypedDict):
    """What is to be done with a candidate."""

    action: str
    """promote, roll back or hold"""
    reason: str
    """in a sentence"""


@told_in_words
class ExperimentNow(TypedDict):
    """An experiment that runs."""

    name: str
    """for pause, resume, stop and refuse"""
    kind: str
    """canary, ab, interleaving or shadow"""
    group: str
    """experiments of one group share no user"""
    arms: list[ArmNow]
    """the first is what the others are compared with"""
    paused: bool
    """production answers its users"""
    running_s: float
    """seconds, pauses left out"""
    ramped: bool
    """whether shares have come to their end"""
    acts: bool
    """whether verdicts are carried out, and not only shown"""
    by: str
    """who began it"""
    guardrails: dict[str, Any]
    """all limits, the default ones too"""
    numbers: ComparedNumbers | InterleavedNumbers | ShadowNumbers | None
    """what is known, by the kind of the experiment; null: nothing yet"""
    verdicts: dict[str, VerdictNow]
    """by candidate"""


@told_in_words
class Refused(TypedDict):
    """A version that does not come back but by force."""

    digest: str
    """of all its files"""
    why: str
    """as the journal has it"""


@told_in_words
class Traffic(TypedDict):
    """Answer of ``GET /traffic``."""

    application: str
    """whose traffic it is"""
    experiments: list[ExperimentNow]
    """those that run"""
    refused: list[Refused]
    """versions that do not come back but by force"""
    outcomes: dict[str, int]
    """what users did, by whether and how it was found to belong to an answer"""
    dropped: int
    """reports of replicas that were lost: too many waited"""
    problem: str | None
    """why experiments are not judged; null: they are"""
