"""The list: which stages an application is made of, and the options that choose them.

Every placement runs the list, and so does ``pipelines.two_stage``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Literal

from recray.bundles.ranker import read_candidate_config
from recray.bundles.searcher import Searcher
from recray.config import ConfigError
from recray.features.candidates import CandidateConfig
from recray.serve.rules.listed import Rules
from recray.serve.seen import Seen
from recray.serve.stages.decoder import DecoderRetrieve, load_source
from recray.serve.stages.guard import Guarded
from recray.serve.stages.rank import Explain, Rank
from recray.serve.stages.retrieve import Retrieve
from recray.serve.stages.shorten import Shorten
from recray.serve.stages.stand_in import Known, StandIn
from recray.serve.state import RequestState, RetrievalStage, Stage
from recray.serve.versions import OpenedVersion, ServedBundles


@dataclass(frozen=True, kw_only=True)
class StagesConfig:
    """What the stages of an application do beyond what its bundles say."""

    second_source: str = ""
    """Bundle of a decoder over the same catalogue, a second source of candidates; its production version."""
    second_source_items: int = 50
    """Items that it proposes for each request."""
    cold_share: float = 0.0
    """Share of a decoder's items that is kept for items without training events."""
    seen: Literal["measured", "remove", "keep", "after"] = "measured"
    """Items that a user has seen: remove them, keep them, let them come back after `seen_after_days`, or
    do as when the version was measured."""
    seen_after_days: float = 30.0
    """Of `after`: an item comes back when it was last seen longer ago. What a request's own `history` and
    `exclude` name does not."""
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        if self.second_source_items < 1:
            raise ConfigError(f"second_source_items must be at least 1, got {self.second_source_items}")
        if self.seen_after_days < 0:
            raise ConfigError(f"seen_after_days must not be negative, got {self.seen_after_days}")
        if not 0.0 <= self.cold_share <= 1.0:
            raise ConfigError(f"cold_share must be between 0 and 1, got {self.cold_share}")

    def changed(self) -> dict[str, object]:
        """The options of stages that are not at their defaults."""
        ours = {option.name: getattr(self, option.name) for option in fields(StagesConfig)}
        return dict(_changed(ours, {name: getattr(StagesConfig(), name) for name in ours}))


def _changed(
    values: Mapping[str, object], defaults: Mapping[str, object], prefix: str = ""
) -> Iterator[tuple[str, object]]:
    """Options by their dotted names, those of rules too."""
    for name, value in values.items():
        if is_dataclass(value):
            yield from _changed(vars(value), vars(defaults[name]), f"{prefix}{name}.")
        elif value != defaults[name]:
            yield prefix + name, value


def open_retrieval(config: StagesConfig, version: OpenedVersion) -> RetrievalStage:
    """The first stage.

    Raises:
        ConfigError: a decoder beside the retriever was trained on another catalogue, or is of no use.
    """
    bundles, second = version.bundles, None
    barred, seen = config.rules.barred(version), _seen(config, bundles)
    if version.is_generative:
        if bundles.second_source:
            raise ConfigError(f"{bundles.retriever.reference} is a decoder: it needs no other one beside it")
        return DecoderRetrieve(version, config.cold_share, barred, seen=seen)
    files = version.retriever_files
    if bundles.second_source:
        second = load_source(
            bundles.second_source,
            files.users,
            files.items.head(version.num_published),
            version.event_log,
            proposed=config.second_source_items,
            cold_share=config.cold_share,
        )
    searcher = Searcher(files, version.retriever_model)
    first_I, log, candidates = version.popular_first_I, version.event_log, _candidates(bundles)
    return Retrieve(searcher, first_I, log, candidates, second, barred, seen=seen)


def open_stand_in(config: StagesConfig, version: OpenedVersion) -> StandIn:
    """What takes the place of the first stage; of a retriever it reads the catalogue, and no vectors."""
    bundles, first_I = version.bundles, version.popular_first_I
    barred, seen = config.rules.barred(version), _seen(config, bundles)
    known = Known(first_I, version.event_log, barred, _candidates(bundles), seen)
    return StandIn(known, version.recent)


def _candidates(bundles: ServedBundles) -> CandidateConfig:
    return read_candidate_config(bundles.ranker) if bundles.ranker else CandidateConfig()


def _seen(config: StagesConfig, bundles: ServedBundles) -> Seen:
    if config.seen == "after":
        return Seen(after_days=config.seen_after_days)
    return Seen(keeps=bundles.keeps_seen if config.seen == "measured" else config.seen == "keep")


def open_ranking(config: StagesConfig, version: OpenedVersion) -> tuple[Stage, ...]:
    """The stages after the first; the last one shortens the list."""
    return (*open_order(config, version), Shorten())


def open_order(config: StagesConfig, version: OpenedVersion) -> tuple[Stage, ...]:
    """Those that order candidates. Without a ranker the order of retrieval stands."""
    log, ranker = version.event_log, version.ranker
    stages: list[Stage] = []
    if log and ranker:
        stages.append(Guarded("rank", Rank(log, ranker, version.ranker_helps_until)))
    return (*stages, *config.rules.open(version))


def open_reasons(version: OpenedVersion) -> tuple[Stage, ...]:
    """The last stage, for the few requests that ask for reasons: it takes as long as hundreds of others."""
    return (Guarded("explain", Explain(version.ranker)),) if version.ranker else ()


def run(stages: Sequence[Stage], state: RequestState) -> RequestState:
    """The state after all of these stages."""
    for stage in stages:
        state = stage(state)
    return state
