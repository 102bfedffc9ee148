"""A log joined with what came of it, piece by piece, whatever its size.

Events are few beside what is shown: they are all in memory.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from recray.data.logged.interactions import with_why_not
from recray.data.logged.outcomes import outcomes
from recray.data.logged.screening import screened
from recray.eval.ages import seconds
from recray.event_log.claims import marked
from recray.event_log.pieces import pieces
from recray.event_log.reading import Log, read_events
from recray.event_log.tables import SHOWN
from recray.pipelines.feedback import FeedbackConfig

_OF_CLAIMS = frozenset({"request_id", "item_id", "rank", "user_id"})


class LoggedPieces:
    """All that was known of a log at a moment.

    Args:
        until: unix seconds; nothing that came then or later is looked at.
    Raises:
        DataError: there is no log, or a file is damaged.
    """

    def __init__(self, folder: Path, config: FeedbackConfig, until: float) -> None:
        self.folder, self.until = folder, until
        self.attribution_s = seconds(config.attribution)
        self.events = read_events(folder, until)
        self._screening = config.screening
        claims = self.events["request_id"].drop_nulls().unique()
        answers = [
            piece.filter(pl.col("request_id").is_in(claims.implode()))
            for piece in pieces(folder, _OF_CLAIMS.__contains__, until=until)
        ]
        nothing = pl.DataFrame(schema={name: SHOWN[name] for name in (*_OF_CLAIMS, "at")})
        shown = pl.concat(answers) if answers else nothing
        self.marked = marked(Log(shown, self.events), self.attribution_s)

    def rows(self, wanted: Callable[[str], bool], since: float | None = None) -> Iterator[pl.DataFrame]:
        """Rows of ``outcomes``, whole answers, and ``revenue``: what was paid for the item after this answer.

        Args:
            wanted: which columns of the log, by name, beside those that say of outcomes.
        """
        paid = (
            self.marked.filter((pl.col("mark") == "claimed") & (pl.col("kind") == "purchase"))
            .group_by("request_id", "item_id")
            .agg(revenue=pl.col("value").sum())
        )
        needed = _OF_CLAIMS.union
        for piece in pieces(self.folder, lambda name: name in needed() or wanted(name), since, self.until):
            claims = self.events.filter(pl.col("request_id").is_in(piece["request_id"].unique().implode()))
            rows = outcomes(Log(piece, claims), self.attribution_s, self.until)
            yield rows.join(paid, on=["request_id", "item_id"], how="left", maintain_order="left")

    def programs(self) -> pl.DataFrame:
        """The users who are left out, of ``screened``; judged by all of the log."""
        asked, did = list[pl.DataFrame](), list[pl.DataFrame]()
        user = pl.col("user_id").cast(pl.Categorical)  # four bytes a row
        for rows in self.rows(lambda _: False):
            asked.append(rows.unique("request_id").select(user, "at"))
            did.append(rows.select(user, "label"))
        if not asked:
            return pl.DataFrame(schema={"user_id": pl.String, "why": pl.String, "number": pl.Float64})
        answers = pl.concat(asked).with_row_index("request_id")
        found = screened(Log(answers, self.events.with_columns(user)), pl.concat(did), self._screening)
        return found.with_columns(pl.col("user_id").cast(pl.String))

    def trusted(self, programs: pl.DataFrame) -> pl.DataFrame:
        """The events that data is made of."""
        return with_why_not(self.marked, programs).filter(pl.col("why_not").is_null()).drop("why_not")
