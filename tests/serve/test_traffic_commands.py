"""``recray traffic`` and its like where the journal is damaged: one sentence with the way out."""

import random
import re
from collections.abc import Callable

import pytest

from recray.cli import main
from recray.cli.catalogue import versions
from recray.cli.traffic import arms, journal
from recray.folders import write_whole
from recray.serve.traffic.operations import Operations
from recray.store import Store
from recray.store.journal import JOURNAL_FILE
from recray.store.manifest import DamagedError
from tests.serve.world import APPLICATION
from tests.store.test_traffic import damaged

Reader = Callable[[str], object]


@pytest.fixture
def store(own_store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """With an experiment that is paused; the commands find it."""
    operations = Operations(own_store, APPLICATION)
    operations.canary(2, ramp="30%", force=True)
    operations.turn("pause", "canary-2", why="lunch")
    monkeypatch.setattr("recray.store.store.paths.store_dir", lambda: own_store.root)
    return own_store


def said(read: Reader) -> object:
    """What it gives, or why it gives nothing."""
    try:
        return read(APPLICATION)
    except DamagedError as error:
        return error


def test_whoever_reads_a_damaged_journal_says_so_and_nothing_else_happens(store: Store) -> None:
    path, rng = store.root / APPLICATION / JOURNAL_FILE, random.Random(0)
    whole = path.read_bytes()
    # A journal of before 0.9 has no digest: there the entries themselves must be looked at.
    before = re.sub(rb'"sha256": "\w+"', b'"sha256": ""', whole)
    readers: tuple[Reader, ...] = (arms, journal, versions)
    right = {read: read(APPLICATION) for read in readers}
    complaints = 0
    for n in range(1_000):
        write_whole(path, damaged(before if n % 2 else whole, rng))
        read = readers[n % len(readers)]
        found = said(read)
        if isinstance(found, DamagedError):
            complaints += 1
            text = str(found)
            assert text.startswith(f"{path}: damaged (")
            assert text.endswith(f"`recray promote {APPLICATION} VERSION`")
            assert text.isprintable()
            assert len(text) < len(str(path)) + 400
        elif n % 2 == 0:
            assert found == right[read], "a digest tells what was changed"
    assert complaints > 800


COMMANDS = (
    *(["traffic"], ["traffic", "--journal"], ["versions"], ["promote", "2"], ["rollback"], ["prune"]),
    *(["canary", "2"], ["ab", "old", "1", "new", "2"], ["interleave", "2"], ["shadow", "2"]),
    *(["pause", "canary-2"], ["resume", "canary-2"], ["stop", "canary-2"], ["refuse", "canary-2"]),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_says_one_sentence(
    words: list[str], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    path = store.root / APPLICATION / JOURNAL_FILE
    path.write_bytes(damage := path.read_bytes()[:-20])
    options = [word for word in words[1:] if word.startswith("--")]
    assert main([words[0], APPLICATION, *(word for word in words[1:] if word not in options), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "names.json: damaged (" in line
    assert "move it away, and what is to be served is said again by `recray promote" in line
    assert path.read_bytes() == damage
