"""The store under many processes and threads at once, and under ``kill -9``."""

import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from recray.store import Store

READERS_PER_PROCESS, READER_PROCESSES = 50, 4

PUBLISHER = """
import sys
from pathlib import Path
from recray.store import Store

def write(folder):
    (folder / "weights").write_text(sys.argv[2])

for _ in range(5):
    print(Store(Path(sys.argv[1])).publish("app", write, model="m", config={}).manifest.version)
"""

KILLED = """
import os, signal, sys
from pathlib import Path
from recray.store import Store

def write(folder):
    (folder / "weights").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

Store(Path(sys.argv[1])).publish("app", write, model="m", config={})
"""

# Each reader opens production again and again. The ranker's files hold its number and its
# retriever's must hold the same one: anything else is a mixture.
READER = """
import sys, threading, time
from pathlib import Path
from recray.store import Store

root, threads = Path(sys.argv[1]), int(sys.argv[2])
stop, seen, faults = Path(root / "stop"), set(), []

def read():
    store = Store(root)
    while not stop.exists():
        try:
            ranker = store.open("ranker")
            retriever = store.resolve(ranker.manifest.requires["retriever"])
            found = {ranker.path("trees").read_text(), ranker.path("log").read_text(),
                     retriever.path("index").read_text(), str(ranker.manifest.version)}
            ranker.verify(); retriever.verify()
            if len(found) != 1:
                faults.append(found)
            seen.add(ranker.manifest.version)
        except Exception as error:
            faults.append(repr(error))

workers = [threading.Thread(target=read) for _ in range(threads)]
[w.start() for w in workers]
print("ready", flush=True)
[w.join() for w in workers]
print(sorted(seen), faults[:3], flush=True)
"""


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)


def test_concurrent_publishers_get_distinct_versions(tmp_path: Path) -> None:
    publishers = [python(PUBLISHER, str(tmp_path), str(n)) for n in range(4)]
    numbers = [int(line) for p in publishers for line in p.communicate(timeout=60)[0].split()]
    assert sorted(numbers) == list(range(1, 21))
    store = Store(tmp_path)
    for manifest in store.versions("app"):
        store.open("app", manifest.version).verify()


def test_a_killed_publisher_leaves_nothing_visible_and_is_swept(tmp_path: Path) -> None:
    killed = python(KILLED, str(tmp_path))
    assert killed.wait(timeout=60) == -9
    store = Store(tmp_path)
    assert store.applications() == []
    assert len(list((tmp_path / "app").glob(".staging-*"))) == 1

    def write(folder: Path) -> None:
        (folder / "weights").write_text("whole")

    assert store.publish("app", write, model="m", config={}).manifest.version == 1
    assert list((tmp_path / "app").glob(".staging-*")) == []


def test_the_sweep_spares_publishers_at_work(tmp_path: Path) -> None:
    store = Store(tmp_path)
    inside, go_on = threading.Event(), threading.Event()

    def slow(folder: Path) -> None:
        inside.set()
        assert go_on.wait(30)
        (folder / "weights").write_text("slow")

    def quick(folder: Path) -> None:
        (folder / "weights").write_text("quick")

    worker = threading.Thread(target=lambda: store.publish("app", slow, model="m", config={}))
    worker.start()
    assert inside.wait(30)
    assert store.publish("app", quick, model="m", config={}).manifest.version == 1
    go_on.set()
    worker.join()
    assert store.open("app", 2).path("weights").read_text() == "slow"


@pytest.mark.slow
def test_200_concurrent_readers_never_see_a_mixture(tmp_path: Path) -> None:
    store = Store(tmp_path)
    versions = range(1, 7)
    for version in versions:
        retriever = store.publish(
            "retriever", partial(write_text, index=version), model="two_tower", config={}
        )
        store.publish(
            "ranker",
            partial(write_text, trees=version, log=version),
            model="gbdt",
            config={},
            requires={"retriever": retriever.reference},
        )
    store.promote("ranker", 1)
    readers = [python(READER, str(tmp_path), str(READERS_PER_PROCESS)) for _ in range(READER_PROCESSES)]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
    for version in versions:
        store.promote("ranker", version)
    for _ in versions[1:]:
        store.rollback("ranker")
    (tmp_path / "stop").touch()
    seen: set[int] = set()
    for reader in readers:
        numbers, faults = reader.communicate(timeout=120)[0].split("] ", 1)
        assert faults.strip() == "[]"
        seen |= {int(n) for n in numbers.strip("[").split(",")}
    assert len(seen) > 1, "the readers must have seen production move"


def write_text(folder: Path, **files: int) -> None:
    for name, number in files.items():
        (folder / name).write_text(str(number))
