"""A log is replayed: what was served comes out bit by bit, and what is wrong with a log is found by name."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from benchmarks.replay_world import FAULTS, Visit, planted, serve
from recray import paths
from recray.cli import main
from recray.event_log.pieces import pieces
from recray.event_log.records import Drawn, Event, Exposure
from recray.event_log.tables import FEATURE, encoded
from recray.event_log.writer import LogWriter
from recray.pipelines.features_again import CLOCK, LATE, LEFT_OUT, STRANGER
from recray.pipelines.scored_again import NO_RANKER, Rescoring, steps_apart
from recray.pipelines.skew import BROUGHT, KEPT, ReplayConfig, ReplayReport, replay
from recray.schema import DataError
from recray.store import Store
from tests.serve.world import APPLICATION, NOW, make_world, publish_ranker, publish_retriever

UNTIL = 2.0**33
LATE_AT = NOW + 100


class Shop(NamedTuple):
    store: Store
    folder: Path  # of its log


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Known users, a stranger and nobody ask in turn; what they click is known to the next one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECRAY_HOME", str(tmp_path_factory.mktemp("home")))
        store, world = Store(), make_world()
        publish_ranker(store, world, publish_retriever(store, world))
        store.promote(APPLICATION, 1)
        shop = Shop(store, paths.events_dir() / APPLICATION)
        serve_some(shop, 60)
        yield shop


def serve_some(shop: Shop, count: int) -> None:
    askers = ("101", "stranger", "102", None, "103")
    visits = [Visit(askers[n % 5], NOW + 20 * n) for n in range(count)]
    serve(shop.store, APPLICATION, shop.folder, visits, react)


def react(visit: Visit, items: Sequence[str]) -> list[int]:
    return [visit.at // 20 % len(items)]


def replayed(shop: Shop) -> ReplayReport:
    return replay(shop.store, APPLICATION, ReplayConfig(), until=UNTIL)


@pytest.fixture(scope="module")
def report(shop: Shop) -> ReplayReport:
    return replayed(shop)


def test_what_was_served_comes_out_bit_by_bit(report: ReplayReport) -> None:
    assert (report.scores.answers, report.scores.replayed, report.scores.equal) == (60, 60, 60)
    assert (report.scores.items, report.scores.items_equal, report.scores.largest) == (600, 600, 0.0)
    assert (report.lists, report.items, report.not_found, report.not_again) == (60, 600, 0, {})
    assert report.served == ()
    assert report.agrees
    none = report.scores._replace(replayed=0, equal=0)
    assert not replace(report, scores=none).agrees, "nothing was compared"
    assert json.loads(json.dumps(report.to_json()))["scores"]["equal"] == 60


def test_offline_the_difference_is_explained(report: ReplayReport) -> None:
    causes = {skew.name: set(skew.causes) for skew in report.offline}
    assert causes["item_events"] == {LEFT_OUT}  # of nobody in particular
    assert causes["user_mean_rating"] == {STRANGER}
    assert CLOCK in causes["item_days_since_last"]
    assert "" not in set().union(*causes.values())
    assert not {"hour_of_day", "retrieval_score", "genre_affinity"} & causes.keys()


def test_the_newest_answers_alone(shop: Shop) -> None:
    report = replay(shop.store, APPLICATION, ReplayConfig(lists=3), last=10, until=UNTIL)
    assert (report.scores.answers, report.lists, report.since) == (10, 3, NOW + 20 * 50)
    with pytest.raises(DataError, match="no answer in its log since then"):
        replay(shop.store, APPLICATION, ReplayConfig(), hours=1, until=UNTIL)


def shown(shop: Shop) -> pl.DataFrame:
    return pl.concat(pieces(shop.folder, lambda _: True), how="diagonal")


def test_a_score_that_is_another_one_is_told_by_its_size(shop: Shop) -> None:
    table = shown(shop)
    one_more = np.nextafter(table["score"].to_numpy().astype(np.float32), np.float32(np.inf))
    table = table.with_columns(score=pl.when(pl.int_range(pl.len()) == 7).then(one_more).otherwise("score"))
    rescoring = Rescoring(shop.store)
    rescoring.add(table)
    scores = rescoring.scores()
    assert (scores.replayed, scores.equal, scores.items - scores.items_equal) == (60, 59, 1)
    assert scores.largest_steps == 1
    assert scores.apart[0].item_id == table["item_id"][7]


def test_what_cannot_be_scored_again_is_counted(shop: Shop) -> None:
    table = shown(shop)
    no_features = pl.lit(None, pl.Float32)
    broken = [
        table.with_columns(version=pl.lit('{"ranker": "tiny-ranker@9 abc"}')),
        table.with_columns(version=pl.lit('{"retriever": "tiny-two_tower@1"}')),
        table.with_columns(
            pl.col(f"^{FEATURE}.*$").is_null().replace_strict({True: None}, default=no_features)
        ),
    ]
    rescoring = Rescoring(shop.store)
    for part in broken:
        rescoring.add(part)
    scores = rescoring.scores()
    assert (scores.answers, scores.replayed) == (180, 0)
    assert scores.not_replayed[NO_RANKER] == 60
    assert scores.not_replayed["their features are not in the log"] == 60
    assert any("tiny-ranker@9 cannot be opened" in why for why in scores.not_replayed)


def test_a_planted_fault_is_found_by_name(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    faulty = Shop(shop.store, paths.events_dir() / APPLICATION)
    with planted(FAULTS[0]):
        serve_some(faulty, 15)
    report = replayed(faulty)
    (skew,) = report.served
    assert (skew.name, list(skew.causes)) == ("item_days_since_last", ["24 times what it should be"])
    assert skew.examples[0].logged == pytest.approx(24 * (skew.examples[0].again or 0), rel=1e-6)
    assert report.scores.equal == 15  # the ranker was given what the log has
    assert not report.agrees
    (tmp_path / "store").symlink_to(shop.store.root)
    assert main(["replay", APPLICATION, "--strict"]) == 2


def test_what_cannot_be_asked_again_is_counted(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    table, log = shown(shop).head(10), LogWriter(paths.events_dir() / APPLICATION)
    names = [name for name in table.columns if name.startswith(FEATURE)]
    given = Exposure(
        request_id="r",
        at=float(NOW),
        user_id="101",
        request_time=NOW,
        asked=10,
        items=tuple(Drawn(*row) for row in table.select("item_id", "score", "source").iter_rows()),
        version=json.loads(table["version"][0]),
        feature_names=tuple(name.removeprefix(FEATURE) for name in names),
        features_KF=table.select(names).fill_null(np.nan).to_numpy(),
    )
    for changes in ({"brought": 2}, {"at": NOW + 30.0}, {"skipped": ("second_source: late",)}, {}):
        log.expose([encoded(Exposure(**{**vars(given), "request_id": f"r{changes}", **changes}))])
    log.close()
    report = replayed(Shop(shop.store, paths.events_dir() / APPLICATION))
    assert report.not_again == {BROUGHT: 1, KEPT: 1, "a stage did not do its part": 1}
    assert (report.lists, report.scores.replayed, report.scores.equal) == (1, 4, 4)


def test_a_log_from_before_a_column_is_replayed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of 0.13, which did not count the items that a request named itself."""
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    (tmp_path / "store").symlink_to(shop.store.root)
    older = Shop(shop.store, paths.events_dir() / APPLICATION)
    serve_some(older, 5)
    before = replayed(older)
    log = LogWriter(older.folder)
    log.compact()
    log.close()
    files = sorted((older.folder / "shown").rglob("*.parquet"))
    assert files
    for file in files:
        pl.read_parquet(file, hive_partitioning=False).drop("brought", "trace_id").write_parquet(file)
    report = replayed(older)
    assert report.lists == before.lists > 0
    assert replace(report, scores=before.scores) == before
    assert main(["replay", APPLICATION]) == 0
    said = capsys.readouterr().out
    causes = {cause for skew in report.offline for cause in skew.causes}
    assert all(said.count(f"{cause}: ") == 1 for cause in causes)


def test_events_that_came_late_are_the_cause(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    later = Shop(shop.store, paths.events_dir() / APPLICATION)
    serve_some(later, 10)
    item, log = shown(later)["item_id"][-1], LogWriter(later.folder)
    log.record([Event("104", item, 1.0, LATE_AT, "late", received=NOW + 5_000.0)])
    log.close()
    causes = {skew.name: set(skew.causes) for skew in replayed(later).offline}
    assert LATE in causes["item_days_since_last"] | causes["item_events"]


def test_steps_between_floats() -> None:
    ones = np.array([1.0, -0.0, -1.0, 1.0], np.float32)
    others = np.array([np.nextafter(np.float32(1), np.float32(2)), 0.0, -1.0, -1.0], np.float32)
    assert steps_apart(ones, others).tolist() == [1, 0, 0, 2 * int(np.float32(1).view(np.int32))]
