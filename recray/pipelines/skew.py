"""Whether serving and offline agree: what an application logged, scored and computed again."""

import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from recray import paths
from recray.arrays import Bools
from recray.config import ConfigError, to_dict
from recray.eval.ages import as_words
from recray.event_log.pieces import newest, pieces
from recray.event_log.reading import read_facts
from recray.event_log.tables import FEATURE, SHOWN
from recray.pipelines.features_again import Again, Told, Variant, features_again, served_otherwise
from recray.pipelines.feedback import HANDED_OVER_S, FeedbackConfig
from recray.pipelines.how_it_differs import in_words
from recray.pipelines.lineage import said_bundle
from recray.pipelines.logged_pieces import LoggedPieces
from recray.pipelines.scored_again import COLUMNS, Rescoring, Scores, same
from recray.schema import DataError
from recray.serve.stages.listed import StagesConfig
from recray.serve.versions import ServedBundles
from recray.store import Store

EXAMPLES = 3
VARIANTS = (
    *(Variant(f"as it was {as_words(lag_s)} before", lag_s) for lag_s in (60, 3_600)),
    Variant("as if nothing had been told since the version was made", lag_s=math.inf),
    Variant(f"as it was {as_words(86_400)} before", 86_400),
    Variant("that of the candidate before it", shift=1),
    Variant("that of the candidate behind it", shift=-1),
)
REPLICA = Variant("as it was 1 s before: a replica had not heard the newest yet", lag_s=1.0)
AGAIN_LISTS = 100  # that differ, and are asked again as of earlier
NEARLY_ALL = 0.95  # of what differs
NOT_EXPLAINED = "not explained"
BROUGHT = "the request named more items itself than the log has"
KEPT = "given again from what was kept: it is of an earlier moment"
LEFT_OUT = "a stage did not do its part"
KEPT_S = 2.0  # an answer looks at the log within the second of its request
_OF_LISTS = frozenset({"user_id", "request_time", "asked", "context", "took_ms", "brought", "named"})


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """What is computed again, and how the application is served."""

    lists: int = 1_000
    """The newest lists whose features are computed again, some hundred a second; 0: none."""
    stages: StagesConfig = field(default_factory=StagesConfig)
    """How the versions are served."""
    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)
    """Which events data is made of."""

    def __post_init__(self) -> None:
        if self.lists < 0:
            raise ConfigError(f"lists must be 0 or more, got {self.lists}")


class Example(NamedTuple):
    """An item of a list of which a feature is another one."""

    request_id: str
    item_id: str
    logged: float | None  # None: missing
    again: float | None


@dataclass(frozen=True, kw_only=True)
class FeatureSkew:
    """A feature that differs from what was logged."""

    name: str
    lists: int  # that differ in some item
    items: int
    median: float  # difference of what differs, where both are numbers; NaN: nowhere
    largest: float
    causes: dict[str, int]  # items, by the cause in words
    examples: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True)
