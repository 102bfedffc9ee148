"""Rates, revenue and coverage of a log whose numbers are known; users are the unit."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recray import paths
from recray.cli import main
from recray.event_log import pieces
from recray.event_log.records import Drawn, Event, Exposure, Kind
from recray.event_log.tables import encoded
from recray.event_log.writer import LogWriter
from recray.pipelines.business import METRICS, BusinessConfig, BusinessReport, business
from recray.pipelines.feedback import FeedbackConfig
from recray.pipelines.shown_items import Repeats, long_tail
from recray.schema import DataError
from recray.store import Store
from tests.serve.world import APPLICATION, NOW, NUM_ITEMS, make_world, publish_ranker, publish_retriever

DAY = 86_400
CLICK: Kind = "click"
VERSION = {"ranker": f"{APPLICATION}@1 abc", "retriever": "tiny-two_tower@1 abc"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store, world = Store(tmp_path_factory.mktemp("home") / "store"), make_world()
    publish_ranker(store, world, publish_retriever(store, world))
    store.promote(APPLICATION, 1)
    return store


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LogWriter]:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    writer = LogWriter(paths.events_dir() / APPLICATION)
    yield writer
    writer.close()


def show(
    log: LogWriter,
    request_id: str,
    user: str | None,
    items: Sequence[str],
    *did: tuple[Kind, str, float],
    at: float = NOW,
    arm: str = "",
) -> None:
    given = Exposure(
        request_id=request_id,
        at=at,
        user_id=user,
        request_time=int(at),
        asked=len(items),
        items=tuple(Drawn(item, 1.0, "two_tower") for item in items),
        version=VERSION,
        experiment="canary" if arm else "",
        arm=arm,
    )
    log.expose([encoded(given)])
    log.record(
        [
            Event(user, item, value, at + 5, f"{request_id} {n}", kind, request_id, at + 5)
            for n, (kind, item, value) in enumerate(did)
        ]
    )


def report(
    store: Store, *, by_day: bool = False, hours: float | None = None, until: float = NOW + 2 * DAY
) -> BusinessReport:
    config = BusinessConfig(feedback=FeedbackConfig(attribution="1h"))
    return business(store, APPLICATION, config, by_day=by_day, hours=hours, until=until)


def means(found: BusinessReport) -> dict[str, float]:
    return {name: interval.mean for name, interval in found.whole.metrics.items()}


def test_numbers_that_are_known(store: Store, log: LogWriter) -> None:
    popular, rare = "i0", f"i{NUM_ITEMS - 1}"
    show(log, "a", "101", [popular, rare, "new"], ("click", popular, 1.0), ("purchase", popular, 30.0))
    show(log, "b", "101", [popular, "i1"], ("click", popular, 1.0), ("dismissal", popular, 1.0), at=NOW + 60)
    show(log, "c", None, [popular, "i2"], ("purchase", "i2", 10.0))
    show(log, "d", "102", [popular], at=NOW + DAY)
    show(log, "empty", "102", [])
    show(log, "open", "103", [popular], at=NOW + 2 * DAY - 60)
    found = report(store, by_day=True)
    assert means(found) == {
        "click_rate": 2 / 4,
        "purchase_rate": 2 / 4,
        "item_click_rate": 2 / 8,
        "item_purchase_rate": 2 / 8,
        "revenue_per_list": 40 / 4,
        "new_share": 1 / 8,
        "tail_share": 2 / 8,
        "repeat_share": 1 / 6,  # the popular one, a minute later
    }
    whole = found.whole
    assert (whole.lists, whole.items, whole.users, whole.anonymous_lists, whole.revenue) == (4, 8, 2, 1, 40.0)
    assert (whole.different_items, whole.coverage) == (
        5,
        4 / NUM_ITEMS,
    )  # the new one is not in the catalogue
    assert (found.empty_lists, found.open_lists, found.catalogue) == (1, 1, NUM_ITEMS)
    assert [(day.name, day.lists) for day in found.days] == [("2023-11-14", 3), ("2023-11-15", 1)]
    assert whole.few.startswith("3 users: ")
    assert [part.name for part in (*found.arms, *found.versions)] == ["no experiment", f"{APPLICATION}@1"]
    told = json.loads(json.dumps(found.to_json()))
    assert told["whole"]["metrics"]["revenue_per_list"][0] == 10.0


def test_arms_apart_and_a_time(store: Store, log: LogWriter) -> None:
    for n in range(40):
        show(log, f"a{n}", f"u{n}", ["i1"], *[(CLICK, "i1", 1.0)] * (n % 2), arm="canary")
        show(log, f"b{n}", f"v{n}", ["i2"], *[(CLICK, "i2", 1.0)] * (n % 4 == 0), arm="production")
    show(log, "early", "w", ["i3"], at=NOW - 10 * DAY)
    found = report(store, hours=72)
    arms = {arm.name: arm for arm in found.arms}
    assert list(arms) == ["canary canary", "canary production"]
    assert [arm.metrics["click_rate"].mean for arm in arms.values()] == [0.5, 0.25]
    assert [arm.few for arm in arms.values()] == ["", ""]
    low, high = arms["canary canary"].metrics["click_rate"][1:]
    assert (low, high) == pytest.approx((0.5 - 0.155, 0.5 + 0.155), abs=0.03)  # 1.96 * sqrt(0.25 / 40)
    assert found.whole.metrics["revenue_per_list"].mean == 0.0  # nothing was bought


def test_what_was_shown_before_the_time_is_shown_again_in_it(store: Store, log: LogWriter) -> None:
    show(log, "old", "101", ["i0"], at=NOW - 60)
    show(log, "new", "101", ["i0", "i1"], at=NOW + 60)
    show(log, "long ago", "102", ["i0"], at=NOW - 2 * DAY)
    show(log, "again", "102", ["i0"], at=NOW + 60)
    found = report(store, hours=48)
    assert found.whole.lists == 2
    assert means(found)["repeat_share"] == 1 / 3


def test_lists_of_one_user_are_alike(store: Store, log: LogWriter) -> None:
    """Forty users with ten lists each, half of whom click on all: as wide as forty lists, not as 400."""
    for user in range(40):
        for n in range(10):
            did = [(CLICK, "i1", 1.0)] * (user % 2)
            show(log, f"{user} {n}", f"u{user}", ["i1"], *did, at=NOW + 600.0 * n)
    click_rate = report(store).whole.metrics["click_rate"]
    assert click_rate.mean == 0.5
    assert click_rate.high - click_rate.low == pytest.approx(2 * 0.155, abs=0.06)


def test_programs_and_prices_that_are_not_said(store: Store, log: LogWriter) -> None:
    for n in range(100):
        show(log, f"p{n}", "program", ["i1"], ("click", "i1", 1.0), at=NOW + n / 10)
    show(log, "a", "101", ["i1"], ("purchase", "i1", 1.0))
    found = report(store)
    assert found.left_out == {"requests per minute": 1}
    assert (found.whole.lists, found.whole.metrics["purchase_rate"].mean) == (1, 1.0)
    assert np.isnan(found.whole.revenue)
    assert found.to_json()["whole"]["metrics"]["revenue_per_list"] == [None, None, None]


def test_in_pieces_as_whole(store: Store, log: LogWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(30):
        show(log, f"a{n}", f"u{n % 7}", [f"i{n % 5}", f"i{n % 3}x"], ("click", f"i{n % 5}", 1.0), at=NOW + n)
    log.compact()
    whole = report(store)
    monkeypatch.setattr(pieces, "PIECE_ROWS", 3)
    assert report(store) == whole


def test_the_command(
    store: Store, log: LogWriter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").symlink_to(store.root)
    show(log, "a", "101", ["i1"], ("click", "i1", 1.0))
    assert main(["business", APPLICATION, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["whole"]["metrics"]) == {metric.name for metric in METRICS}
    assert main(["business", APPLICATION, "--by", "day"]) == 0
    assert "1 lists of 1 users" in capsys.readouterr().out
    assert main(["business", APPLICATION, "--hours", "1"]) == 2
    with pytest.raises(DataError, match="1 lists, all younger than 1h"):
        report(store, until=NOW + 10)


def test_what_is_shown_again_by_a_slow_loop() -> None:
    rng, within_s = np.random.default_rng(0), 3_600.0
    users = [None if n == 0 else f"u{n}" for n in rng.integers(0, 5, 600)]
    items, at_N = (
        [f"i{n}" for n in rng.integers(0, 6, 600)],
        np.sort(rng.integers(0, 90_000, 600)).astype(float),
    )
    rows = pl.DataFrame({"user_id": users, "item_id": items, "at": at_N})
    last: dict[tuple[str, str], float] = {}
    expected = []
    for user, item, at in rows.iter_rows():
        expected.append(user is not None and at - last.get((user, item), -np.inf) <= within_s)
        last[user, item] = at
    assert 0.05 < np.mean(expected) < 0.95
    repeats = Repeats("1h")
    found = [repeats.marked(rows[start : start + 70]) for start in range(0, 600, 70)]
    assert pl.concat(found)["is_repeated"].to_list() == expected
    assert len(repeats.marked(rows.head(0))) == 0


def test_the_long_tail() -> None:
    """80 of 100 interactions are those of the first two items and half of the third: in the head too."""
    assert long_tail(np.array([5, 50, 0, 20, 15, 10])).tolist() == [True, False, True, False, False, True]
