"""Make data of what an application logged: a data set that goes on from another one, and lists for a ranker.

recray feedback ml-100k-ranker --base ml-100k
recray feedback ml-100k-ranker --since 2026-11-01 --attribution 1d   # base: production's data
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

import tyro

from recray.cli.jobs import run_job
from recray.config import ConfigError, to_dict
from recray.pipelines.feedback import FeedbackConfig, build_feedback
from recray.pipelines.same_queries import Contender
from recray.recipes import run_again
from recray.store import Store


@dataclass(frozen=True)
class BuildFeedback:
    application: tyro.conf.Positional[str]
    """Whose log; the application's bundle."""
    base: str = ""
    """The data set that the log is added to; empty: what production was trained on."""
    since: str = ""
    """A day or a moment, ISO 8601, UTC where it says nothing else; empty: all that is new to the base."""
    until: str = ""
    """The same; empty: now."""
    config: Annotated[FeedbackConfig, tyro.conf.arg(name="")] = field(default_factory=FeedbackConfig)


def feedback(job: BuildFeedback) -> None:
    base = job.base or _of_production(job.application)
    since, until = _moment(job.since), _moment(job.until)
    made = build_feedback(job.application, base, job.config, since=since, until=until)
    print(json.dumps(to_dict(made.origin.report), indent=1))
    print(f"data set: {made.dataset}")
    print(f"ranking rows: {made.origin.lists} lists in {made.folder} (--logged.folder of a ranker's job)")


def _of_production(application: str) -> str:
    store = Store()
    return str(run_again(Contender.of(store, store.open(application)).retriever)[1].data.dataset)


def _moment(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        raise ConfigError(f"{text!r} is no day or moment such as 2026-11-01 or 2026-11-01T12:00") from None
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def main(args: Sequence[str]) -> int:
    return run_job("feedback", feedback, BuildFeedback, __doc__, args)
