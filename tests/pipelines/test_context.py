"""What a request says of itself, from the answers that were logged to a ranker that goes by it."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recray import paths
from recray.config import ConfigError, override
from recray.data.events.split_data import DataConfig
from recray.data.logged.rows import LoggedConfig, logged_lists
from recray.event_log.records import Event
from recray.event_log.tables import encoded
from recray.event_log.writer import LogWriter
from recray.features.candidates import CandidateConfig
from recray.models.gbdt import GBDTConfig
from recray.pipelines.feedback import FeedbackConfig, build_feedback
from recray.pipelines.train import train
from recray.recipes import RECIPES, run_for
from recray.recipes.ranker import GBDT_RANKER, GBDTRankerRun
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.pipeline import Pipeline
from recray.serve.traffic.recorder import Given, exposure_of
from recray.serve.versions import open_served
from recray.store import Store
from recray.train.context import LaunchConfig
from tests.pipelines.tiny import NUM_ITEMS, NUM_USERS, tiny_events

LOCAL = LaunchConfig(where="local")
NAME, BEGIN = "tiny-ranker", 1_700_000_000
FIELDS = ("purpose=gift", "hour")


def asked(user: int, at: int, purpose: str | None) -> RecommendRequest:
    context = {"purpose": purpose, "hour": 12} if purpose else {}
    return RecommendRequest(user_id=f"u{user}", k=NUM_ITEMS, request_time=at, context=context)


def log_a_day(pipeline: Pipeline) -> None:
    """Two answers to each user, as they are served: for itself it takes what it likes, as a gift the rest."""
    log, rng = LogWriter(paths.events_dir() / NAME), np.random.default_rng(0)
    for n in range(2 * NUM_USERS):
        user, at, purpose = n % NUM_USERS, BEGIN + 100 * n, "gift" if n < NUM_USERS else "own"
        request = asked(user, at, purpose)
        exposure = exposure_of(Given(f"r{n}", request, pipeline.made(request), float(at), 1.0))
        log.expose([encoded(exposure)])
        wanted = [one.item_id for one in exposure.items if is_liked(user, one.item_id) == (purpose == "own")]
        clicked = rng.choice(wanted, 3, replace=False)
        log.record([Event(f"u{user}", i, 1.0, at + 5, f"{n}-{i}", "click", f"r{n}", at + 5) for i in clicked])
    log.close()


def is_liked(user: int, item_id: str) -> bool:
    return int(item_id[1:]) % 2 == user % 2


def share_liked(pipeline: Pipeline, purpose: str | None) -> float:
    """Of the first ten items of everybody."""
    now = BEGIN + 100_000
    lists = [pipeline.recommend(asked(user, now, purpose))["items"][:10] for user in range(20)]
    return float(
        np.mean([is_liked(user, item["item_id"]) for user, each in enumerate(lists) for item in each])
    )


def test_a_ranker_learns_from_logged_lists_what_a_request_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    store, data = Store(), DataConfig(dataset=f"{tiny_events(tmp_path)}?name=tiny")
    run = override(run_for(RECIPES["item_knn"], data.dataset), {"data": data})
    retriever = train(RECIPES["item_knn"], run, LOCAL, store).bundle
    without = GBDTRankerRun(
        data=data,
        retriever=retriever.manifest.name,
        candidates=CandidateConfig(retrieved=30, popular=NUM_ITEMS),
        model=GBDTConfig(rounds=5),
    )
    train(GBDT_RANKER, without, LOCAL, store)
    log_a_day(Pipeline(open_served(store, NAME, 1)))
    made = build_feedback(NAME, data.dataset, FeedbackConfig(), until=BEGIN + 50_000.0)
    run = override(without, {"logged.folder": str(made.folder), "logged.alone": True, "context": FIELDS})
    assert train(GBDT_RANKER, run, LOCAL, store).bundle.manifest.version == 2
    pipeline = Pipeline(open_served(store, NAME, 2))
    assert share_liked(pipeline, "own") > 0.9
    assert share_liked(pipeline, "gift") < 0.1
    answer = pipeline.recommend(RecommendRequest(user_id="u1", k=5, explain=True, context={"purpose": "own"}))
    features = answer["items"][0]["features"]
    assert features["context.purpose=gift"] == 0.0
    assert repr(features["context.hour"]) == "nan"  # it says none
    assert "genre_affinity" in features  # those of the catalogue as before
    # What is learnt from is what would have been served.
    users, items = (
        pl.Series(list(rows)) for rows in (pipeline.catalogue.user_rows, pipeline.catalogue.item_rows)
    )
    names = ("context.purpose=gift", "context.hour", "genre_affinity")
    learnt = logged_lists(LoggedConfig(folder=str(made.folder)), names, users, items).examples
    first = pipeline.made(asked(0, BEGIN, "gift"))
    assert first.went_by is not None
    at = [first.went_by.feature_names.index(name) for name in names]
    served = dict(
        zip([i["item_id"] for i in first.answer["items"]], first.went_by.features_SF[:, at], strict=True)
    )
    rows = np.flatnonzero(learnt.query_ids_N == 0)
    assert len(rows) == len(served) > 80
    for row in rows:
        np.testing.assert_array_equal(learnt.features_NF[row], served[items[int(learnt.item_ids_N[row])]])


def test_without_lists_that_were_shown_nothing_says_a_context() -> None:
    with pytest.raises(ConfigError, match="context: only lists that were shown say purpose=gift"):
        GBDTRankerRun(context=("purpose=gift",))
