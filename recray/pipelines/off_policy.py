"""Versions judged by the lists that an application drew and logged: what each would have earned.

Shapes: B lists, K places.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import fmean
from typing import NamedTuple

import numpy as np
import polars as pl

from recray.arrays import Float64s, Int64s
from recray.config import ConfigError
from recray.data.events.split_data import open_split
from recray.eval.bootstrap import Interval
from recray.eval.off_policy.estimate import Estimate, NoSupportError, estimate, gain, shown
from recray.eval.off_policy.estimators import METHODS
from recray.eval.off_policy.logged_lists import LogCard, LoggedLists
from recray.event_log.reading import Log
from recray.event_log.records import Fact
from recray.pipelines.feedback import HANDED_OVER_S, FeedbackConfig, joined
from recray.pipelines.replay import Asked, Order, Replay
from recray.pipelines.same_queries import Contender
from recray.recipes import run_again
from recray.serve.rules.explore import ExploreConfig
from recray.serve.stages.listed import StagesConfig
from recray.serve.versions import ServedBundles
from recray.store import RunRecord, Store, run_record

CANNOT = "the log cannot tell"


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """By which lists, and how the versions would be served."""

    stages: StagesConfig = field(default_factory=StagesConfig)
    """How the versions are served. `explore`: how their lists would be drawn; off: each shows its best."""
    depths: tuple[int, ...] = (1, 2, 3, 5, 10)
    """Lengths to which lists are judged: the longer, the fewer of what was drawn speak of other versions."""
    method: str = "snrips"
    """An estimator of docs/off_policy.md that needs no model."""
    most_lists: int = 20_000
    """The newest of them; a version answers them at some hundred a second."""

    def __post_init__(self) -> None:
        if not self.depths or min(self.depths) < 1:
            raise ConfigError(f"depths must be 1 or more, got {self.depths}")
        if self.most_lists < 1:
            raise ConfigError(f"most_lists must be at least 1, got {self.most_lists}")
        if self.method not in METHODS:
            raise ConfigError(f"no method {self.method!r} without a model; valid: {', '.join(METHODS)}")


class Both(NamedTuple):
    """What two versions would have earned: expected items with an outcome."""

    production: Estimate
    candidate: Estimate
    gain: Interval  # of the candidate over production, paired


class Judged(NamedTuple):
    """The first items of lists, so many."""

    depth: int
    shown: Interval  # what the policy that was served earned
    both: Both | None
    given_back: float  # of production's own lists, those whose chances its replay gives back; NaN: unknown
    why_not: str = ""  # the log cannot tell of both


class LearntBy(NamedTuple):
    """Models of a version, and the moment from which on they have learnt nothing."""

    bundles: ServedBundles
    moment: float  # unix seconds


class AskedAgain(NamedTuple):
    """Lists that were drawn and that neither version has learnt, and what each would draw from."""

    lists: pl.DataFrame  # of ``drawn_lists``
    production: list[Order]
    candidate: list[Order]
    bundles: ServedBundles  # of production, as served
    card: LogCard

    @property
    def length(self) -> int:
        """Of the longest list."""
        return int(self.lists["items"].list.len().max())  # type: ignore[arg-type]

    @property
    def user_ids_B(self) -> Int64s:
        users = self.lists["user_id"].fill_null(self.lists["request_id"])
        return users.rank("dense").to_numpy().astype(np.int64)


def judge_by_log(
    store: Store,
    application: str,
    logged: Log,
    now: Contender,
    new: Contender,
    config: JudgeConfig,
    feedback: FeedbackConfig,
    until: float | None = None,
    set_aside: tuple[float, float] | None = None,
    facts: Sequence[Fact] = (),
) -> list[Judged]:
    """Both versions, by the lists that neither has learnt, for each depth. As ``ask_again``, then ``judged``.

    Raises:
        NoSupportError: no such list was drawn.
    """
    again = ask_again(store, application, logged, now, new, config, feedback, until, set_aside, facts)
    return judged(again, config)


def ask_again(
    store: Store,
    application: str,
    logged: Log,
    now: Contender,
    new: Contender,
    config: JudgeConfig,
    feedback: FeedbackConfig,
    until: float | None = None,
    set_aside: tuple[float, float] | None = None,
    facts: Sequence[Fact] = (),
) -> AskedAgain:
    """Both versions, for the lists that neither has learnt.

    Args:
        until: unix seconds, nothing that came then or later counts; None: a moment ago.
        set_aside: as of ``build_feedback``.
        facts: what the application was told of items.
    Raises:
        NoSupportError: no such list was drawn.
    """
    until = time.time() - HANDED_OVER_S if until is None else until
    models = [_models(store, one, config) for one in (now, new)]
    since = max(min(each.moment for each in known) for known in models)
    found = joined(logged, feedback, until)
    if set_aside is not None:
        found = found.without(*set_aside)
    lists = drawn_lists(found.rows.join(found.left_out, on="user_id", how="anti"), since, config.most_lists)
    if lists.is_empty():
        raise NoSupportError(
            f"{CANNOT}: {_since_words(since)} no list was drawn by chance of which the outcome is known"
        )
    first = float(lists["at"].min())  # type: ignore[arg-type]
    card = LogCard(
        application,
        tuple(sorted(map(_version_words, lists["version"].unique().to_list()))),
        first,
        until,
        f"items with an outcome within {feedback.attribution}",
    )
    asked = [Asked(*row) for row in lists.select(Asked._fields).iter_rows()]
    served = [next(each.bundles for each in known if each.moment <= first) for known in models]
    production, candidate = (
        list(Replay(bundles, config.stages, logged.events, facts).orders(asked)) for bundles in served
    )
    return AskedAgain(lists, production, candidate, models[0][0].bundles, card)


def judged(again: AskedAgain, config: JudgeConfig) -> list[Judged]:
    """Both versions, for each depth."""
    production, candidate = (
        _as_logged_lists(again, orders, config) for orders in (again.production, again.candidate)
    )
    back = _given_back(production, again.lists["version"], again.bundles)
    return [
        _judged(depth, production.first(depth), candidate.first(depth), config.method, back)
        for depth in sorted({min(depth, again.length) for depth in config.depths})
    ]


def drawn_lists(rows: pl.DataFrame, since: float, most: int) -> pl.DataFrame:
    """The newest lists that were drawn item by item and whose time for outcomes is past, oldest first;
    without those of requests that named more than the log has: asked again, they would be others.

    Args:
        rows: of ``outcomes``.
    """
    is_whole = (pl.col("brought").fill_null(0) == 0) | pl.col("named").is_not_null()
    is_closed = pl.col("is_closed") & (pl.col("at") >= since)
    rows = rows.filter(is_closed & is_whole & (pl.col("source") != "pinned"))
    of_list = rows.sort("at", "request_id", "rank").group_by("request_id", maintain_order=True)
    lists = of_list.agg(
        pl.col("at", "request_time", "user_id", "context", "asked", "named", "version").first(),
        items=pl.col("item_id"),
        chances=pl.col("propensity"),
        outcomes=pl.col("label") > 0,
        is_drawn=pl.col("propensity").is_not_null().all(),
    )
    return lists.filter("is_drawn").tail(most)


def chances_of(order: Order, items: Sequence[str], k: int, explore: ExploreConfig) -> Float64s:
    """How likely each item of a list would have been drawn, given those before it; from the first one on that
    never would be: 0."""
    place_of = {item: place for place, item in enumerate(order.item_ids)}
    places = [place_of.get(item, -1) for item in items]
    among = min(order.num_ranked, max(explore.among, k))
    num_drawn = min(k, among)
    known = _until_false([0 <= place < among for place in places[:num_drawn]])
    chances_K = np.zeros(len(items))
    if known:
        chances_K[:known] = explore.chances(among, np.array(places[:known], np.int64))
    if known == num_drawn:  # what fills a list stands where it stands
        filled = _until_false([place == at for at, place in enumerate(places)][num_drawn:])
        chances_K[num_drawn : num_drawn + filled] = 1.0
    return chances_K


def _until_false(flags: Sequence[bool]) -> int:
    return flags.index(False) if False in flags else len(flags)


def _models(store: Store, one: Contender, config: JudgeConfig) -> list[LearntBy]:
    """The models that are served, and those that were measured where a moment ends what they learnt."""
    second = config.stages.second_source
    parts = {
        "ranker": one.ranker,
        "retriever": one.retriever,
        "generative": store.open(second) if second else None,
    }
    served = ServedBundles({role: bundle for role, bundle in parts.items() if bundle})
    records = [run_record(bundle) for bundle in served.by_role.values()]
    found = [LearntBy(served, max(map(_learnt_until, records)))]
    splits = {str(record.settings["data"].get("split")) for record in records}
    if splits == {"global-time"}:
        data = open_split(run_again(one.retriever)[1].data)  # type: ignore[arg-type]
        times_N = data.dataset.timestamps_N[data.split.test_N]
        found.append(LearntBy(served.measured, float(times_N.min())))
    return found


def _learnt_until(record: RunRecord) -> float:
    """Unix seconds: the second after the newest interaction, or the end of a log that its data was made of:
    lists of nobody in particular are learnt too."""
    if not record.learnt_until:
        return math.inf
    newest = datetime.fromisoformat(record.learnt_until).timestamp() + 1.0
    return max(newest, float(record.feedback.get("until", 0.0)))


def _given_back(production: LoggedLists, versions: pl.Series, bundles: ServedBundles) -> float:
    """Less than all: it was not served as ``stages`` says, or items were told of otherwise since."""
    near_BK = np.isclose(production.target_BK, production.logged_BK, rtol=1e-6) | ~production.is_shown_BK
    pairs = zip(versions, np.all(near_BK, axis=1), strict=True)
    own = [bool(back) for said, back in pairs if _version_words(said) == _words_of(bundles)]
    return fmean(own) if own else math.nan


def _version_words(said: str) -> str:
    """Of what a list says of its version by role: the one that names of the store point at."""
    by_role = json.loads(said)
    first = by_role.get("ranker") or by_role.get("retriever") or said
    return str(first).split()[0]


def _words_of(bundles: ServedBundles) -> str:
    return f"{bundles.reference.name}@{bundles.reference.version}"


def _as_logged_lists(again: AskedAgain, orders: Sequence[Order], config: JudgeConfig) -> LoggedLists:
    lists, explore = again.lists, config.stages.rules.explore
    items = lists["items"].to_list()
    each = zip(orders, items, lists["asked"].to_list(), strict=True)
    target = [chances_of(order, shown, asked, explore).tolist() for order, shown, asked in each]
    return LoggedLists(
        user_ids_B=again.user_ids_B,
        rewards_BK=padded([list(map(float, each)) for each in lists["outcomes"].to_list()], again.length),
        logged_BK=padded(lists["chances"].to_list(), again.length),
        target_BK=padded(target, again.length),
        is_shown_BK=np.arange(again.length) < lists["items"].list.len().to_numpy()[:, None],
        card=again.card,
    )


def padded(values: Sequence[Sequence[float]], length: int) -> Float64s:
    """table_BK; 0 where a list has ended."""
    table_BK = np.zeros((len(values), length))
    for row_K, each in zip(table_BK, values, strict=True):
        row_K[: len(each)] = each
    return table_BK


def _judged(
    depth: int, production: LoggedLists, candidate: LoggedLists, method: str, given_back: float
) -> Judged:
    earned = shown(production)
    try:
        both = Both(
            estimate(production, method),
            estimate(candidate, method),
            gain(candidate, production, method),
        )
    except NoSupportError as error:
        return Judged(depth, earned, None, given_back, str(error))
    return Judged(depth, earned, both, given_back)


def _since_words(moment: float) -> str:
    if math.isinf(moment):
        return "one of the versions does not say until when it has learnt, so that"
    day = datetime.fromtimestamp(moment, UTC).isoformat(" ", "minutes").removesuffix("+00:00")
    return f"since {day} UTC, until when the versions may have learnt,"
