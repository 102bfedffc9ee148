"""Nodes that no process writes, such as one that never came back: others see to their rows.

A node that comes back finds its file held as long as that takes; a server goes by another name then.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext, suppress
from pathlib import Path
from typing import TypeVar

from recray.event_log.live import HeldError, LiveFile, held, live_files

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
    """One after another, each held while it is worked on."""
    for file in live_files(folder):
        if file.stem != but:
            with suppress(HeldError), Idle(folder, file.stem) as idle:
                yield idle
