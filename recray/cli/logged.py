"""A version beside production by the lists that an application logged: ``recray evaluate --logged``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recray import paths
from recray.cli.listing import Listing, render
from recray.config import to_dict
from recray.eval.bootstrap import Interval
from recray.event_log.reading import read, read_facts
from recray.pipelines.feedback import FeedbackConfig
from recray.pipelines.off_policy import JudgeConfig, Judged, judge_by_log
from recray.pipelines.same_queries import Contender
from recray.store import Store


@dataclass(frozen=True, kw_only=True)
class EvaluateLogged:
    """What decides the comparison; nothing is trained."""

    production: str = "production"
    """A version of the application: a number or a name."""
    candidate: str = "candidate"
    """The one that is judged beside it."""
    by: JudgeConfig = field(default_factory=JudgeConfig)
    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)


def evaluate_logged(application: str, config: EvaluateLogged, to: Path | None) -> None:
    """Prints a table, a line for each depth, and the card; writes the same as JSON.

    Raises:
        ConfigError, DataError, StoreError: no such version or log, or nothing that can be judged by.
    """
    store = Store()
    now, new = (
        Contender.of(store, store.open(application, version))
        for version in (config.production, config.candidate)
    )
    folder = paths.events_dir() / application
    by = (config.by, config.feedback)
    judged = judge_by_log(store, application, read(folder), now, new, *by, facts=read_facts(folder))
    show_judged(f"{new.first.reference} beside {now.first.reference}", judged)
    if to:
        said = {"judged": [_plain(one) for one in judged], "settings": to_dict(config)}
        to.write_text(json.dumps(said, indent=1))


def show_judged(title: str, judged: Sequence[Judged]) -> None:
    render(Listing(f"{title}: outcomes in the first items of a list", list(map(_row, judged))), as_json=False)
    for one in judged:
        if one.both is None:
            print(f"first {one.depth}: {one.why_not}")
    if both := next((one.both for one in judged if one.both), None):
        found = both.production
        print(
            f"judged by {found.lists:,} lists of {found.users:,} users, of {', '.join(found.card.versions)}; "
            f"{found.method}; 95 % intervals over users"
        )
        print(f"chances of its own lists that production gives back: {judged[0].given_back:.0%}")


def _row(one: Judged) -> dict[str, Any]:
    unknown = {"production": "?", "candidate": "?", "gain": "?", "say as much as": "?"}
    told = (
        unknown
        if one.both is None
        else {
            "production": _words(one.both.production.reward),
            "candidate": _words(one.both.candidate.reward),
            "gain": _words(one.both.gain, "+"),
            "say as much as": f"{one.both.candidate.effective_lists:,.0f} lists",
        }
    )
    return {"first": one.depth, "shown": _words(one.shown), **told}


def _words(found: Interval, sign: str = "") -> str:
    return f"{found.mean:{sign}.4f} [{found.low:{sign}.4f}, {found.high:{sign}.4f}]"


def _plain(one: Judged) -> dict[str, Any]:
    both = one.both and {
        name: value._asdict() if name == "gain" else value._asdict() | {"card": value.card._asdict()}
        for name, value in one.both._asdict().items()
    }
    return {"depth": one.depth, "shown": one.shown._asdict(), "why_not": one.why_not, "both": both}
