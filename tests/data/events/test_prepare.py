"""``prepare`` and ``load_or_prepare``: idempotent, atomic, safe to kill and to run twice at once."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recray import paths
from recray.config import ConfigError
from recray.data.events.dataset import load_dataset
from recray.data.events.prepare import load_or_prepare, prepare
from recray.data.sources.published.movielens import MovieLens
from recray.data.sources.synthetic.source import Synthetic
from recray.data.sources.synthetic.truth import SyntheticConfig
from recray.data.sources.tables.interactions import InteractionTable
from recray.schema import DataError
from tests.data import made

CSV = "user_id,item_id,rating,timestamp\n1,10,4.0,100\n2,11,5.0,100\n1,11,3.0,102\n1,11,3.0,102\n3,12,3.0,1\n"


@pytest.fixture
def table(tmp_path: Path) -> InteractionTable:
    (tmp_path / "x.csv").write_text(CSV)
    return InteractionTable(path=tmp_path / "x.csv")


def test_the_folder_is_complete(table: InteractionTable, tmp_path: Path) -> None:
    dataset = prepare(table, tmp_path / "deep" / "out")
    assert {p.name for p in dataset.folder.iterdir()} == {
        "interactions.parquet",
        "users.parquet",
        "items.parquet",
        "quality.json",
        "quality.html",
        "manifest.json",
    }
    assert {p.name for p in dataset.folder.parent.iterdir()} == {"out", ".out.lock"}
    assert json.loads((dataset.folder / "quality.json").read_text())["rows"]["exact_duplicates"] == 1
    assert len(dataset) == 4


def test_preparing_again_only_loads(table: InteractionTable, tmp_path: Path) -> None:
    first = prepare(table, tmp_path / "out")
    times = {p: p.stat().st_mtime_ns for p in first.folder.iterdir()}
    again = prepare(table, tmp_path / "out")
    assert again.manifest == first.manifest
    assert {p: p.stat().st_mtime_ns for p in first.folder.iterdir()} == times


def test_a_read_only_home_gives_what_is_prepared(table: InteractionTable, tmp_path: Path) -> None:
    first = prepare(table, tmp_path / "home" / "out")
    (tmp_path / "home" / ".out.lock").unlink()
    before = (tmp_path / "home").stat().st_mtime_ns
    (tmp_path / "home").chmod(0o555)  # which does not hold root back, hence what follows
    try:
        assert prepare(table, tmp_path / "home" / "out").manifest == first.manifest
        assert [path.name for path in (tmp_path / "home").iterdir()] == ["out"]
        assert (tmp_path / "home").stat().st_mtime_ns == before
    finally:
        (tmp_path / "home").chmod(0o755)


def test_a_folder_with_other_options_is_refused(table: InteractionTable, tmp_path: Path) -> None:
    prepare(table, tmp_path / "out")
    with pytest.raises(DataError, match="k_core is 0, wanted 2"):
        prepare(table, tmp_path / "out", k_core=2)
    assert len(load_dataset(tmp_path / "out")) == 4


def test_a_folder_with_something_else_is_refused_and_left_alone(
    table: InteractionTable, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("do not delete")
    with pytest.raises(DataError, match="not a prepared data set"):
        prepare(table, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "do not delete"


def test_an_empty_folder_is_used(table: InteractionTable, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert len(prepare(table, tmp_path / "out")) == 4


def test_k_core_and_its_place_on_the_manifest(table: InteractionTable, tmp_path: Path) -> None:
    dataset = prepare(table, tmp_path / "out", k_core=1)
    assert (dataset.manifest.k_core, len(dataset)) == (1, 4)
    with pytest.raises(DataError, match="k_core=2"):
        prepare(table, tmp_path / "none", k_core=2)


def test_leftovers_of_a_killed_run_are_removed(table: InteractionTable, tmp_path: Path) -> None:
    leftover = tmp_path / ".out.preparing-abc"
    (leftover / "dataset").mkdir(parents=True)
    (leftover / "dataset" / "interactions.parquet").write_bytes(b"half")
    other = tmp_path / ".outer.preparing-abc"
    other.mkdir()
    assert len(prepare(table, tmp_path / "out")) == 4
    assert not leftover.exists()
    assert other.exists()  # belongs to another target


def test_ensure_prepares_a_named_data_set_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RECRAY_RAW_DIR", str(tmp_path / "raw"))
    (tmp_path / "raw").mkdir()
    made.ml_100k(tmp_path / "raw" / "ml-100k.zip")
    dataset = load_or_prepare("ml-100k")
    assert dataset.folder == paths.datasets_dir() / "ml-100k"
    (tmp_path / "raw" / "ml-100k.zip").unlink()  # the raw file is not needed any more
    assert load_or_prepare("ml-100k").hash == dataset.hash


def test_ensure_prepares_a_file_again_once_it_is_edited(
    table: InteractionTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    first = load_or_prepare(str(table.path))
    assert load_or_prepare(str(table.path)).folder == first.folder
    Path(table.path).write_text(CSV + "3,10,1.0,5\n")
    second = load_or_prepare(str(table.path))
    assert (first.name, len(first), len(second)) == (second.name, 4, 5)
    assert first.folder != second.folder


def test_ensure_refuses_what_it_cannot_find(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'ml-100k'"):
        load_or_prepare("ml-100")
    with pytest.raises(DataError, match="does not exist"):
        load_or_prepare(str(tmp_path / "none.csv"))
    with pytest.raises(DataError, match="no reader"):
        load_or_prepare(str(tmp_path / "x.docx"))


CHILD = """
import sys
from pathlib import Path
from recray.data.events.prepare import prepare
from recray.data.sources.published.movielens import MovieLens
print("ready", flush=True)
prepare(MovieLens(name="ml-1m", archive=Path(sys.argv[1])), Path(sys.argv[2]))
print("done", flush=True)
"""


def start_child(archive: Path, target: Path) -> "subprocess.Popen[str]":
    """Returns when the child has imported everything and begins to prepare."""
    command = [sys.executable, "-c", CHILD, str(archive), str(target)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def large_archive(path: Path) -> Path:
    """Large enough that each step of ``prepare`` takes noticeable time."""
    rows = (f"{n % 997 + 1}::{n * n % 1_009 + 1}::{n % 5 + 1}::{978_300_000 + n}" for n in range(150_000))
    return made.ml_1m(path, ratings="\n".join(rows) + "\n")


def test_two_at_once_both_end_with_the_same_data_set(tmp_path: Path) -> None:
    archive = large_archive(tmp_path / "ml-1m.zip")
    children = [start_child(archive, tmp_path / "out") for _ in range(2)]
    assert [child.communicate()[0] for child in children] == ["done\n", "done\n"]
    assert {p.name for p in tmp_path.iterdir()} == {"ml-1m.zip", "out", ".out.lock"}
    assert len(load_dataset(tmp_path / "out")) == 150_000


@pytest.mark.slow
def test_killed_at_random_points_the_next_run_is_correct(tmp_path: Path) -> None:
    archive = large_archive(tmp_path / "ml-1m.zip")
    child = start_child(archive, tmp_path / "whole")
    started = time.monotonic()
    assert child.communicate()[0] == "done\n"
    duration_s = time.monotonic() - started
    expected = load_dataset(tmp_path / "whole").hash
    rng = random.Random(0)
    kills = 0
    while kills < 20:
        target = tmp_path / f"out-{kills % 3}"  # a target meets the leftovers of earlier kills
        child = start_child(archive, target)
        time.sleep(rng.uniform(0, duration_s))
        child.send_signal(signal.SIGKILL)
        if child.wait() == -signal.SIGKILL:
            kills += 1
        else:
            duration_s *= 0.8  # it was through before the signal: aim earlier
        if not target.exists() and kills % 2:
            prepare(MovieLens(name="ml-1m", archive=archive), target)
        if target.exists():
            assert load_dataset(target).hash == expected  # complete or absent, never half
            shutil.rmtree(target)
    for n in range(3):
        assert prepare(MovieLens(name="ml-1m", archive=archive), tmp_path / f"out-{n}").hash == expected
    assert not list(tmp_path.glob(".*preparing*"))


def test_synthetic_data_with_another_config_is_another_data_set(tmp_path: Path) -> None:
    small = SyntheticConfig(num_users=20, num_items=60, events_per_user=8, days=30)
    prepare(Synthetic(config=small), tmp_path / "out")
    with pytest.raises(DataError, match="holds another data set"):
        prepare(Synthetic(), tmp_path / "out")
