"""What was asked for, made, changed and ended, one line each: a machine's memory of a cluster and its money.

A line is written whole and forced to the disk before the next step, so a process may die anywhere. What is
lost with the file is Ray's passing tags and what gone pods have cost; the pods themselves are found by name.
"""

import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TextIO, TypeAlias

from recray import paths
from recray.cluster.api import GONE, UNTIL, Pod

log = logging.getLogger(__name__)
LAST_S = 30.0  # that a pod may live beyond its time, until its guard looks
LISTED_S = 5.0  # after which a pod that was made is listed
Line: TypeAlias = dict[str, object]


class Span(NamedTuple):
    """The life of one pod, as it is paid for."""

    name: str
    created: float
    dollars_per_hour: float
    gone: float = 0.0
    """0: still there."""
    until: float = 0.0
    """When it ends by itself at the latest; 0: not known."""

    def dollars(self, now: float) -> float:
        return max(0.0, (self.gone or now) - self.created) / 3600 * self.dollars_per_hour


@dataclass(frozen=True)
class State:
    spans: dict[str, Span] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    told: frozenset[str] = frozenset()

    def dollars(self, now: float) -> float:
        return sum(span.dollars(now) for span in self.spans.values())


class Journal:
    def __init__(self, cluster: str) -> None:
        self.path = paths.clusters_dir() / cluster / "journal.jsonl"
        self._kept: list[str] = []
        self._read: tuple[tuple[int, int], State] = ((0, -1), State())

    def note(self, **line: object) -> None:
        text = json.dumps({"at": round(time.time(), 3), **line}) + "\n"
        try:
            self._write(text)
        except OSError as error:  # a full disk holds no limit up
            log.warning("%s cannot be written (%s): kept in memory", self.path, error)
            self._kept.append(text)

    def _write(self, text: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+") as file:
            file.write(f"\n{text}" if self._cut_off(file) else text)
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def _cut_off(file: TextIO) -> bool:
        """Whether who wrote last died over it."""
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
        return end > 0 and file.read(1) != "\n"

    def lines(self) -> list[Line]:
        try:
            return parsed(self.path.read_text() + "\n" + "".join(self._kept))
        except OSError:
            return parsed("".join(self._kept))

    def state(self) -> State:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return folded(self.lines())
        if self._kept:
            return folded(self.lines())
        if self._read[0] != (stat.st_mtime_ns, stat.st_size):
            self._read = ((stat.st_mtime_ns, stat.st_size), folded(self.lines()))
        return self._read[1]

    def observe(self, pods: Iterable[Pod], now: float, asked: float | None = None) -> State:
        """Takes down what the service shows: pods that nobody noted, and those that are there no more.

        Args:
            asked: when the service was asked: a list says nothing of a pod that was made since.
        """
        state, there = self.state(), {pod.id: pod for pod in pods}
        for pod in there.values():
            span = state.spans.get(pod.id)
            if span is None:
                self.made(pod)
            elif pod.status in GONE:
                if not span.gone:
                    self.note(gone=pod.id, at=now)
            elif span.gone:
                self.note(seen=pod.id)
            elif pod.dollars_per_hour > 0 and span.dollars_per_hour != pod.dollars_per_hour:
                self.made(pod)
        for pod_id, span in state.spans.items():
            if pod_id not in there and not span.gone and span.created + LISTED_S < (asked or now):
                self.note(gone=pod_id, at=min(now, span.until + LAST_S) if span.until else now)
        return self.state()

    def made(self, pod: Pod, listed: float = 0.0) -> None:
        """
        Args:
            listed: dollars an hour by the list, where the pod does not say.
        """
        until = pod.env.get(UNTIL, "")
        self.note(
            made=pod.id,
            name=pod.name,
            created=pod.created,
            dollars_per_hour=pod.dollars_per_hour or listed,
            until=float(until) if until.replace(".", "", 1).isdecimal() else 0.0,
        )

    def take(self, lines: Iterable[Line]) -> None:
        """Takes over what another machine's journal knows of pods."""
        have = {json.dumps(line, sort_keys=True) for line in self.lines()}
        for line in lines:
            if {"made", "gone", "seen"} & line.keys() and json.dumps(line, sort_keys=True) not in have:
                self.note(**line)


def parsed(text: str) -> list[Line]:
    """Lines that are whole; the last may be half of one."""
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [line for line in found if isinstance(line, dict)]


def folded(lines: Iterable[Mapping[str, object]]) -> State:
    """What follows of the lines, in their order."""
    spans, tags, told = dict[str, Span](), dict[str, dict[str, str]](), set[str]()
    for line in lines:
        if "made" in line:
            pod, old = str(line["made"]), spans.get(str(line["made"]))
            rate = max(_number(line["dollars_per_hour"]), old.dollars_per_hour if old else 0.0)
            gone, until = old.gone if old else 0.0, _number(line.get("until"))
            spans[pod] = Span(str(line["name"]), _number(line["created"]), rate, gone, until)
        if "gone" in line and (span := spans.get(str(line["gone"]))):
            at = _number(line["at"])
            spans[str(line["gone"])] = span._replace(gone=min(at, span.gone or at))
        if "seen" in line and (span := spans.get(str(line["seen"]))):
            spans[str(line["seen"])] = span._replace(gone=0.0)
        if "tags" in line and isinstance(line["tags"], dict):
            tags[str(line["pod"])] = tags.get(str(line["pod"]), {}) | line["tags"]
        if "told" in line:
            told.add(str(line["told"]))
    return State(spans, tags, frozenset(told))


def forget(cluster: str) -> None:
    """Once nothing of it is left; what it cost stays beside, for who asks later."""
    path = Journal(cluster).path
    if path.exists():
        path.rename(Path(f"{path}.{int(time.time())}"))


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
