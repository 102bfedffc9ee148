"""A command on a node of a cluster to which things happen, and what it said so far."""

import os
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.nodes import PORT, Node, Nodes

_NOISE = re.compile(r"\x1b\[[0-9]*m|\([\w.-]+ pid=\d+[^)]*\)")
_WORDS = re.compile(r"node .* (gone|come)|goes on|once more|waits? |waiting|unavailable|error: |memory")


class Driver:
    """The process of a command, which can be killed and given again."""

    def __init__(
        self,
        cluster: Nodes,
        name: str,
        words: Sequence[str],
        env: Mapping[str, str],
        node: Node | None = None,
    ) -> None:
        self.cluster, self.log, self.words = cluster, f"{name}.log", list(words)
        self.node = node or cluster.head
        self.env = {"RAY_ADDRESS": f"{cluster.head.address}:{PORT}", **env}
        self.process = self.begin()

    def begin(self) -> Any:
        return self.node.start(*self.words, env=self.env, log=self.log)

    def said(self) -> str:
        return (self.node.folder / self.log).read_text()

    def wait_for(self, found: Callable[[], bool], timeout_s: float = 240) -> float:
        """Seconds until it is so."""
        began = time.monotonic()
        while not found():
            if self.process.poll() is not None or time.monotonic() - began > timeout_s:
                raise TimeoutError(self.said()[-3000:])
            time.sleep(0.1)
        return time.monotonic() - began

    def die(self) -> None:
        """SIGKILL, and nobody is left to clean up."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def again(self) -> None:
        """The same command once more."""
        self.process = self.begin()

    def other(self) -> Node:
        """The youngest node that is not the head."""
        return [node for node in self.cluster.nodes.values() if node.alive()][-1]

    def kill_workers(self, node: Node, kind: str = r"ray::(?!IDLE)") -> int:
        """Kills processes of Ray's workers there; returns how many."""
        _, said = node.run("ps", "-eo", "pid,args")
        pids = [line.split()[0] for line in said.splitlines() if re.search(kind, line)]
        node.run("kill", "-9", *pids)
        return len(pids)

    def words_said(self) -> list[str]:
        """Lines that tell a person of what happened."""
        lines = [_NOISE.sub("", line).strip() for line in self.said().splitlines()]
        return [line for line in lines if _WORDS.search(line)]
