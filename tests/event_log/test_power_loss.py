"""What was acknowledged outlives the power, a kill at any moment, and a full disk."""

import random
import sys
from pathlib import Path

import pytest

from benchmarks.events import full_disk, kills, power_cuts
from benchmarks.events_check import Lost
from benchmarks.power_loss import can_trace, traced

needs_strace = pytest.mark.skipif(
    not can_trace(), reason="no strace that may trace: install Debian's package"
)
NOTHING = Lost(0, 0, 0)

PROGRAM = """
import os, sys
folder = sys.argv[1]
for name in ("synced", "unsynced"):
    with open(f"{folder}/{name}", "wb") as file:
        file.write(name.encode() * 1000)
        file.flush()
        if name == "synced":
            os.fsync(file.fileno())
            os.fsync(os.open(folder, os.O_RDONLY))
    os.write(1, f"{name}\\n".encode())
os.rename(f"{folder}/unsynced", f"{folder}/renamed")
os.write(1, b"renamed\\n")
"""


@needs_strace
def test_a_disk_keeps_what_was_synced_and_of_the_rest_what_it_likes(tmp_path: Path) -> None:
    folder, rng = tmp_path / "folder", random.Random(0)
    folder.mkdir()
    trace = traced([sys.executable, "-c", PROGRAM, str(folder)], folder)
    seen = set[tuple[str, ...]]()
    contents = set[bytes]()
    for n, cut in enumerate(trace.moments(200, rng)):
        disk = tmp_path / str(n)
        disk.mkdir()
        trace.rebuild(cut, rng, disk)
        if trace.said_before(cut):
            assert (disk / "synced").read_bytes() == b"synced" * 1000
        seen.add(tuple(sorted(path.name for path in disk.iterdir())))
        contents |= {path.read_bytes() for path in disk.iterdir() if path.name != "synced"}
    assert seen >= {(), ("synced",), ("synced", "unsynced"), ("renamed", "synced")}
    assert {b"", b"unsynced" * 1000} < contents  # and torn ones


@pytest.mark.slow
@needs_strace
def test_the_power_goes() -> None:
    assert set(power_cuts(40, random.Random(1))) == {NOTHING}


@pytest.mark.slow
@pytest.mark.parametrize("compacting", [False, True])
def test_the_writer_is_killed(compacting: bool) -> None:
    assert set(kills(4, random.Random(2), compacting=compacting)) == {NOTHING}


@pytest.mark.slow
def test_a_full_disk_is_said_and_loses_nothing() -> None:
    try:
        found = full_disk()
    except RuntimeError:
        pytest.skip("nobody may mount a small disk here")
    assert found["goes_on"]
    assert "full" in found["reason"]
    assert found["kept"] == found["acknowledged"]
