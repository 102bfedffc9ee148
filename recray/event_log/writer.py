"""Takes down what happens at one node: whoever hands something over goes on when it is on the disk.

Those who wait at the same time share one commit: a disk that syncs 300 times a second takes thousands of
events.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from recray.event_log.compaction import compact
from recray.event_log.forgetting import forget, go_on
from recray.event_log.idle import idle_nodes
from recray.event_log.live import LiveFile, held
from recray.event_log.records import Event, Fact, Recorded, Sent, Telling
from recray.event_log.sinks import Sending, Sink
from recray.event_log.tables import Answer
from recray.schema import DataError

log = logging.getLogger(__name__)

MOST_WAITING = 20_000  # events and answers that wait for the disk; more are refused at once
MOST_OF_ONE_COMMIT = 2_000
COMPACT_EVERY_S = 60.0

T = TypeVar("T")


class LogBusyError(Exception):
    """More waits for the disk than should: nothing was taken; it may be sent again in a while."""


class LogFailedError(Exception):
    """The disk did not take it, such as a full one: nothing of it was kept."""


class LogNumbers(NamedTuple):
    """Since the process began."""

    events: int
    repeated: int  # events
    answers: int
    commits: int
    commit_s: float  # all commits together
    waiting: int  # now
    problem: str | None  # of the last commit, the last compaction, or a sink


class _Task(NamedTuple):
    work: Callable[[LiveFile], Any]
    size: int
    alone: bool
    done: Future[Any]


class LogWriter:
    """The log of one node. Thread-safe; one process at a time.

    Args:
        folder: of the application.
        node: names what this process writes; other nodes write beside it.
        keep_days: partitions that are older are deleted; 0: none is.
        compact_every_s: how often live rows move into partitions.
        sinks: who else is given what is written; see ``sinks``.
    """

    def __init__(
        self,
        folder: Path,
        node: str = "local",
        *,
        keep_days: int = 0,
        compact_every_s: float = COMPACT_EVERY_S,
        most_waiting: int = MOST_WAITING,
        sinks: Sequence[Sink] = (),
    ) -> None:
        """
        Raises:
            HeldError: another process writes this node's log.
            DataError: what there is of it is damaged.
        """
        self.folder, self.node = folder, node
        self._keep_days, self._every_s, self._most = keep_days, compact_every_s, most_waiting
        self._held = ExitStack()
        self._held.enter_context(held(folder, node))
        self._live = LiveFile(folder, node)
        self._tasks: deque[_Task] = deque()
        self._come, self._is_closed = threading.Condition(), False
        self._waiting = self._events = self._repeated = self._answers = self._commits = 0
        self._commit_s = 0.0
        self._failed: str | None = None
        self._not_compacted: str | None = None
        self._stop = threading.Event()
        self._writer = threading.Thread(target=self._write_on, name="write-events", daemon=True)
        self._tender = threading.Thread(target=self._tend, name="compact-events", daemon=True)
        self._sending = Sending(folder, node, sinks)
        self._writer.start()
        self._tender.start()

    def record(self, events: Sequence[Event], facts: Sequence[Fact] = ()) -> Recorded:
        """Returns when they are on the disk, all in one commit; those whose id is known are not taken again.

        Raises:
            LogBusyError: at once. LogFailedError: nothing was kept.
        """

        (recorded,) = self.record_each([Telling(events, facts)])
        if isinstance(recorded, Exception):
            raise recorded
        return recorded

    def record_each(self, tellings: Sequence[Telling]) -> list[Recorded | LogBusyError | LogFailedError]:
        """As ``record`` each, in as few commits as can be; an error stands in the place of what was not
        kept."""
        begun = [self._add(telling) for telling in tellings]
        return [self._recorded(telling, added) for telling, added in zip(tellings, begun, strict=True)]

    def _add(self, telling: Telling) -> "Future[int] | LogBusyError":
        def add(live: LiveFile) -> int:
            for fact in telling.facts:
                live.put_fact(*fact)
            return live.add_events(telling.events)

        try:
            return self._begin(add, len(telling.events) + len(telling.facts))
        except LogBusyError as error:
            return error

    def _recorded(
        self, telling: Telling, added: "Future[int] | LogBusyError"
    ) -> Recorded | LogBusyError | LogFailedError:
        if isinstance(added, LogBusyError):
            return added
        try:
            taken = added.result()
        except LogFailedError as error:
            return error
        repeated = len(telling.events) - taken
        with self._come:
            self._events += taken
            self._repeated += repeated
        return Recorded(taken, repeated)

    def expose(self, answers: Sequence[Answer], sent: Sent | None = None) -> None:
        """Returns when they are on the disk.

        Args:
            sent: which batch they are, of a sender that may send it again; None: they come but once.
        Raises:
            LogBusyError: at once. LogFailedError: nothing was kept.
        """

        def add(live: LiveFile) -> int:
            is_new = sent is None or live.is_new(sent)
            return live.add_answers(answers) if is_new else 0

        taken = self.do(add, len(answers))
        with self._come:
            self._answers += taken

    def compact(self) -> int:
        """Moves what is live into partitions; returns how many rows.

        Raises:
            DataError: the disk is full, or a file is damaged; nothing is lost.
        """
        return compact(self, self._keep_days)

    def tend(self) -> None:
        """Compacts this node and those that nobody writes, whose rows it hands on too; it is done in the
        background.

        Raises:
            DataError: as ``compact``.
        """
        self.compact()
        for idle in idle_nodes(self.folder, self.node):
            try:
                go_on(idle)
                compact(idle, self._keep_days)
                self._sending.send_of(idle.node)
            except DataError as error:  # of one node: the others are tended
                log.warning("the rows of %s, which nobody writes, wait: %s", idle.node, error)

    def forget(self, user_id: str) -> None:
        """Deletes all that names a user; see ``forgetting``."""
        forget(self, user_id)

    def go_on(self) -> None:
        """Ends the deletions that were interrupted, or that another node began; it is done in the background
        too."""
        go_on(self)

    def numbers(self) -> LogNumbers:
        with self._come:
            return LogNumbers(
                self._events,
                self._repeated,
                self._answers,
                self._commits,
                self._commit_s,
                self._waiting,
                self._failed or self._not_compacted or self._sending.problem,
            )

    def close(self) -> None:
        """What was handed over is written before."""
        self._stop.set()
        self._tender.join()
        with self._come:
            self._is_closed = True
            self._come.notify()
        self._writer.join()
        self._sending.close()
        self._live.close()
        self._held.close()

    def do(self, work: Callable[[LiveFile], T], size: int = 0, *, alone: bool = False) -> T:
        """Does it in a commit, and returns when that is on the disk.

        Args:
            size: of what it adds; nothing: it never is too much.
            alone: not in a commit.
        Raises:
            LogBusyError: at once. LogFailedError: nothing was kept.
        """
        return self._begin(work, size, alone=alone).result()

    def _begin(self, work: Callable[[LiveFile], T], size: int, *, alone: bool = False) -> "Future[T]":
        task = _Task(work, size, alone, Future())
        with self._come:
            if size and self._waiting and self._waiting + size > self._most:
                raise LogBusyError(f"{self._waiting:,} events and answers wait for the disk")
            self._waiting += size
            self._tasks.append(task)
            self._come.notify()
        return task.done

    def _write_on(self) -> None:
        while tasks := self._next():
            self._commit(tasks)
            with self._come:
                self._waiting -= sum(task.size for task in tasks)

    def _next(self) -> list[_Task]:
        """What waits, as much as one commit takes; nothing when it is closed."""
        with self._come:
            while not self._tasks and not self._is_closed:
                self._come.wait()
            tasks = [self._tasks.popleft()] if self._tasks else []
            size = tasks[0].size if tasks else 0
            while self._tasks and size < MOST_OF_ONE_COMMIT and not (tasks[0].alone or self._tasks[0].alone):
                tasks.append(self._tasks.popleft())
                size += tasks[-1].size
            return tasks

    def _commit(self, tasks: Sequence[_Task]) -> None:
        began = time.perf_counter()
        try:
            with nullcontext() if tasks[0].alone else self._live.whole():
                results = [task.work(self._live) for task in tasks]
        except Exception as error:  # of whatever kind: whoever waits is told
            if len(tasks) > 1:  # one that cannot be done is no other one's fault
                for task in tasks:
                    self._commit([task])
                return
            self._failed = f"{type(error).__name__}: {error}"
            log.error("%s cannot be written: %s", self.folder, self._failed)
            tasks[0].done.set_exception(LogFailedError(f"the log cannot be written: {error}"))
            return
        self._failed = None
        self._commits += 1
        self._commit_s += time.perf_counter() - began
        for task, result in zip(tasks, results, strict=True):
            task.done.set_result(result)

    def _tend(self) -> None:
        """Ends what was interrupted, then compacts now and then. What fails is tried the next time."""
        wait_s = 0.0
        while not self._stop.wait(wait_s):
            try:
                self.go_on()
                if wait_s:
                    self.tend()
                self._not_compacted = None
            except Exception as error:  # rows wait in the live file
                self._not_compacted = f"not compacted: {type(error).__name__}: {error}"
                log.error("%s: %s", self.folder, self._not_compacted)
            wait_s = self._every_s
