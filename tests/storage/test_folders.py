"""Folders of a home that is a bucket: they appear whole, once, and on every machine."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import recray.storage.bucket as bucket
from recray import folders, paths, storage
from recray.data.events.prepare import prepare
from recray.data.sources.tables.interactions import InteractionTable
from recray.schema import DataError
from recray.store import Store
from tests.storage.conftest import Machine
from tests.storage.s3_server import S3Server

CSV = "user_id,item_id,rating,timestamp\n1,10,4.0,100\n2,11,5.0,100\n1,11,3.0,102\n3,12,3.0,1\n"

BUILDER = """
import os, sys, time
from recray import folders, paths

def build(target, scratch):
    for number in range(4):
        (target / f"part-{number}").write_text(sys.argv[1])
    time.sleep(float(sys.argv[2]))  # so that both are at it

folder = paths.datasets_dir() / "made"
folders.build_once(folder, lambda _: True, build)
print({path.read_text() for path in folder.iterdir()})
"""

PUSHER = """
import sys
from recray import folders, paths
from recray.store import Store

number = int(sys.argv[1])

def write(folder):
    for part in range(20):
        (folder / f"part-{part}").write_bytes(bytes([number]) * 50_000)

print("begins", flush=True)
for place in (paths.datasets_dir() / f"made-{number}", paths.runs_dir() / "run" / f"checkpoint_{number:06d}"):
    staged = place.parent / f".staged-{number}"
    staged.mkdir(parents=True)
    write(staged)
    folders.put(staged, place)
Store().publish("app", write, model="m", config={})
"""


@pytest.fixture
def table(tmp_path: Path) -> InteractionTable:
    (tmp_path / "x.csv").write_text(CSV)
    return InteractionTable(path=tmp_path / "x.csv")


def test_what_one_machine_prepared_another_only_fetches(
    machine: Machine, table: InteractionTable, caplog: pytest.LogCaptureFixture
) -> None:
    made = prepare(table, paths.datasets_dir() / "x")
    machine("there")
    with caplog.at_level("INFO"):
        found = prepare(table, paths.datasets_dir() / "x")
    assert "reading" not in caplog.text
    assert found.folder != made.folder
    assert found.manifest == made.manifest
    assert storage.names_in(paths.datasets_dir()) == ["x"]


def test_prepared_data_is_opened_while_the_bucket_is_away(s3: S3Server, table: InteractionTable) -> None:
    made = prepare(table, paths.datasets_dir() / "x")
    s3.go_away()
    try:
        assert prepare(table, paths.datasets_dir() / "x").manifest == made.manifest
        with pytest.raises(DataError, match="cannot be reached") as raised:
            prepare(table, paths.datasets_dir() / "y")
    finally:
        s3.come_back()
    assert "\n" not in str(raised.value)
    assert not (paths.datasets_dir() / "y").exists()


def test_of_two_machines_that_build_at_once_the_first_is_right(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    builders = []
    for name in "ab":
        monkeypatch.setenv("RECRAY_CACHE", str(tmp_path / name))
        script = [sys.executable, "-c", BUILDER, name, "0.5"]
        builders.append(subprocess.Popen(script, stdout=subprocess.PIPE, text=True))
    said = [builder.communicate(timeout=60)[0] for builder in builders]
    assert said[0] == said[1]
    assert said[0].strip() in ("{'a'}", "{'b'}")
    uploads = {key.split("/")[2] for key in bucket.keys_under("datasets/made")}
    assert len(uploads) == 1


@pytest.mark.slow
def test_of_uploads_that_are_killed_nothing_is_ever_seen(s3: S3Server, machine: Machine) -> None:
    chance = random.Random(7)
    for number in range(20):
        machine(f"killed-{number}")
        line = [sys.executable, "-c", PUSHER, str(number)]
        pusher = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        assert pusher.stdout is not None
        assert pusher.stdout.readline() == "begins\n"
        if number < 18:
            time.sleep(chance.uniform(0.0, 0.8))
            pusher.kill()
        pusher.communicate()
    machine("reads")
    found: dict[str, int] = {}
    for folder in (paths.datasets_dir(), paths.runs_dir() / "run", paths.store_dir() / "app" / "versions"):
        assert not folder.exists()
        for name in storage.names_in(folder):
            assert folders.fetch(folder / name)
            parts = [path.read_bytes() for path in (folder / name).glob("part-*")]
            assert len(parts) == 20
            assert set(parts) == {parts[0]}
            found[folder.name] = found.get(folder.name, 0) + 1
    versions = Store().versions("app")
    for manifest in versions:
        Store().open("app", manifest.version).verify()
    assert [manifest.version for manifest in versions] == list(range(1, len(versions) + 1))
    uploads = {key.rpartition("/.up-")[0] for key in bucket.keys_under("") if "/.up-" in key}
    half = [key for key in uploads if not folders.fetch(paths.home() / key)]
    assert half  # some were killed in the middle
    assert found  # and some came through


def test_the_leftovers_of_a_killed_upload_go_with_the_next(s3: S3Server, tmp_path: Path) -> None:
    bucket.put("datasets/made/.up-dead/part", b"half")
    bucket.put("datasets/made/content.whole.json", b"{}")  # of a folder inside it
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "part").write_bytes(b"whole")
    assert storage.push(staged, paths.datasets_dir() / "made")
    left = bucket.keys_under("datasets/made")
    assert not any(".up-dead" in key for key in left)
    assert "datasets/made/content.whole.json" in left
    assert not storage.push(staged, paths.datasets_dir() / "made")
    assert bucket.keys_under("datasets/made") == left


def test_a_damaged_object_is_named(machine: Machine, table: InteractionTable) -> None:
    prepare(table, paths.datasets_dir() / "x")
    key = next(key for key in bucket.keys_under("datasets/x") if key.endswith("items.parquet"))
    bucket.put(key, b"something else")
    machine("there")
    with pytest.raises(DataError, match=r"datasets/x: items.parquet is damaged: delete s3://.*x.whole.json"):
        prepare(table, paths.datasets_dir() / "x")
    assert not (paths.datasets_dir() / "x").exists()


def test_what_is_removed_is_gone_everywhere(machine: Machine, tmp_path: Path) -> None:
    folder = paths.runs_dir() / "run" / "checkpoint_000000"
    staged = folder.parent / ".staged"
    staged.mkdir(parents=True)
    (staged / "part").write_bytes(b"x")
    folders.put(staged, folder)
    folders.remove(folder)
    assert bucket.keys_under("runs") == []
    assert not folders.fetch(folder)


def test_other_folders_of_the_home_stay_on_their_machine(s3: S3Server) -> None:
    assert storage.key_of(paths.events_dir() / "shop") is None
    assert storage.key_of(paths.raw_dirs()[-1]) is None
    assert storage.key_of(Path("/somewhere/store")) is None
    assert storage.key_of(paths.store_dir() / "shop" / "names.json") == "store/shop/names.json"
