"""What is not in partitions yet, of one node: an SQLite file in WAL mode, which one process writes.

``synchronous=FULL``: a commit has reached the disk when it returns. ``secure_delete``: what is deleted is
overwritten. Sequence numbers are given once, to events and to answers each, and never again.
"""

import fcntl
import json
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recray.event_log.records import Event, Sent
from recray.event_log.tables import Answer, Table
from recray.folders import fsync
from recray.schema import DataError

HOUR_S = 3600
LIVE = "live"

_SCHEMA = """
create table if not exists events (
    seq integer primary key autoincrement, hour integer not null, user_id text, item_id text not null,
    value real not null, at real not null, event_id text not null, kind text not null, request_id text,
    received real not null);
create table if not exists shown (
    seq integer primary key autoincrement, hour integer not null, request_id text not null, at real not null,
    user_id text, body blob not null, feature_names text not null, features blob not null);
create table if not exists ids (event_id text primary key, at real not null) without rowid;
create table if not exists facts (key text primary key, at real not null, body text not null) without rowid;
create table if not exists sent (sender text primary key, number integer not null, at real not null)
    without rowid;
create table if not exists cut (name text primary key, upto integer not null) without rowid;
"""
_COLUMNS = {"events": Event._fields, "shown": Answer._fields}
_INSERT = {
    table: f"insert into {table} (hour, {', '.join(columns)}) values (?{', ?' * len(columns)})"
    for table, columns in _COLUMNS.items()
}


def live_file(folder: Path, node: str) -> Path:
    return folder / LIVE / f"{node}.sqlite"


def live_files(folder: Path) -> list[Path]:
    """Of all nodes that ever wrote."""
    return sorted((folder / LIVE).glob("*.sqlite"))


class HeldError(DataError):
    """Another process writes this node's log."""


@contextmanager
def held(folder: Path, node: str) -> Iterator[None]:
    """The right to write a node's file, until the end or the death of this process.

    Raises:
        HeldError: another process has it.
    """
    file = live_file(folder, node)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeldError(f"{file} is being written by another process: a node has one writer") from None
        yield


