"""The log of a bundle: sorted once on a machine, then the same pages for every process."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recray import paths
from recray.bundles import log as bundled
from recray.bundles.log import read_log
from recray.features.live_log import LiveEvent, LiveLog
from recray.features.log import EventLog
from recray.features.look_ups import LookUps
from recray.features.ranking import FEATURES, RankingQuery, compute
from recray.store import Store
from recray.store.bundle import Bundle
from tests.features.worlds import NUM_ITEMS, NUM_USERS, World, interesting_times, make_world

WORLD = make_world(3)


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bundle:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    monkeypatch.setattr(bundled, "LARGE_BYTES", 0)
    return Store().publish("shop", WORLD.log.save, model="popularity", config={})


def said(log: LookUps, world: World = WORLD) -> bytes:
    """Every feature of every user at moments of all kinds."""
    items_K = np.arange(NUM_ITEMS)
    scores_K, sources_K = np.zeros(NUM_ITEMS, np.float32), np.ones(NUM_ITEMS, np.uint8)
    queries = [
        RankingQuery(user, moment, items_K, scores_K, sources_K)
        for user in range(-1, NUM_USERS)
        for moment in interesting_times(world)
    ]
    return b"".join(compute(log, query, tuple(FEATURES)).tobytes() for query in queries)


def test_what_was_sorted_before_says_the_same(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_log(bundle)

    def never(*_: Any) -> EventLog:
        raise AssertionError("it was sorted already")

    monkeypatch.setattr(EventLog, "load", never)
    again = read_log(bundle)
    assert said(first) == said(again) == said(WORLD.log)
    assert (len(again), again.num_users, again.num_items, again.end) == (
        *(len(WORLD.log), NUM_USERS, NUM_ITEMS),
        WORLD.log.end,
    )
    (file,) = paths.mapped_dir().glob("*.safetensors")
    maps = Path("/proc/self/maps").read_text()
    assert str(file) in maps  # pages of the file, not a copy


def test_a_log_that_goes_on_does_so_from_pages(bundle: Bundle) -> None:
    """What is told since is added to both alike; the pages stay as they are."""
    (kept, plain) = (LiveLog(log) for log in (read_log(bundle), WORLD.log))
    events = [LiveEvent(n % NUM_USERS, n % NUM_ITEMS, 1.0, WORLD.log.end + 60 * n) for n in range(40)]
    for log in (kept, plain):
        log.add(events)
    assert said(kept) == said(plain)
    assert said(read_log(bundle)) == said(WORLD.log)
    assert said(read_log(bundle).with_items(WORLD.log.items, NUM_ITEMS)) == said(WORLD.log)


def test_without_a_place_it_is_sorted_in_memory(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    paths.mapped_dir().write_text("no folder")
    assert said(read_log(bundle)) == said(WORLD.log)
    assert "made in memory" in caplog.text


def test_what_nobody_used_for_a_week_is_removed(bundle: Bundle, tmp_path: Path) -> None:
    read_log(bundle)
    (old,) = paths.mapped_dir().glob("*.safetensors")
    other = Store().publish("other", make_world(4).log.save, model="popularity", config={})
    long_ago = time.time() - 8 * 86_400
    os.utime(old, (long_ago, long_ago))
    read_log(other)
    assert [file for file in paths.mapped_dir().glob("*.safetensors") if file == old] == []
    read_log(bundle)
    assert len(list(paths.mapped_dir().glob("*.safetensors"))) == 2


def test_a_small_log_leaves_no_file(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "LARGE_BYTES", 2**20)
    assert said(read_log(bundle)) == said(WORLD.log)
    assert not paths.mapped_dir().exists()
