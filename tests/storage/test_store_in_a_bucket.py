"""A store whose home is a bucket: versions and promotions of several machines at once."""

import subprocess
import sys
from pathlib import Path

import pytest

import recray.storage.bucket as bucket
from recray import paths
from recray.bundles.gate import gate_of
from recray.serve.follower import Follower
from recray.serve.versions import ServedBundles
from recray.storage import ChangedError
from recray.store import DamagedError, Store, StoreError
from recray.store.pruning import prune
from tests.storage.conftest import Machine
from tests.storage.s3_server import S3Server

# Each begins when the other stands, so that they are at it together.
TOGETHER = """
import sys, time
from recray.store import Store
store, me = Store(), sys.argv[1]
print("ready", flush=True)
sys.stdin.readline()
"""
PROMOTER = f"""{TOGETHER}
for version in range(1 + int(me), 11, 2):
    store.promote("app", version, by=me)
"""
PUBLISHER = f"""{TOGETHER}
for turn in "012":
    store.publish("app", lambda folder: (folder / "weights").write_text(me + turn), model="m", config={{}})
"""


def publish(text: str) -> int:
    def write(folder: Path) -> None:
        (folder / "weights").write_text(text)

    return Store().publish("app", write, model="m", config={}).manifest.version


def at_once(script: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two processes, each on a machine of its own."""
    both = []
    for number in "01":
        monkeypatch.setenv("RECRAY_CACHE", str(tmp_path / f"machine-{number}"))
        line = [sys.executable, "-c", script, number]
        both.append(
            subprocess.Popen(
                line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    for one in both:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in both:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    for one in both:
        assert one.communicate(timeout=60)[1] == ""
        assert one.returncode == 0


def test_a_version_is_the_same_on_every_machine(machine: Machine) -> None:
    assert publish("one") == 1
    Store().promote("app", 1)
    machine("there")
    bundle = Store().open("app")
    bundle.verify()
    assert bundle.path("weights").read_text() == "one"
    assert bundle.folder.is_relative_to(paths.home())
    assert Store().applications() == ["app"]
    assert [manifest.version for manifest in Store().versions("app")] == [1]
    with pytest.raises(StoreError, match="'app' has no version 2; versions: 1, production is 1"):
        Store().open("app", 2)


def test_a_list_of_versions_fetches_none_of_them(machine: Machine) -> None:
    publish("one")
    machine("there")
    assert [manifest.version for manifest in Store().versions("app")] == [1]
    assert not (paths.store_dir() / "app" / "versions").exists()


def test_what_is_pruned_is_gone_for_every_machine(machine: Machine) -> None:
    machine("here")
    for text in "abcd":
        publish(text)
    Store().promote("app", 2)
    machine("there")
    assert [one.version for one in prune(Store(), "app", 1)] == [1, 3]
    assert [one.version for one in Store().versions("app")] == [2, 4]
    machine("here")
    assert [one.version for one in Store().versions("app")] == [2, 4]
    assert publish("e") == 5


def test_of_promotions_at_once_none_is_lost(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number in range(10):
        publish(str(number))
    at_once(PROMOTER, monkeypatch, tmp_path)
    history = Store().history("app")
    assert sorted(move.version for move in history) == list(range(1, 11))
    for me, versions in (("0", [1, 3, 5, 7, 9]), ("1", [2, 4, 6, 8, 10])):
        assert [move.version for move in history if move.by == me] == versions
    assert Store().names("app") == {"production": history[-1].version}


def test_publishers_at_once_get_numbers_of_their_own(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at_once(PUBLISHER, monkeypatch, tmp_path)
    assert [manifest.version for manifest in Store().versions("app")] == [1, 2, 3, 4, 5, 6]
    weights = []
    for number in range(1, 7):
        bundle = Store().open("app", number)
        bundle.verify()
        weights.append(bundle.path("weights").read_text())
    assert sorted(weights) == ["00", "01", "02", "10", "11", "12"]


def test_a_write_whose_answer_was_lost_is_not_done_twice(s3: S3Server) -> None:
    bucket.put_if("store/app/names.json", b"first", None)
    bucket.put_if("store/app/names.json", b"first", None)  # as a client does that heard nothing
    tag = bucket.tag("store/app/names.json")
    bucket.put_if("store/app/names.json", b"second", tag)
    bucket.put_if("store/app/names.json", b"second", tag)
    with pytest.raises(ChangedError):
        bucket.put_if("store/app/names.json", b"third", tag)


def test_a_store_that_is_away_is_read_in_the_cache_and_not_changed(
    s3: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    publish("one")
    publish("two")
    Store().promote("app", 1)
    Store().open("app").verify()
    s3.go_away()
    try:
        assert Store().open("app").manifest.version == 1
        assert Store().history("app")[-1].version == 1
        with pytest.raises(StoreError, match="cannot be reached"):
            Store().promote("app", 2)
        with pytest.raises(StoreError, match="cannot be reached"):
            gate_of(Store(), "app")
        with pytest.raises(StoreError, match="cannot be reached"):
            publish("three")
    finally:
        s3.come_back()
    assert caplog.text.count("going on with what this machine has of it") == 1
    assert Store().names("app") == {"production": 1}
    assert [manifest.version for manifest in Store().versions("app")] == [1, 2]
    Store().promote("app", 2)
    assert Store().names("app") == {"production": 2}


def test_a_replica_follows_a_promotion_of_another_machine(s3: S3Server, machine: Machine) -> None:
    publish("one")
    publish("two")
    Store().promote("app", 1)
    machine("replica")

    def load(bundles: ServedBundles) -> str:
        return bundles.by_role["retriever"].path("weights").read_text()

    follower = Follower(Store(), "app", load)
    assert follower.current.content == "one"
    s3.go_away()
    try:
        follower.poll()
        assert Follower(Store(), "app", load).current.content == "one"  # one that starts meanwhile
    finally:
        s3.come_back()
    assert follower.current.content == "one"
    machine("operator")
    Store().promote("app", 2)
    machine("replica")
    while follower.current.content == "one":
        follower.poll()
    assert follower.current.content == "two"
    assert follower.problem is None


def test_after_a_damaged_version_the_one_before_serves(s3: S3Server, machine: Machine) -> None:
    for text in ("one", "two"):
        Store().promote("app", publish(text))
    key = next(key for key in bucket.keys_under("store/app/versions/2") if key.endswith("weights"))
    bucket.put(key, b"not it")
    machine("replica")
    with pytest.raises(DamagedError, match="store/app/versions/2: weights is damaged"):
        Store().open("app")
    follower = Follower(Store(), "app", lambda bundles: str(bundles.reference.version))
    assert follower.current.content == "1"


def test_a_journal_that_was_damaged_says_so(s3: S3Server) -> None:
    publish("one")
    bucket.put("store/app/names.json", b"{")
    with pytest.raises(DamagedError, match="damaged"):
        Store().names("app")
