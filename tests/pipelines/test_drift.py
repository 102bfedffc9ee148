"""A look at an application's log: references in their order, alarms that are told once, what may go wrong."""

import json
import shutil
import socket
from collections.abc import Iterator
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import polars as pl
import pytest

from recray import paths
from recray.bundles.reference import REFERENCE
from recray.cli import main
from recray.cli.retrain import drifts
from recray.config import ConfigError, override
from recray.data.events.split_data import DataConfig
from recray.event_log.records import Drawn, Exposure
from recray.event_log.tables import encoded
from recray.event_log.writer import LogWriter
from recray.features.candidates import CandidateConfig
from recray.models.gbdt import GBDTConfig
from recray.monitor.alarms import AlarmState
from recray.monitor.drift_files import drift_dir, read_latest, write_state
from recray.monitor.drift_report import Alarm, DriftReport
from recray.pipelines.drift import DriftConfig, look, look_at_file
from recray.pipelines.retrain import Round, rounds_dir
from recray.pipelines.train import train
from recray.recipes import RECIPES, run_for
from recray.recipes.ranker import GBDT_RANKER, GBDTRankerRun
from recray.schema import DataError
from recray.store import Store
from recray.track.notices import tell_people
from recray.train.context import LaunchConfig
from tests.pipelines.tiny import NUM_ITEMS, NUM_USERS, tiny_events