class LiveFile:
    """A connection; belongs to one thread."""

    def __init__(self, folder: Path, node: str) -> None:
        """Of the process that holds the node's file.

        Raises:
            DataError: it is damaged, or the disk is full.
        """
        self._file = live_file(folder, node)
        try:
            self._connection = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)
            for setting in ("journal_mode=wal", "synchronous=full", "secure_delete=on"):
                self._connection.execute(f"pragma {setting}")
            self._connection.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise DataError(
                f"{self._file} cannot be opened ({error}): make room, or move it away with its -wal"
            ) from error
        for path in (self._file, self._file.parent, folder):
            fsync(path)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """All of it or nothing; on the disk at the end.

        Raises:
            sqlite3.Error: nothing of it is kept.
        """
        self._connection.execute("begin immediate")
        try:
            yield
            self._connection.execute("commit")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            raise

    def add_events(self, events: Iterable[Event]) -> int:
        """Those whose id is not known; returns how many they were."""
        run, taken, now = self._connection.execute, 0, time.time()
        for event in events:
            if event.event_id:
                is_new = run("insert or ignore into ids values (?, ?)", (event.event_id, now)).rowcount > 0
            else:
                is_new, event = True, event._replace(event_id=uuid.uuid4().hex)
            if is_new:
                run(_INSERT["events"], (int(now // HOUR_S), *event))
                taken += 1
        return taken

    def add_answers(self, answers: Sequence[Answer]) -> int:
        """Returns how many they were."""
        hour = int(time.time() // HOUR_S)
        self._connection.executemany(_INSERT["shown"], ((hour, *answer) for answer in answers))
        return len(answers)

    def is_new(self, sent: Sent) -> bool:
        """Whether a batch is not there yet; from now on it is."""
        changed = self._connection.execute(
            "insert into sent values (?, ?, ?) on conflict (sender) do update "
            "set number = excluded.number, at = excluded.at where number < excluded.number",
            (*sent, time.time()),
        )
        return changed.rowcount > 0

    def put_fact(self, key: str, at: float, body: str) -> None:
        """What is so until another one of its key is put."""
        self._connection.execute("insert or replace into facts values (?, ?, ?)", (key, at, body))

    def cut(self, table: Table) -> int:
        """The last row that was taken out because a partition has it."""
        row = self._connection.execute("select upto from cut where name = ?", (table,)).fetchone()
        return row[0] if row else 0

    def take_out(self, table: Table, upto: int, most: int) -> bool:
        """Deletes rows that a partition has, at most so many; whether that was all of them."""
        run = self._connection.execute
        run(
            f"delete from {table} where seq in (select seq from {table} where seq <= ? order by seq limit ?)",
            (upto, most),
        )
        if run(f"select 1 from {table} where seq <= ? limit 1", (upto,)).fetchone():
            return False
        run("insert or replace into cut values (?, ?)", (table, upto))
        return True

    def forget_ids(self, before: float) -> None:
        """What came earlier may be told again."""
        self._connection.execute("delete from ids where at < ?", (before,))
        self._connection.execute("delete from sent where at < ?", (before,))

    def answers_of(self, user_id: str) -> list[str]:
        """Ids of the answers that it was given."""
        found = self._connection.execute("select request_id from shown where user_id = ?", (user_id,))
        return [row[0] for row in found]

    def claims_of(self, user_id: str) -> set[str]:
        """Ids of the answers that its events claim."""
        text = "select request_id from events where user_id = ? and request_id not null"
        return {row[0] for row in self._connection.execute(text, (user_id,))}

    def nobodys(self) -> set[str]:
        """Ids of the answers to nobody in particular."""
        found = self._connection.execute("select request_id from shown where user_id is null")
        return {row[0] for row in found}

    def users(self) -> set[str]:
        found = self._connection.execute(
            "select user_id from shown where user_id not null union "
            "select user_id from events where user_id not null"
        )
        return {row[0] for row in found}

    def named(self) -> set[str]:
        """Ids of events that are known, and of the answers that they claim."""
        found = self._connection.execute(
            "select request_id from events where request_id not null union select event_id from ids"
        )
        return {row[0] for row in found}

    def forget_events(self, user_id: str | None, answers: Sequence[str], event_ids: Sequence[str]) -> None:
        """Deletes a user's events, those that claim these answers, and what is known of these ids."""
        run = self._connection.execute
        which = (
            "select event_id from events where user_id = ? or request_id in (select value from json_each(?))"
        )
        values = user_id, json.dumps(answers)
        run(f"delete from ids where event_id in ({which})", values)
        run("delete from ids where event_id in (select value from json_each(?))", (json.dumps(event_ids),))
        run(f"delete from events where event_id in ({which})", values)

    def forget_answers(self, user_id: str | None, claimed: Sequence[str]) -> None:
        """A user's, and of these those to nobody in particular."""
        which = "user_id = ? or (user_id is null and request_id in (select value from json_each(?)))"
        self._connection.execute(f"delete from shown where {which}", (user_id, json.dumps(claimed)))

    def tidy(self) -> None:
        """Not a byte of what was deleted is left in the file or beside it, also when the power goes now."""
        self._connection.execute("vacuum")
        self._connection.execute("pragma wal_checkpoint(truncate)")
        fsync(self._file.with_name(f"{self._file.name}-wal"))  # SQLite leaves that it was cut to later

    def close(self) -> None:
        self._connection.close()


class LiveRows:
    """What one node's file holds at one moment, while others write it and take rows out."""

    def __init__(self, file: Path) -> None:
        """
        Raises:
            DataError: it is damaged.
        """
        self._file = file
        self._connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, isolation_level=None)
        self._connection.execute("begin")
        self.rows("events", after=2**62)  # the moment is that of the first read

    def rows(self, table: Table, after: int = 0, most: int = -1) -> list[tuple[Any, ...]]:
        """``seq`` and the record's fields, in order."""
        columns = ", ".join(("seq", *_COLUMNS[table]))
        text = f"select {columns} from {table} where seq > ? order by seq limit ?"
        return self._read(text, (after, most))

    def runs(self, table: Table, after: int) -> list[tuple[int, int, int]]:
        """Hour, first and last ``seq`` of the rows after one, cut wherever the hour changes."""
        hours = self._read(f"select seq, hour from {table} where seq > ? order by seq", (after,))
        runs: list[tuple[int, int, int]] = []
        for seq, hour in hours:
            if runs and runs[-1][0] == hour:
                runs[-1] = hour, runs[-1][1], seq
            else:
                runs.append((hour, seq, seq))
        return runs

    def between(self, table: Table, first: int, last: int) -> list[tuple[Any, ...]]:
        columns = ", ".join(("seq", *_COLUMNS[table]))
        return self._read(
            f"select {columns} from {table} where seq between ? and ? order by seq", (first, last)
        )

    def facts(self) -> list[tuple[str, float, str]]:
        """Key, time and body, oldest first."""
        return self._read("select key, at, body from facts order by at", ())

    def _read(self, text: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(text, values).fetchall()
        except sqlite3.Error as error:
            raise DataError(f"{self._file} cannot be read: {error}") from error

    def close(self) -> None:
        self._connection.close()
