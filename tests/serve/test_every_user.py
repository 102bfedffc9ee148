"""Every user of ml-100k, and strangers, asked while things happen: nothing seen and nothing that is gone."""

import time
from pathlib import Path

import numpy as np
import pytest

from recray.bundles.log import read_log
from recray.data.events.split_data import DataConfig
from recray.models.gbdt import GBDTConfig
from recray.pipelines.train import train
from recray.recipes.pairs import TWO_TOWER, TwoTowerRun
from recray.recipes.ranker import GBDT_RANKER, GBDTRankerRun
from recray.serve.events.hub import LocalHub
from recray.serve.events.told import Availability, Content, Event
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.store import Store
from recray.train.context import LaunchConfig
from recray.train.loop import LoopConfig
from tests.conftest import raw_file
from tests.serve.test_events import eventually

LOCAL = LaunchConfig(where="local")
STRANGERS = [f"stranger {n}" for n in range(50)]
FAR = 2**33  # unix seconds, after everything


@pytest.mark.data
@pytest.mark.slow
def test_no_user_is_shown_what_was_seen_or_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw_file("ml-100k.zip")
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    store, data = Store(), DataConfig(dataset="ml-100k", split="global-time")
    train(TWO_TOWER, TwoTowerRun(data=data, loop=LoopConfig(epochs=2)), LOCAL, store)
    run = GBDTRankerRun(data=data, model=GBDTConfig(rounds=20))
    ranker = train(GBDT_RANKER, run, LOCAL, store).bundle
    store.promote(ranker.manifest.name, ranker.manifest.version)
    hub, rng, now = LocalHub(), np.random.default_rng(0), int(time.time())
    service = FusedService(ServiceConfig(application=ranker.manifest.name), hub)
    hub.append(
        [Content(f"new {n}", {"genres": ["Drama", "War"][: 1 + n % 2], "year": 1997}) for n in range(40)]
    )
    service._feed.look()
    catalogue, log = service.growing.now.catalogue, read_log(ranker)
    items, users = [*catalogue.item_rows], catalogue.user_rows
    assert len(users) == 943
    assert len(items) == 1682 + 40
    gone = set(rng.choice(items, 300, replace=False))
    since = {user: set(rng.choice(items, 5, replace=False)) for user in [*users, *STRANGERS]}
    hub.append([Availability(item, available=False) for item in gone])
    hub.append([Event(user, item, 4.0, now - 3) for user, met in since.items() for item in met])
    hub.append(
        [Content("new 40", {"genres": ["Drama"], "year": 1998})]
    )  # all of it is known over longer rows
    eventually(lambda: "new 40" in service.catalogue.item_rows)  # a pause follows what was taken in
    pipeline, shown_to = service.growing.now, dict[str, int]()
    assert len(pipeline.catalogue.item_rows) == 1682 + 41
    for user, met in since.items():
        row = users.get(user)
        past = log.seen_before(row, FAR).tolist() if row is not None else []
        hidden = {items[item] for item in past} | met | gone
        for k in (10, 200):
            answer = pipeline.recommend(RecommendRequest(user_id=user, k=k))
            shown = {item["item_id"] for item in answer["items"]}
            for item in shown - set(items[:1682]):
                shown_to[item] = shown_to.get(item, 0) + 1
            assert len(shown) == len(answer["items"]) == min(k, len(items) - len(hidden))
            assert not shown & hidden
            assert answer["skipped"] == []
            assert (answer["age_s"] or 0) < 3_600  # the log goes on
    assert len(shown_to) > 20  # new ones among them
    service.stop()
