"""Nodes that no process writes, such as one that never came back: others see to their rows.

A node that comes back finds its file held as long as that takes; a server goes by another name then.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from typing import TypeVar

from recray.event_log.live import HeldError, LiveFile, held, live_files
from recray.schema import DataError

log = logging.getLogger(__name__)
T = TypeVar("T")


class Idle:
    """Writes the file of a node in its place.

    Raises, when it is entered:
        HeldError: a process writes it.
        DataError: it is damaged, or the disk is full.
    """

    def __init__(self, folder: Path, node: str) -> None:
        self.folder, self.node = folder, node
        self._held = ExitStack()

    def __enter__(self) -> "Idle":
        with ExitStack() as stack:
            stack.enter_context(held(self.folder, self.node))
            self._live = stack.enter_context(closing(LiveFile(self.folder, self.node)))
            self._held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def do(self, work: Callable[[LiveFile], T], size: int = 0, *, alone: bool = False) -> T:
        with nullcontext() if alone else self._live.whole():
            return work(self._live)


def idle_nodes(folder: Path, but: str) -> Iterator[Idle]:
    """One after another, each held while it is worked on; one that is damaged is named in the log."""
    for file in live_files(folder):
        if file.stem == but:
            continue
        with ExitStack() as stack:
            try:
                idle = stack.enter_context(Idle(folder, file.stem))
            except HeldError:
                continue
            except DataError as error:
                log.warning("the rows of %s, which nobody writes, wait: %s", file.stem, error)
                continue
            yield idle
