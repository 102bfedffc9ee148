"""What was logged becomes data: what was there stays as it was, and nobody is in it who is not to be."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recray import paths
from recray.config import ConfigError
from recray.data.events.dataset import Dataset
from recray.data.events.log import event_log
from recray.data.events.prepare import load_or_prepare
from recray.data.logged.rows import LoggedConfig, logged_lists
from recray.event_log.records import Drawn, Event, Exposure
from recray.event_log.tables import encoded
from recray.event_log.writer import LogWriter
from recray.pipelines.examined import examined_ranks
from recray.pipelines.feedback import Feedback, FeedbackConfig, build_feedback
from recray.schema import DataError
from recray.serve.events.recorded import facts_of
from recray.serve.events.told import Content
from tests.pipelines.tiny import tiny_events

AT = 1_700_000_000.0
CONFIG = FeedbackConfig(attribution="1min")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    return str(tiny_events(tmp_path))


def log_some(begin: float, users: range, application: str = "tiny-ranker") -> None:
    """Each user is shown four items, and clicks the second; new-item is new, and so is new-user."""
    log = LogWriter(paths.events_dir() / application)
    for n in users:
        user, at = (f"u{n}" if n else "new-user"), begin + 100 * n
        items = tuple(
            Drawn(item, 1.0, "two_tower") for item in (f"i{n}", "new-item", f"i{n + 1}", f"i{n + 2}")
        )
        features_KF = np.arange(8, dtype=np.float32).reshape(4, 2)
        log.expose(
            [
                encoded(
                    Exposure(
                        request_id=f"r{begin}-{n}",
                        at=at,
                        user_id=user,
                        request_time=int(at),
                        asked=4,
                        items=items,
                        version={},
                        feature_names=("retrieval_score", "of_yesterday"),
                        features_KF=features_KF,
                    )
                )
            ]
        )
        clicked = items[1 + n % 2].item_id
        event = Event(user, clicked, 1.0, at + 5, f"e{begin}-{n}", "click", f"r{begin}-{n}", at + 5)
        log.record([event])
    log.close()


def built(base: str, until: float = AT + 10_000) -> Feedback:
    return build_feedback("tiny-ranker", base, CONFIG, until=until)


def raw_events(data: Dataset) -> list[tuple[str, str, float, int]]:
    users, items = data.users["raw_id"].to_list(), data.items["raw_id"].to_list()
    rows = zip(data.user_ids_N, data.item_ids_N, data.ratings_N, data.timestamps_N, strict=True)
    return [(users[u], items[i], float(r), int(t)) for u, i, r, t in rows]


def test_the_base_stays_as_it_was_and_what_was_logged_follows(base: str) -> None:
    log_some(AT, range(6))
    made = built(base)
    before, after = load_or_prepare(base), load_or_prepare(made.dataset)
    assert after.name == before.name
    events = raw_events(after)
    assert sorted(events[: len(before)]) == sorted(raw_events(before))
    assert events[len(before) :] == [
        (f"u{n}" if n else "new-user", f"i{n + 1}" if n % 2 else "new-item", 1.0, int(AT) + 100 * n + 5)
        for n in range(6)
    ]
    assert set(before.items["raw_id"]) < set(after.items["raw_id"])
    both = after.items.filter(after.items["raw_id"].is_in(before.items["raw_id"].implode())).sort("raw_id")
    assert both.equals(before.items.sort("raw_id").select(both.columns))
    assert both.columns == before.items.columns
    assert set(event_log(after).columns) == set(event_log(before).columns)
    known = after.users.filter(after.users["raw_id"] != "new-user").sort("raw_id")
    assert known.equals(before.users.sort("raw_id").select(known.columns))
    assert (made.origin.interactions, made.origin.lists, made.origin.base_hash) == (6, 6, before.hash)
    assert made.origin.report.ranges == {"shown local": [1, 6], "events local": [1, 6]}
    assert made.origin.report_digest == made.origin.report.digest
    assert built(base).folder == made.folder  # of the same state it is the same


def test_the_next_round_goes_on_where_the_last_one_ended(base: str) -> None:
    log_some(AT, range(6))
    first = built(base)
    log_some(AT + 20_000, range(4))
    second = built(first.dataset, AT + 40_000)
    assert (second.origin.since, second.origin.interactions, second.origin.lists) == (AT + 10_000, 4, 10)
    assert second.origin.report.lists == 4
    at_once = built(base, AT + 40_000)
    assert raw_events(load_or_prepare(second.dataset)) == raw_events(load_or_prepare(at_once.dataset))
    with pytest.raises(DataError, match="nobody did anything that can be learnt from"):
        built(second.dataset, AT + 50_000)


def test_what_was_shown_in_a_time_that_is_set_aside_does_not_count_when_it_closes_later(base: str) -> None:
    log_some(AT, range(6))
    cut = AT + 250.0  # r2 was shown before and is clicked, and closes, later
    event = Event("u2", "i3", 1.0, cut + 5, "late", "click", f"r{AT}-2", cut + 5)
    log = LogWriter(paths.events_dir() / "tiny-ranker")
    log.record([event])
    log.close()
    found = build_feedback("tiny-ranker", base, CONFIG, since=cut, until=AT + 10_000, set_aside=(0.0, cut))
    assert (found.origin.interactions, found.origin.lists) == (3, 3)
    assert found.origin.report.lists == 3
    counted = build_feedback("tiny-ranker", base, CONFIG, since=cut, until=AT + 10_000)
    assert (counted.origin.interactions, counted.origin.lists) == (4, 4)


def test_whoever_is_forgotten_is_in_no_data_made_afterwards(base: str) -> None:
    log_some(AT, range(12))
    log = LogWriter(paths.events_dir() / "tiny-ranker")
    log.forget("u11")
    log.close()
    made = built(base)
    data = load_or_prepare(made.dataset)
    assert "u11" not in data.users["raw_id"].to_list()
    for file in (*made.folder.iterdir(), *data.folder.iterdir()):
        assert b"u11" not in file.read_bytes(), file
    assert made.origin.interactions == 11


def test_lists_carry_the_features_that_were_served_and_end_before_the_moment(base: str) -> None:
    log_some(AT, range(6))
    made = built(base)
    data = load_or_prepare(made.dataset)
    users, items = data.users["raw_id"], data.items["raw_id"]
    config = LoggedConfig(folder=str(made.folder))
    names = ("of_tomorrow", "retrieval_score")
    found = logged_lists(config, names, users, items)
    assert found.examples.feature_names == names
    assert len(found.examples.labels_N) == 24
    np.testing.assert_array_equal(found.examples.features_NF[:4, 1], [0, 2, 4, 6])
    assert np.isnan(found.examples.features_NF[:, 0]).all()
    np.testing.assert_array_equal(found.examples.labels_N[:8], [0, 1, 0, 0, 0, 0, 1, 0])
    assert users[int(found.user_ids_Q[1])] == "u1"
    assert items[int(found.examples.item_ids_N[1])] == "new-item"
    before = logged_lists(config, names, users, items, before=AT + 205)
    assert len(before.user_ids_Q) == 2  # the third one's click is of that second
    moments_U = np.full(len(users), np.inf)
    moments_U[found.user_ids_Q[3]] = AT
    of_user = logged_lists(config, names, users, items, moments_U)
    assert found.user_ids_Q[3] not in of_user.user_ids_Q
    assert len(of_user.user_ids_Q) == 5


def test_lists_are_drawn_by_how_hardly_their_outcome_was_seen(base: str) -> None:
    log_some(AT, range(60))
    made = built(base)
    data = load_or_prepare(made.dataset)
    users, items = data.users["raw_id"], data.items["raw_id"]
    names = ("retrieval_score",)
    counts = np.zeros(2)
    for seed in range(40):
        config = LoggedConfig(folder=str(made.folder), examined=(1.0, 0.6, 0.2))
        found = logged_lists(config, names, users, items, seed=seed)
        ranks = found.examples.features_NF[found.examples.labels_N > 0, 0] / 2 + 1
        counts += [(ranks == 2).sum(), (ranks == 3).sum()]
    assert counts.sum() / 40 == pytest.approx(60, rel=0.02)
    assert counts[1] / counts[0] == pytest.approx(3.0, rel=0.1)
    half = logged_lists(LoggedConfig(folder=str(made.folder), share=0.5), names, users, items)
    assert 15 < len(half.user_ids_Q) < 45


def test_what_is_looked_at_is_told_by_what_was_drawn() -> None:
    rng, planted_R = np.random.default_rng(0), np.array([1.0, 0.6, 0.4, 0.2])
    liked_I = np.linspace(0.8, 0.1, 12)
    order = np.argsort(np.arange(12) / 2.0 + rng.gumbel(size=(8_000, 12)), axis=1)[:, :4]
    rows = pl.DataFrame(
        {
            "version": "shop-ranker@1",
            "score": (-order).astype(np.float64).ravel(),
            "rank": np.tile(np.arange(1, 5), 8_000).astype(np.int32),
            "label": (rng.random(order.shape) < liked_I[order] * planted_R).astype(np.float32).ravel(),
            "user_id": np.repeat(rng.integers(400, size=8_000), 4).astype(str),
            "request_id": np.repeat(np.arange(8_000), 4).astype(str),
            "propensity": 0.5,
            "is_closed": True,
        }
    )
    assert examined_ranks(rows) == pytest.approx(planted_R, rel=0.1)
    seldom = rows.with_columns(label=pl.when(pl.col("rank") == 4).then(0.0).otherwise("label"))
    assert len(examined_ranks(seldom)) == 3
    with pytest.raises(ConfigError, match="shown without chance"):
        examined_ranks(rows.with_columns(propensity=pl.lit(None, pl.Float64)))


@pytest.mark.parametrize("name", ["synthetic"])
def test_side_columns_stay_what_they_are(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    log_some(AT + 1e7, range(3), "shop")
    before = load_or_prepare(name)
    after = load_or_prepare(build_feedback("shop", name, CONFIG, until=AT + 2e7).dataset)
    of_item = dict(zip(after.items["raw_id"], after.items.iter_rows(), strict=True))
    assert after.items.columns == before.items.columns
    assert [of_item[row[0]] for row in before.items.iter_rows()] == before.items.rows()
    assert after.name == name


def test_what_items_are_told_to_be_is_in_the_data_made_afterwards(base: str) -> None:
    log_some(AT, range(6))
    told = [
        Content("new-item", {"genres": ["Drama"]}),
        Content("i3", {"title": "another one"}),
        Content("unseen", {"genres": ["Comedy"], "colour": "red"}),
    ]
    facts = [*facts_of(told, AT), *facts_of([Content("later", {"genres": ["Drama"]})], AT + 1e6)]
    log = LogWriter(paths.events_dir() / "tiny-ranker")
    log.record([], facts)
    log.close()
    made = built(base)
    before, after = (load_or_prepare(name).items for name in (base, made.dataset))
    rows = {row["raw_id"]: row for row in after.iter_rows(named=True)}
    was = before.filter(raw_id="i3").row(0, named=True)
    assert rows["i3"] == was | {"title": "another one"}
    assert (rows["new-item"]["genres"], rows["unseen"]["genres"]) == (["Drama"], ["Comedy"])
    assert set(rows) == {*before["raw_id"], "new-item", "unseen"}
    assert made.origin.items_told == 3
