"""What a look at drift found, as it is kept, shown and sent: plain values that any page can draw."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from recray.config import from_dict

Kind = Literal["numeric", "categorical", "vector", "share", "figure"]
Test = Literal["ks", "psi", "chi-square", "mmd", "collisions", "limit"]
Group = Literal["features", "scores", "items", "users", "context", "lists", "freshness"]
Against = Literal["first week", "bundle", "week before", "file"]


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How many rows fall where, in the reference and in the window: shares, each adding up to one.

    Attributes:
        edges: of a numeric feature, ascending: the first bar is below edges[0], bar i holds
            edges[i - 1] <= value < edges[i], and one after them is for what has no value. Edges come from
            the reference's quantiles, so bars are about as full there; one that holds a single value
            (a count, a flag) has it as its label. None: a categorical one.
        labels: what each bar stands for, in their order.
        reference: share of the rows, as many as labels; where hours of a day differ, weighed as the window's.
        window: the same of the window.
    """

    edges: tuple[float, ...] | None = None
    labels: tuple[str, ...] = ()
    reference: tuple[float, ...] = ()
    window: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One test of one feature.

    Attributes:
        statistic: of ks the greatest distance of the distribution functions, of psi the index, of chi-square
            sum((w - r)^2 / r) over shares (per row, so that sizes compare), of mmd the distance of the mean
            embeddings, of collisions the difference of the logarithms, of limit the value itself.
        threshold: the statistic raises an alarm above it. From the null at this window's size, for all
            features together, and what matters at all added; of limit a setting.
        p_value: chance of such a statistic in any feature of an unchanged stream: corrected already. None:
            no chance is in it (limit).
        alarm: statistic > threshold.
    """

    test: Test
    statistic: float
    threshold: float
    p_value: float | None
    alarm: bool


@dataclass(frozen=True, kw_only=True)
class FeatureDrift:
    """What became of one feature, score, share or figure.

    Attributes:
        name: ``price`` of a ranking feature; else one of ``score``, ``source``, ``answered``, ``item``,
            ``user``, ``item popularity``, ``item vectors``, ``effective items``, ``data age``,
            ``context:device`` and so on.
        group: where a page shows it.
        tests: the worst first; none: there was nothing to compare, ``note`` says why.
        psi: size of the shift, also where another test decides; None: no histogram.
        reference, window: means of numeric ones, the value of a figure or share; None: there is none.
        missing_reference, missing_window: share of the rows without a value.
    """

    name: str
    group: Group
    kind: Kind
    tests: tuple[Checked, ...] = ()
    alarm: bool = False
    raised: bool = False  # the alarm stands: it was raised now or before, and has not cleared
    psi: float | None = None
    reference: float | None = None
    window: float | None = None
    missing_reference: float = 0.0
    missing_window: float = 0.0
    histogram: Histogram | None = None
    sentence: str = ""  # what moved, for a person
    note: str = ""  # why it could not be told


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """An alarm that stands, or stood."""

    name: str  # of the feature
    since: float  # unix seconds
    sentence: str
    cleared: float | None = None  # unix seconds; None: it stands
    version: str = ""  # of which it was raised; "": an older recray did not say

    def why_over(self, version: str) -> str:
        """Why it does not stand any more, where ``version`` is looked at."""
        return "as before" if self.version in ("", version) else f"it was of {self.version}, now {version}"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """How much was looked at."""

    since: float  # unix seconds, of when answers were given
    until: float
    rows: int  # shown items
    answers: int
    users: int


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """One look at an application.

    Attributes:
        at: unix seconds, of the look.
        against: what the window is compared with; None: there is nothing yet, ``sentences`` says why.
        features: what is raised first, then by how far they are beyond, or within, their thresholds.
        raised, cleared: alarms that this look raised and cleared; ``standing``: all that stand after it.
        figures: coverage, novelty, popularity and freshness in numbers, by name, of "reference" and "window".
        chance: that an unchanged stream raises any alarm at this look.
    """

    application: str
    version: str  # NAME@NUMBER of what was shown most; "": nothing was
    at: float
    window: Sample
    against: Against | None = None
    reference: Sample | None = None
    chance: float = 0.0
    features: tuple[FeatureDrift, ...] = ()
    raised: tuple[Alarm, ...] = ()
    cleared: tuple[Alarm, ...] = ()
    standing: tuple[Alarm, ...] = ()
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    sentences: tuple[str, ...] = ()
    took_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values: what ``GET /drift`` answers and ``recray drift --json`` prints."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "DriftReport":
        """
        Raises:
            ConfigError: it is no report of this version of recray.
        """
        return from_dict(cls, values)