class ReplayReport:
    """What a replay found; features that do not differ are not listed."""

    application: str
    since: float  # unix seconds, of the first answer
    until: float
    scores: Scores
    lists: int  # whose features were computed again
    items: int  # of theirs
    not_again: dict[str, int]  # lists beside them, by why theirs cannot be
    not_found: int  # items that are no candidates of the version now
    features: int  # of each item
    served: tuple[FeatureSkew, ...]  # from what the version gives now, told what came by then: a fault
    offline: tuple[FeatureSkew, ...]  # from what data says now: what training sees and serving did not

    @property
    def agrees(self) -> bool:
        """Whether what is served now is what was logged, bit by bit, by what a replica had heard; not where
        nothing could be scored again."""
        causes = {cause for skew in self.served for cause in skew.causes}
        return 0 < self.scores.equal == self.scores.replayed and causes <= {REPLICA.words}

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; what is missing is null."""
        said = to_dict(self) | {"scores": self.scores._asdict()}
        told: dict[str, Any] = json.loads(json.dumps(said), parse_constant=lambda _: None)
        return told


def replay(
    store: Store,
    application: str,
    config: ReplayConfig,
    *,
    last: int | None = None,
    hours: float | None = None,
    until: float | None = None,
) -> ReplayReport:
    """
    Args:
        last: the newest so many answers; hours: those of the last so many; neither: all of the log.
        until: unix seconds, nothing that came then or later counts; None: a moment ago.
    Raises:
        DataError: there is no log, or it has no answer in that time.
    """
    until = time.time() - HANDED_OVER_S if until is None else until
    folder = paths.events_dir() / application
    since = newest(folder, last) if last else 0.0
    if hours:
        since = max(since, until - hours * 3_600)
    rescoring = Rescoring(store)
    for piece in pieces(folder, lambda name: name in COLUMNS or name.startswith(FEATURE), since, until):
        rescoring.add(piece)
    scores = rescoring.scores()
    if not scores.answers:
        raise DataError(f"{application}: no answer in its log since then; ask it, or look further back")
    not_again = Counter[str]()
    versions = _features(store, folder, config, since, until, not_again) if config.lists else ()
    found = _Found(list(versions))
    return ReplayReport(
        application=application,
        since=since,
        until=until,
        scores=scores,
        lists=sum(part.lists for part in found.parts),
        items=sum(len(part.again.items) for part in found.parts),
        not_again=dict(not_again.most_common()),
        not_found=sum(int((~part.again.is_found_N).sum()) for part in found.parts),
        features=max((len(part.again.names) for part in found.parts), default=0),
        served=found.skews("served"),
        offline=found.skews("offline"),
    )


def _features(
    store: Store, folder: Path, config: ReplayConfig, since: float, until: float, not_again: Counter[str]
) -> Iterator["_OfVersion"]:
    """Of the newest lists, by version; counts those that cannot be asked again."""
    logged = LoggedPieces(folder, config.feedback, until)
    told = Told(logged.events, logged.trusted(logged.programs()), read_facts(folder))
    shown = _newest_ranked(folder, max(since, newest(folder, config.lists)), until)
    not_again.update(shown.drop_nulls("why_not").unique("request_id")["why_not"].to_list())
    for (said,), part in shown.filter(pl.col("why_not").is_null()).group_by("version", maintain_order=True):
        try:
            roles = json.loads(str(said or "{}")).items()
            said_by = {role: said_bundle(store, each) for role, each in roles}
            if "ranker" in said_by and "retriever" not in said_by:
                said_by["retriever"] = store.resolve(said_by["ranker"].manifest.requires["retriever"])
            bundles = ServedBundles(said_by)
        except (ConfigError, DataError):
            continue  # ``Scores.not_replayed`` says so
        if bundles.ranker:
            again = features_again(bundles, config.stages, part, told)
            yield _OfVersion(again, _why(bundles, config.stages, again, told))


def _newest_ranked(folder: Path, since: float, until: float) -> pl.DataFrame:
    """Items that a ranker scored, with their features, and ``why_not``: the list cannot be asked again."""
    wanted = COLUMNS | _OF_LISTS
    # Columns that a log had not yet when it was written are there, without values.
    nothing = pl.DataFrame(schema={name: kind for name, kind in SHOWN.items() if name in wanted | {"at"}})
    found = [
        piece.filter(
            pl.col("score").is_not_null()
            & pl.any_horizontal(pl.lit(value=False), *(pl.col(f"^{FEATURE}.*$").is_not_null(),))
        )
        for piece in pieces(folder, lambda name: name in wanted or name.startswith(FEATURE), since, until)
    ]
    asked_at = pl.col("at") - pl.col("took_ms") / 1e3
    why_not = (
        pl.when((pl.col("brought") > 0) & pl.col("named").is_null())
        .then(pl.lit(BROUGHT))
        .when(pl.col("skipped").list.len() > 0)
        .then(pl.lit(LEFT_OUT))
        .when(asked_at - pl.col("request_time") >= KEPT_S)
        .then(pl.lit(KEPT))
    )
    return pl.concat([nothing, *found], how="diagonal").with_columns(asked_at=asked_at, why_not=why_not)


def _why(bundles: ServedBundles, stages: StagesConfig, again: Again, told: Told) -> npt.NDArray[np.object_]:
    """cause_NF, in words, of what differs between logged and served; "" where nothing does."""
    differs_NF = ~same(again.logged_NF, again.served_NF) & again.is_found_N[:, None]
    cause_NF = np.where(differs_NF, NOT_EXPLAINED, "").astype(object)
    if not differs_NF.any():
        return cause_NF

    def is_of(variant: Variant, is_asked_N: Bools) -> Bools:
        """is_it_NF: of items whose lists are asked again so."""
        is_it_NF = np.zeros_like(differs_NF)
        other_MF = served_otherwise(bundles, stages, again.items.filter(is_asked_N), told, variant)
        is_it_NF[is_asked_N] = same(again.logged_NF[is_asked_N], other_MF)
        return is_it_NF & differs_NF

    list_N = again.items["request_id"].rle_id().cast(pl.Int64).to_numpy()
    is_late_NF = is_of(REPLICA, np.isin(list_N, list_N[differs_NF.any(axis=1)]))
    cause_NF[is_late_NF] = REPLICA.words
    differs_NF &= ~is_late_NF
    some = np.unique(list_N[differs_NF.any(axis=1)])[:AGAIN_LISTS]
    is_looked_at_N = np.isin(list_N, some)
    left_NF = differs_NF & is_looked_at_N[:, None]
    for variant in VARIANTS:
        if not left_NF.any():
            break
        is_it_NF = left_NF & is_of(variant, is_looked_at_N)
        for f in np.flatnonzero(is_it_NF.sum(axis=0) >= NEARLY_ALL * np.maximum(left_NF.sum(axis=0), 1)):
            if left_NF[:, f].any():
                cause_NF[differs_NF[:, f], f] = variant.words
                left_NF[:, f] = False
    for f in np.flatnonzero(left_NF.any(axis=0)):
        words = in_words(again.logged_NF[:, f], again.served_NF[:, f], list_N)
        cause_NF[differs_NF[:, f], f] = words or NOT_EXPLAINED
    return cause_NF


class _OfVersion(NamedTuple):
    again: Again
    why_NF: npt.NDArray[np.object_]

    @property
    def lists(self) -> int:
        return int(self.again.items["request_id"].n_unique())


class _Found(NamedTuple):
    parts: list[_OfVersion]

    def skews(self, against: Literal["served", "offline"]) -> tuple[FeatureSkew, ...]:
        """Those that differ, in most lists first."""
        names = dict.fromkeys(name for part in self.parts for name in part.again.names)
        found = [skew for name in names if (skew := self._skew(name, against))]
        return tuple(sorted(found, key=lambda skew: -skew.lists))

    def _skew(self, name: str, against: Literal["served", "offline"]) -> FeatureSkew | None:
        tables = [_apart(part, name, against) for part in self.parts if name in part.again.names]
        table = pl.concat(tables)
        if table.is_empty():
            return None
        apart = (table["logged"] - table["again"]).abs().drop_nulls()
        causes = Counter(table["cause"].to_list())
        few = table.unique("cause", maintain_order=True).head(EXAMPLES)
        return FeatureSkew(
            name=name,
            lists=table["request_id"].n_unique(),
            items=len(table),
            median=float(apart.median() if len(apart) else np.nan),  # type: ignore[arg-type]
            largest=float(apart.max() if len(apart) else np.nan),  # type: ignore[arg-type]
            causes=dict(causes.most_common()),
            examples=tuple(Example(*row) for row in few.drop("cause").iter_rows()),
        )


def _apart(part: _OfVersion, name: str, against: Literal["served", "offline"]) -> pl.DataFrame:
    """The items of which a feature differs."""
    again, f = part.again, part.again.names.index(name)
    other_NF, cause_NF = (
        (again.served_NF, part.why_NF) if against == "served" else (again.offline_NF, again.cause_NF)
    )
    differs_N = ~same(again.logged_NF[:, f], other_NF[:, f]) & again.is_found_N
    if against == "offline":  # what differs from what is served now is told there
        differs_N &= same(again.logged_NF[:, f], again.served_NF[:, f])
    return again.items.filter(pl.Series(differs_N)).select(
        "request_id",
        "item_id",
        logged=pl.Series(again.logged_NF[differs_N, f]).cast(pl.Float64).fill_nan(None),
        again=pl.Series(other_NF[differs_N, f]).cast(pl.Float64).fill_nan(None),
        cause=pl.Series(cause_NF[differs_N, f].tolist(), dtype=pl.String),
    )
