"""From what an application logged to a version that may take production's place, step by step.

    production -> data -> lists -> labels -> retriever -> ranker -> leaks
        -> drawn -> comparison -> log -> a name

The first step that fails ends the round: production stays as it is, and the record says which step, and why.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from recray import paths
from recray.bundles.gate import require_gate
from recray.config import ConfigError, from_dict, override
from recray.data.events.split_data import DataConfig, open_split
from recray.data.logged.origin import origin_of
from recray.eval.off_policy.estimate import NoSupportError
from recray.event_log.reading import read, read_facts
from recray.folders import write_whole
from recray.monitor.leaks import LEAKS
from recray.pipelines.exposed import by_exposure
from recray.pipelines.feedback import HANDED_OVER_S, Feedback, FeedbackConfig, build_feedback
from recray.pipelines.gates import (
    GateConfig,
    enough,
    exposure_gate,
    label_gates,
    log_gate,
    metric_gate,
    require,
)
from recray.pipelines.off_policy import AskedAgain, JudgeConfig, ask_again, judged
from recray.pipelines.same_queries import Contender, ask_the_same
from recray.pipelines.train import train
from recray.recipes import run_again
from recray.schema import DataError
from recray.serve.traffic.operations import Operations
from recray.store import Bundle, Store
from recray.train.context import LaunchConfig

log = logging.getLogger(__name__)
Then = Literal["candidate", "canary", "promote"]
LABELS = "labels"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RetrainConfig:
    """How a version comes about, and what becomes of it."""

    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)
    gates: GateConfig = field(default_factory=GateConfig)
    share: float = 1.0
    """Of the logged lists that the ranker learns from; 0: none of them."""
    alone: bool = True
    """The ranker learns from logged lists alone: of a retriever's candidates those that were never shown
    stand as if nobody wanted them, and what is learnt is what was shown (docs/loop.md)."""
    examined: tuple[float, ...] = ()
    """How likely each rank is looked at: outcomes weigh the inverse. None: as the log tells where lists were
    drawn, else all count alike."""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    """How both versions are judged by the lists that were drawn."""
    then: Then = "candidate"
    """candidate: the name points at it. canary: some users see it. promote: production points at it."""


@dataclass(frozen=True, kw_only=True)
class Step:
    name: str
    passed: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class Round:
    """What was done, as it is written down."""

    application: str
    at: float  # unix seconds: events that came before count
    production: str = ""
    candidate: str = ""
    dataset: str = ""
    steps: tuple[Step, ...] = ()

    @property
    def failed(self) -> Step | None:
        return next((step for step in self.steps if not step.passed), None)

    @property
    def file(self) -> Path:
        return rounds_dir(self.application) / f"{self.at:.3f}.json"


class _StoppedError(Exception):
    """A step did not pass."""


class _Steps:
    """What was done so far."""

    def __init__(self) -> None:
        self.done: list[Step] = []
        self.production: Contender | None = None
        self.candidate: Bundle | None = None
        self.feedback: Feedback | None = None

    def do(self, name: str, work: Callable[[], T], said: Callable[[T], object] = str) -> T:
        try:
            result = work()
        except (ConfigError, DataError, OSError) as error:
            self._fail(name, str(error))
            raise _StoppedError from error
        except Exception as error:  # of whatever kind: the round is written down, and the next one is due
            log.exception("an unforeseen error")
            self._fail(name, f"{type(error).__name__}: {error}")
            raise _StoppedError from error
        self.done.append(Step(name=name, passed=True, text=str(said(result))))
        log.info("%s: %s", name, self.done[-1].text)
        return result

    def _fail(self, name: str, text: str) -> None:
        self.done.append(Step(name=name, passed=False, text=text))
        log.error("retraining ends at %s: %s", name, text)


class Retrained(NamedTuple):
    round: Round
    candidate: Bundle | None  # None: a step failed before there was one


class Compared(NamedTuple):
    text: str
    by_drawn: bool  # lists; else queries


def retrain(
    application: str,
    config: RetrainConfig,
    where: LaunchConfig,
    store: Store,
    *,
    until: float | None = None,
) -> Retrained:
    """One round, written down whatever becomes of it. It raises nothing that is a user's to mend.

    Args:
        until: unix seconds; what came in then or later does not count. None: a moment ago.
    """
    until = time.time() - HANDED_OVER_S if until is None else until
    steps = _Steps()
    with suppress(_StoppedError):
        _round(application, config, where, store, steps, until)
    done = Round(
        application=application,
        at=until,
        production=str(steps.production.first.reference) if steps.production else "",
        candidate=str(steps.candidate.reference) if steps.candidate else "",
        dataset=steps.feedback.dataset if steps.feedback else "",
        steps=tuple(steps.done),
    )
    done.file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(done.file, json.dumps(asdict(done), indent=1).encode())
    return Retrained(done, steps.candidate)


def _round(
    application: str, config: RetrainConfig, where: LaunchConfig, store: Store, steps: _Steps, until: float
) -> None:
    now = steps.production = steps.do(
        "production",
        lambda: Contender.of(store, store.open(application, "production")),
        lambda one: one.first.reference,
    )
    feedback = steps.feedback = steps.do(
        "data", lambda: _feedback(application, now, config, until), lambda made: made.dataset
    )
    report, before = feedback.origin.report, origin_of(feedback.origin.base)
    past = before.report if before else None
    steps.do("lists", lambda: require([enough(report, config.gates)]))
    steps.do(LABELS, lambda: require(label_gates(report, past, config.gates)))
    retriever = steps.do(
        "retriever", lambda: _retriever(now, feedback, where, store), lambda made: made.reference
    )
    new = Contender(retriever)
    if now.ranker:
        ranker = steps.do(
            "ranker",
            lambda: _ranker(now, retriever, feedback, config, where, store),
            lambda made: made.reference,
        )
        new = Contender(retriever, ranker)
    steps.candidate = new.first
    steps.do("leaks", lambda: _no_new_leaks(now, new))
    set_aside = _set_aside(application, before.until if before else None, until)
    drawn = steps.do(
        "drawn",
        lambda: _drawn(application, now, new, config, store, until, set_aside),
        lambda found: (
            found if isinstance(found, str) else f"{len(found.lists)} lists that neither has learnt"
        ),
    )
    examined = config.examined or feedback.origin.examined
    compared = steps.do(
        "comparison", lambda: _compared(now, new, config.gates, drawn, examined), lambda found: found.text
    )
    steps.do("log", lambda: _judged(drawn, config))
    steps.do(config.then, lambda: _put(application, config.then, now, new, store, compared))


def _feedback(application: str, now: Contender, config: RetrainConfig, until: float) -> Feedback:
    """What production was trained on, and what came in since: what came in while labels were refused is set
    aside."""
    base = run_again(now.retriever)[1].data.dataset
    known = origin_of(base)
    learnt = known.until if known else None
    set_aside = _set_aside(application, learnt, until)
    since = set_aside[1] if set_aside else learnt
    return build_feedback(application, base, config.feedback, since=since, until=until, set_aside=set_aside)


def _set_aside(application: str, learnt: float | None, until: float) -> tuple[float, float] | None:
    """What was shown since production learnt and before a round whose labels were refused."""
    refused = [one.at for one in rounds(application) if one.failed and one.failed.name == LABELS]
    last = max((at for at in refused if (learnt or 0.0) < at < until), default=None)
    return None if last is None else (learnt or 0.0, last)


def _retriever(now: Contender, feedback: Feedback, where: LaunchConfig, store: Store) -> Bundle:
    recipe, run = run_again(now.retriever)
    return train(recipe, override(run, {"data.dataset": feedback.dataset}), where, store).bundle


def _ranker(
    now: Contender,
    retriever: Bundle,
    feedback: Feedback,
    config: RetrainConfig,
    where: LaunchConfig,
    store: Store,
) -> Bundle:
    assert now.ranker is not None
    recipe, run = run_again(now.ranker)
    changes: dict[str, object] = {
        "data.dataset": feedback.dataset,
        "retriever": retriever.manifest.name,
        "retriever_version": str(retriever.manifest.version),
    }
    if config.share and feedback.origin.lists:
        changes |= {
            "logged.folder": str(feedback.folder),
            "logged.share": config.share,
            "logged.alone": config.alone,
            "logged.examined": config.examined or feedback.origin.examined,
        }
    return train(recipe, override(run, changes), where, store).bundle


def _no_new_leaks(now: Contender, new: Contender) -> str:
    """
    Raises:
        DataError: there is a kind of leak that production's data did not have.
    """
    more = {kind: text for kind, text in _leaks(new).items() if kind not in _leaks(now)}
    if more:
        raise DataError("; ".join(more.values()))
    return f"none that production has not: {', '.join(_leaks(new)) or 'none'}"


def _leaks(one: Contender) -> dict[str, str]:
    found: dict[str, str] = {}
    for bundle in filter(None, (one.retriever, one.ranker)):
        if LEAKS in bundle.manifest.files:
            found |= {leak["kind"]: leak["text"] for leak in json.loads(bundle.path(LEAKS).read_text())}
    return found


def _drawn(
    application: str,
    now: Contender,
    new: Contender,
    config: RetrainConfig,
    store: Store,
    until: float,
    set_aside: tuple[float, float] | None,
) -> AskedAgain | str:
    """Where no lists were drawn, there is nothing to go by, and that is no fault: why."""
    folder = paths.events_dir() / application
    logged, told = read(folder, until=until), (config.judge, config.feedback, until, set_aside)
    try:
        return ask_again(store, application, logged, now, new, *told, read_facts(folder))
    except NoSupportError as error:
        return str(error)


def _compared(
    now: Contender, new: Contender, gates: GateConfig, drawn: AskedAgain | str, examined: Sequence[float]
) -> Compared:
    """By lists that were drawn where that is asked for and they tell, else by queries."""
    why_not = ""
    if gates.by == "lists":
        try:
            if isinstance(drawn, str):
                raise NoSupportError(drawn)
            return Compared(require([exposure_gate(by_exposure(drawn, examined), gates)]), by_drawn=True)
        except NoSupportError as error:
            why_not = f"; not by drawn lists: {error}"
    data = run_again(new.first)[1].data
    assert isinstance(data, DataConfig)
    ks = (int(gates.metric.rpartition("@")[2]),)
    production, candidate = ask_the_same((now, new), open_split(data), ks)
    return Compared(require([metric_gate(production, candidate, gates)]) + why_not, by_drawn=False)


def _judged(drawn: AskedAgain | str, config: RetrainConfig) -> str:
    if isinstance(drawn, str):
        return drawn
    return require([log_gate(judged(drawn, config.judge), config.gates)])


def _put(
    application: str, then: Then, now: Contender, new: Contender, store: Store, compared: Compared
) -> str:
    made = new.first.reference
    if made.name != application:
        raise ConfigError(f"{made} is no version of {application}: its data is called otherwise")
    why = f"retrained; compared with {now.first.reference}"
    store.promote(application, made.version, "candidate", why=why)
    if then == "candidate":
        return str(made)
    if compared.by_drawn:  # what a ranker was measured to do to its retriever's lists goes by queries
        require_gate(store, new.first)
    operations = Operations(store, application)
    if then == "canary":
        return operations.canary(made.version, why=why, force=compared.by_drawn).name
    operations.promote(made.version, why=why, force=compared.by_drawn)
    return str(made)


def rounds_dir(application: str) -> Path:
    return paths.runs_dir() / "retrain" / application


def rounds(application: str) -> list[Round]:
    """All that were done, oldest first."""
    files = sorted(rounds_dir(application).glob("[0-9]*.json"), key=lambda file: float(file.stem))
    return [from_dict(Round, json.loads(file.read_text())) for file in files]
