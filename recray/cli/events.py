"""What an application showed and was told: how much of it there is, and how somebody is taken out of it."""

import math
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import tyro

from recray.cli.listing import Listing
from recray.config import ConfigError
from recray.paths import events_dir

if TYPE_CHECKING:
    from recray.event_log.writer import LogWriter
    from recray.pipelines.feedback import FeedbackConfig

ANSWER_WITHIN_S = 900.0


@dataclass(frozen=True)
class Events:
    """What an application showed and was told; or take a user out of it."""

    name: tyro.conf.Positional[str]
    """The application's bundle, as `recray versions` lists it."""
    attribution: str = "1h"
    """After an answer, within which an event belongs to it: 30min, 1h, 2d."""
    forget: str = ""
    """A user of whom everything is deleted, for good; it asks for --yes."""
    yes: bool = False
    """It is meant."""
    server: str = ""
    """Where the application is served, as in http://localhost:8000: while it is, only it can forget."""
    compact: bool = False
    """Move what is live into partitions now; a server does it by itself every minute."""
    json: Annotated[bool, tyro.conf.arg(help="Print JSON instead of a table.")] = False

    def __call__(self) -> Listing:
        from recray.pipelines.feedback import FeedbackConfig

        folder, config = events_dir() / self.name, FeedbackConfig(attribution=self.attribution)
        if self.forget and not self.yes:
            raise ConfigError(f"everything of user {self.forget!r} would be deleted for good: add --yes")
        if self.forget and self.server:
            _ask_to_forget(self.server, self.forget)
        elif self.forget:
            for log in _logs(folder):
                with closing(log):
                    log.forget(self.forget)
        if self.compact:
            for log in _logs(folder):
                with closing(log):
                    log.compact()
        return Listing(f"events in {folder}, {_size(folder) / 2**20:.1f} MiB", counts(folder, config))


def counts(folder: Path, config: "FeedbackConfig") -> list[dict[str, Any]]:
    """Answers, and events by kind, by whether they belong to one, and by whether a data set has them."""
    import polars as pl

    from recray.data.logged.interactions import with_why_not
    from recray.event_log.reading import read
    from recray.pipelines.feedback import joined

    log = read(folder)
    known = joined(log, config, until=math.inf)
    newest: Any = log.shown["at"].max()
    answers = log.shown["request_id"].n_unique()
    shown = {"what": "answers", "mark": "", "in data": "", "number": answers, "newest": _moment(newest)}
    of_kinds = (
        with_why_not(known.events, known.left_out)
        .group_by("kind", "mark", pl.col("why_not").fill_null("yes"))
        .agg(pl.len(), pl.col("at").max())
        .sort("kind", "mark", "why_not")
    )
    return [
        shown,
        *(
            {"what": kind, "mark": mark, "in data": why, "number": number, "newest": _moment(at)}
            for kind, mark, why, number, at in of_kinds.iter_rows()
        ),
    ]


def _moment(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _logs(folder: Path) -> Iterator["LogWriter"]:
    """Of every node that wrote one, held while it is worked on.

    Raises:
        ConfigError: somebody writes one of them now.
    """
    from recray.event_log.live import LIVE, HeldError
    from recray.event_log.writer import LogWriter

    for file in sorted((folder / LIVE).glob("*.sqlite")):
        try:
            yield LogWriter(folder, file.stem)
        except HeldError as error:
            raise ConfigError(f"{error}: it is served now; --forget then takes --server URL") from None


def _ask_to_forget(server: str, user_id: str) -> None:
    """
    Raises:
        ConfigError: the server does not do it; says why.
    """
    from recray.serve.http.admin import TOKEN

    headers = {"authorization": f"Bearer {os.environ.get(TOKEN, '')}"}
    url = f"{server.rstrip('/')}/admin/forget"
    try:
        answer = httpx.post(url, json={"user_id": user_id}, headers=headers, timeout=ANSWER_WITHIN_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConfigError(f"{server} does not answer ({error}): is it served there?") from None
    if answer.is_error:
        raise ConfigError(f"{server} refuses: {answer.text or answer.reason_phrase}")
