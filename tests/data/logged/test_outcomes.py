"""Outcomes belong to the answers that they claim, and only what was known counts."""

from collections.abc import Sequence

import polars as pl
import pytest

from recray.data.logged.interactions import interactions
from recray.data.logged.log_report import log_report, num_sessions
from recray.data.logged.outcomes import outcomes
from recray.data.logged.screening import Screening, screened
from recray.event_log.claims import marked
from recray.event_log.reading import Log
from recray.event_log.records import Event
from recray.event_log.tables import encoded, events_table, shown_table
from tests.event_log.logged import AT, answer, exposure

LATER = AT + 10_000


def log_of(events: Sequence[Event], answers: int = 3) -> Log:
    """Answers of three items each, one a second, all to Ann."""
    shown = shown_table([(n + 1, *answer(n)) for n in range(answers)], "here")
    return Log(shown, events_table([(n + 1, *event) for n, event in enumerate(events)], "here"))


def did(kind: str, item: int, after: float, request: str | None = "r0", user: str | None = "ann") -> Event:
    at = AT + after
    return Event(user, f"item-{item}", 1.0, at, f"{kind}{item}{after}{request}", kind, request, at)  # type: ignore[arg-type]


def labels(log: Log, until: float = LATER) -> dict[tuple[str, int], float]:
    rows = outcomes(log, 60, until)
    return {
        (request, rank): label for request, rank, label in rows.select("request_id", "rank", "label").rows()
    }


def test_the_highest_outcome_in_time_counts_once() -> None:
    log = log_of(
        [
            did("click", 0, 5),
            did("purchase", 0, 9),
            did("click", 1, 6),
            did("dismissal", 1, 7),
            did("click", 2, 61),
            did("click", 0, 5, "r9"),
            did("click", 1, 7, "r1", user="bob"),
            did("cart", 2, 8, "r1"),
            did("cart", 2, 9, "r1"),
            did("impression", 0, 9, "r2"),
        ]
    )
    found = labels(log)
    assert len(found) == 9
    assert {key: label for key, label in found.items() if label} == {("r0", 1): 3.0, ("r1", 3): 2.0}


def test_nothing_of_later_is_looked_at_and_open_lists_say_so() -> None:
    log = log_of([did("click", 0, 5), did("click", 1, 50)])
    early = outcomes(log, 60, AT + 30)
    assert early.filter(pl.col("label") > 0)["item_id"].to_list() == ["item-0"]
    assert not early["is_closed"].any()
    whole = outcomes(log, 60, AT + 61.5)
    assert whole.group_by("request_id").agg(pl.col("is_closed").all()).sort("request_id")[
        "is_closed"
    ].to_list() == [
        True,
        True,
        False,
    ]
    assert whole.filter(request_id="r0")["known_at"].to_list() == [AT + 50] * 3
    assert whole.filter(request_id="r1")["known_at"].to_list() == [AT + 1] * 3


def test_an_answer_that_was_written_twice_is_one() -> None:
    once = log_of([did("click", 0, 5)])
    twice = Log(pl.concat([once.shown, once.shown.with_columns(node=pl.lit("there"))]), once.events)
    assert labels(twice) == labels(once)


def test_programs_are_found_and_left_out() -> None:
    def events_of(user: str, count: int, every_s: float) -> list[Event]:
        return [did("click", n % 7, every_s * n, None, user) for n in range(count)]

    fast, slow = events_of("fast", 130, 0.1), events_of("slow", 130, 60.0)
    everything = [did("click", n % 3, n // 3 + 0.5, f"r{n // 3}") for n in range(60)]
    log = log_of([*fast, *slow, *everything], answers=20)
    rows = outcomes(log, 60, LATER)
    found = screened(log, rows, Screening())
    assert found.select("user_id", "why").rows() == [
        ("fast", "events per minute"),
        ("ann", "share of items clicked"),
    ]
    assert screened(log, rows, Screening(requests_per_minute=19, clicked=0))["user_id"].to_list() == [
        "ann",
        "fast",
    ]
    kept = interactions(marked(log, 60), found)
    assert set(kept["user_id"]) == {"slow"}
    assert len(kept) == 130


def test_what_is_not_trusted_is_no_interaction() -> None:
    events = [
        did("click", 0, 5),
        did("click", 0, 6),
        did("purchase", 1, 7, None),
        did("click", 5, 8),
        did("click", 2, 90),
        did("impression", 1, 9),
        did("dismissal", 2, 9),
        did("click", 2, 9, None, None),
    ]
    log = log_of(events)
    rows, events_ = outcomes(log, 60, LATER), marked(log, 60)
    programs = screened(log, rows, Screening())
    kept = interactions(events_, programs)
    assert kept.select("item_id", "event_type", "timestamp").rows() == [
        ("item-0", "click", int(AT) + 5),
        ("item-1", "purchase", int(AT) + 7),
        ("item-2", "click", int(AT) + 90),
    ]
    assert log_report(rows, events_, programs).no_interaction == {
        "forged": 1,
        "replayed": 1,
        "impression is no interaction": 1,
        "dismissal is no interaction": 1,
        "of nobody in particular": 1,
    }


def test_only_a_rating_brings_its_number() -> None:
    events = [did(kind, n, 5)._replace(value=4.5) for n, kind in enumerate(["rating", "purchase", "click"])]
    events.append(did("cart", 0, 6))
    log = log_of(events)
    kept = interactions(marked(log, 60), screened(log, outcomes(log, 60, LATER), Screening()))
    ratings = dict(kept.select("event_type", "rating").iter_rows())
    assert ratings == {"rating": 4.5, "purchase": 1.0, "click": 1.0, "cart": 1.0}


def test_the_report_counts() -> None:
    events = [did("click", 0, 5), did("click", 2, 6), did("click", 1, 7, "r1"), did("click", 1, 3000, "r2")]
    log = log_of(events)
    rows, events_ = outcomes(log, 60, LATER), marked(log, 60)
    report = log_report(rows, events_, screened(log, rows, Screening()))
    assert (report.lists, report.open_lists, report.shown, report.events, report.sessions) == (3, 0, 9, 4, 2)
    assert report.marks == {"free": 0, "claimed": 3, "forged": 0, "late": 1, "replayed": 0}
    assert report.answered == pytest.approx(2 / 3)
    assert report.answered_lists == 2
    program = pl.DataFrame({"user_id": ["ann"], "why": ["requests per minute"], "number": [99.0]})
    assert log_report(rows, events_, program).answered_lists == 0
    assert report.clicked_by_rank == pytest.approx([1 / 3] * 3)
    assert report.order == pytest.approx(0.5)  # one of two pairs each
    assert report.drawn == 1.0
    assert report.ranges == {"shown here": [1, 3], "events here": [1, 4]}
    assert num_sessions(events_, gap_s=5_000) == 1


def test_the_order_of_a_list_is_the_area_under_its_curve() -> None:
    log = log_of([did("click", 0, 5), did("click", 0, 5, "r1"), did("click", 2, 6, "r2")])
    rows = outcomes(log, 60, LATER)
    report = log_report(rows, marked(log, 60), screened(log, rows, Screening()))
    assert report.order == pytest.approx(2 / 3)
    assert report.order_error == pytest.approx((1 / 3) ** 0.5 / 3**0.5)


def test_an_answer_without_items_is_no_row() -> None:
    empty = shown_table(
        [(1, *encoded(exposure(0).__class__(**{**vars(exposure(0)), "items": (), "features_KF": None})))],
        "here",
    )
    assert outcomes(Log(empty, log_of([]).events), 60, LATER).is_empty()