LOCAL = LaunchConfig(where="local")
NAME = "tiny-ranker"
BEGIN, DAY_S = 1_700_006_400.0, 86_400.0  # a Wednesday, 0:00 UTC
FEATURES = ("price", "age")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with a ranker in production, and eight days of its log."""
    folder = tmp_path_factory.mktemp("drift")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECRAY_HOME", str(folder / "home"))
        store = Store()
        data = DataConfig(dataset=f"{tiny_events(folder)}?name=tiny")
        run = override(run_for(RECIPES["item_knn"], data.dataset), {"data": data})
        retriever = train(RECIPES["item_knn"], run, LOCAL, store).bundle
        ranker = GBDTRankerRun(
            data=data,
            retriever=retriever.manifest.name,
            candidates=CandidateConfig(retrieved=30, popular=5),
            model=GBDTConfig(rounds=5),
        )
        train(GBDT_RANKER, ranker, LOCAL, store)
        store.promote(NAME, 1)
        for day in range(8):
            shown(day)
        yield folder / "home"


@pytest.fixture
def store(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("RECRAY_HOME", str(home))
    yield Store()
    for name in ("state.json", "latest.json"):
        (drift_dir(Store().root, NAME) / name).unlink(missing_ok=True)
    shutil.rmtree(rounds_dir(NAME), ignore_errors=True)


def shown(day: int, dearer: float = 0.0, version: str = f"{NAME}@1") -> None:
    """Each user is answered twice, every two minutes of a day."""
    rng, log = np.random.default_rng(day), LogWriter(paths.events_dir() / NAME)
    answers = []
    for n in range(5 * NUM_USERS):
        user = int(rng.integers(NUM_USERS))
        items = rng.choice(NUM_ITEMS, 5, replace=False)
        features_KF = np.stack([rng.normal(10 + dearer, 2, 5), np.full(5, 20 + user)], 1).astype(np.float32)
        exposure = Exposure(
            f"{version}-{day}-{n}",
            BEGIN + day * DAY_S + 280 * n,
            f"u{user}",
            int(BEGIN),
            5,
            tuple(Drawn(f"i{item}", float(rng.normal()), "item_knn") for item in items),
            {"ranker": version},
            context={"device": str(rng.choice(["phone", "tv"]))},
            feature_names=FEATURES,
            features_KF=features_KF,
        )
        answers.append(encoded(exposure))
    log.expose(answers)
    log.close()


def test_a_window_like_the_first_week_raises_nothing(store: Store) -> None:
    report = look(NAME, DriftConfig(), store, now=BEGIN + 8 * DAY_S)
    assert report.against == "first week"
    assert report.reference is not None
    assert report.reference.answers == 7 * 5 * NUM_USERS
    assert report.window.answers == 5 * NUM_USERS
    names = {one.name for one in report.features}
    assert names >= {"price", "age", "score", "source", "item", "user", "context:device", "item popularity"}
    assert [one.name for one in report.features if one.alarm] == []
    assert DriftReport.from_json(json.loads(json.dumps(report.to_json()))) == report
    assert read_latest(drift_dir(store.root, NAME)) == report
    price = next(one for one in report.features if one.name == "price")
    assert price.histogram is not None
    assert price.window == pytest.approx(10, abs=0.3)
    assert sum(price.histogram.window) == pytest.approx(1, abs=1e-3)
    assert len(price.histogram.labels) == len(price.histogram.reference) == len(price.histogram.window)


def test_a_bundle_brings_its_own_lists(store: Store) -> None:
    bundle = store.open(NAME)
    assert REFERENCE in bundle.manifest.files
    assert bundle.path(REFERENCE).stat().st_size < 300_000
    report = look(NAME, DriftConfig(against="bundle"), store, now=BEGIN + 8 * DAY_S)
    assert report.against == "bundle"
    assert any("hours of the week are not told apart" in one for one in report.sentences)
    assert next(one for one in report.features if one.name == "user").window == 0.0


def test_what_there_is_nothing_to_compare_with_is_said(store: Store) -> None:
    report = look(NAME, DriftConfig(against="first week"), store, now=BEGIN + 3 * DAY_S)
    assert report.against is None
    assert "first week is not over" in report.sentences[0]
    assert report.window.rows > 0
    empty = look(NAME, DriftConfig(), store, now=BEGIN + 100 * DAY_S)
    assert empty.sentences[0] == "nothing was shown in the last 1 d"


class Webhook(BaseHTTPRequestHandler):
    status, bodies = 200, list[str]()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        if Webhook.status == 200:
            Webhook.bodies.append(body)
        self.send_response(Webhook.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Webhook]]:
    server = HTTPServer(("127.0.0.1", 0), Webhook)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("RECRAY_NOTIFY", f"json://127.0.0.1:{server.server_port}/hook")
    Webhook.status, Webhook.bodies = 200, []
    yield Webhook
    server.shutdown()
    server.server_close()


def test_one_alarm_one_clear(store: Store, webhook: type[Webhook]) -> None:
    """Prices rise on the ninth day and fall on the eleventh: two messages, though a webhook was away."""
    for day, dearer in ((8, 3.0), (9, 3.0), (10, 0.0), (11, 0.0), (12, 0.0)):
        shown(day, dearer)
    found = []
    for day in (9, 10, 11, 12, 13):
        webhook.status = 429 if day == 9 else 200
        found.append(look(NAME, DriftConfig(), store, now=BEGIN + day * DAY_S, notify=True))
    assert [[alarm.name for alarm in report.raised] for report in found] == [["price"], [], [], [], []]
    assert [[alarm.name for alarm in report.standing] for report in found[:3]] == [["price"]] * 3
    assert [alarm.name for report in found for alarm in report.cleared] == ["price"]
    assert "price: mean 12.98 in place of 9.996" in found[0].raised[0].sentence
    assert len(webhook.bodies) == 2
    assert "1 raised" in webhook.bodies[0]
    assert "1 cleared" in webhook.bodies[1]


def test_a_webhook_that_hangs_harms_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("RECRAY_NOTIFY", f"json://127.0.0.1:{mute.getsockname()[1]}/hook")
        assert not tell_people("drift", "20 raised", within_s=0.1)


def test_whom_to_tell_must_be_known(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECRAY_NOTIFY", raising=False)
    with pytest.raises(ConfigError, match="nobody to tell"):
        look(NAME, DriftConfig(), store, now=BEGIN + 8 * DAY_S, notify=True)


def test_rows_of_a_file(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, rows = np.random.default_rng(0), 2_000
    frame = pl.DataFrame(
        {
            "at": BEGIN + 8 * DAY_S + np.arange(rows) * 40.0,
            "user_id": [f"u{n}" for n in rng.integers(NUM_USERS, size=rows)],
            "request_id": [f"r{n // 5}" for n in range(rows)],
            "item_id": [f"new{n}" for n in rng.integers(NUM_ITEMS, size=rows)],
            "rank": np.arange(rows) % 5 + 1,
            "score": rng.normal(size=rows),
            "version": [json.dumps({"ranker": f"{NAME}@1"})] * rows,
        }
    )
    frame.write_parquet(tmp_path / "rows.parquet")
    report = look_at_file(NAME, DriftConfig(against="bundle"), store, tmp_path / "rows.parquet")
    item = next(one for one in report.features if one.name == "item")
    assert item.alarm
    assert (item.reference, item.window) == (0.0, 1.0)
    assert read_latest(drift_dir(store.root, NAME)) is None
    said = json.dumps({"ranker": f"{NAME}@1"}, separators=(",", ":"))  # as the log has it
    times = frame.with_columns(at=pl.from_epoch("at"), version=pl.lit(said))
    times.write_parquet(tmp_path / "times.parquet")
    folder = drift_dir(store.root, NAME)
    for week in folder.glob("first-week-*"):
        week.unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*")}
    of_times = look_at_file(NAME, DriftConfig(), store, tmp_path / "times.parquet")
    assert (of_times.against, of_times.window.until) == ("first week", report.window.until)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*")} == before, "nothing is kept"
    assert main(["drift", NAME, "--file", str(tmp_path / "times.parquet"), "--every", "1h"]) == 2
    for wrong in (times.with_columns(at=None), times.with_columns(at=pl.lit("noon"))):
        wrong.write_parquet(tmp_path / "times.parquet")
        with pytest.raises(DataError, match="must be a time in each row"):
            look_at_file(NAME, DriftConfig(), store, tmp_path / "times.parquet")
    frame.with_columns(version=pl.lit("2")).write_parquet(tmp_path / "times.parquet")
    with pytest.raises(DataError, match="must be JSON of bundles"):
        look_at_file(NAME, DriftConfig(), store, tmp_path / "times.parquet")
    assert main(["drift", NAME, "--file", str(tmp_path / "rows.parquet"), "--against", "bundle"]) == 0
    assert "! shown items of which nothing was learnt: 100.0% in place of 0.0%" in capsys.readouterr().out
    frame.drop("score").write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="no column score"):
        look_at_file(NAME, DriftConfig(), store, tmp_path / "rows.parquet")


def test_what_does_not_drift_is_not_trained(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrain", NAME, "--when-drift"]) == 0
    assert "nobody has looked" in capsys.readouterr().err
    look(NAME, DriftConfig(), store, now=BEGIN + 8 * DAY_S)
    assert main(["retrain", NAME, "--when-drift"]) == 0
    assert "no alarm stands" in capsys.readouterr().err
    alarm = Alarm(name="price", since=BEGIN + 8 * DAY_S, sentence="price moved", version=f"{NAME}@1")
    write_state(drift_dir(store.root, NAME), AlarmState(looked_at=alarm.since, standing=(alarm,)))
    answered = Round(application=NAME, at=alarm.since + 60, candidate=f"{NAME}@2 abc")
    answered.file.parent.mkdir(parents=True)
    answered.file.write_text(json.dumps(asdict(answered)))
    assert main(["retrain", NAME, "--when-drift"]) == 0
    assert f"{NAME}@2 abc was trained since its alarms were raised" in capsys.readouterr().err
    earlier = replace(answered, at=alarm.since - 60)
    earlier.file.write_text(json.dumps(asdict(earlier)))
    assert not drifts(NAME)
    answered.file.unlink()
    assert drifts(NAME)  # a round that came before it does not answer it
    assert len(store.versions(NAME)) == 1
