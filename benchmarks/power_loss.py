"""A disk that loses its power: what a program did to a folder, and the folder after a cut at any moment.

``strace`` notes every call that changes files. After a cut, what was synced before is there: bytes of a file
by ``fsync`` or ``fdatasync`` of it, names by one of their folder. Of what was not, each write, truncation,
rename, creation and removal is there or not by chance, whatever came later; a write may be torn at sectors.
Memory maps are not seen: SQLite's ``-shm`` is one, and is made anew.
"""

import os
import random
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from math import inf
from pathlib import Path
from typing import NamedTuple

SECTOR_BYTES = 512
TORN_SHARE = 0.3
CALLS = (
    "openat,creat,write,pwrite64,writev,pwritev,ftruncate,rename,renameat,renameat2,unlink,unlinkat,mkdir,"
    "mkdirat,rmdir,fsync,fdatasync,lseek,fallocate,link,linkat,copy_file_range,sendfile"
)
_LINE = re.compile(r"(?P<pid>\d+) +(?P<text>.*)", re.DOTALL)
_CALL = re.compile(r"(?P<call>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+).*", re.DOTALL)
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
_HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")


class Call(NamedTuple):
    """A system call that succeeded; ``began`` and ``ended`` count lines of the trace."""

    began: int
    ended: int
    name: str
    arguments: list[str]
    result: int


class Disk:
    """What is on it: names, of folders (None) and of files by their numbers, and the bytes of files."""

    def __init__(self) -> None:
        self.names: dict[str, int | None] = {}
        self.contents: dict[int, bytearray] = defaultdict(bytearray)

    def write(self, file: int, at: int, data: bytes) -> None:
        content = self.contents[file]
        content.extend(bytes(max(0, at + len(data) - len(content))))
        content[at : at + len(data)] = data

    def cut(self, file: int, size: int) -> None:
        content = self.contents[file]
        del content[size:]
        content.extend(bytes(size - len(content)))

    def rename(self, old: str, new: str) -> None:
        if old in self.names:
            self.names[new] = self.names.pop(old)

    def into(self, target: Path, folder: str) -> None:
        """Makes the files of a folder; what has no folder that is there is lost."""
        for path, file in sorted(self.names.items()):
            place = target / os.path.relpath(path, folder)
            if not place.parent.is_dir():
                continue
            if file is None:
                place.mkdir()
            else:
                place.write_bytes(self.contents[file])


class Change(NamedTuple):
    """Of the bytes of a file, or of a name in a folder."""

    began: int
    ended: int
    of: int | str  # the file's number, or the folder's path
    do: Callable[[Disk], object]
    torn: Callable[[Disk, random.Random], None] | None = None  # a part of it


class Said(NamedTuple):
    """What the program wrote to its output."""

    began: int
    text: str


def traced(command: Sequence[str], folder: Path) -> "Trace":
    """Runs it to its end.

    Raises:
        CalledProcessError: it failed.
    """
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "trace"
        options = ["-f", "-y", "-xx", "-s", "100000000", "-qq", "-e", "signal=none", "-e", f"trace={CALLS}"]
        with (Path(place) / "said").open("w") as said:
            subprocess.run(["strace", *options, "-o", str(file), *command], check=True, stdout=said)
        return Trace(folder, list(_calls(file)))


def can_trace() -> bool:
    """Whether there is an ``strace`` that may look at a program."""
    if shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0
    )


def _calls(file: Path) -> Iterator[Call]:
    begun: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(file.read_text().splitlines()):
        match = _LINE.fullmatch(line)
        assert match, line
        pid, text = match["pid"], match["text"]
        began = number
        if text.endswith("<unfinished ...>"):
            begun[pid] = number, text.removesuffix("<unfinished ...>")
            continue
        if text.startswith("<..."):
            began, first = begun.pop(pid)
            text = first + _RESUMED.sub("", text, count=1)
        if (call := _CALL.fullmatch(text)) and int(call["result"]) >= 0:
            arguments = re.split(r", (?![^\[]*\])", call["arguments"])
            yield Call(began, number, call["call"], arguments, int(call["result"]))


def _bytes(argument: str) -> bytes:
    return b"".join(bytes.fromhex(each.replace("\\x", "")) for each in _HEX.findall(argument))


def _path(argument: str) -> str:
    """Of an open file or a quoted path."""
    return os.fsdecode(_bytes(argument)) if "\\x" in argument else argument.partition("<")[2][:-1]


class Trace:
    """What a program did to a folder that was empty."""

    def __init__(self, folder: Path, calls: Sequence[Call]) -> None:
        self._folder = str(folder)
        self.changes: list[Change] = []
        self.said: list[Said] = []
        self.end = calls[-1].ended + 1
        self._syncs: dict[int | str, list[tuple[int, int]]] = defaultdict(list)
        self._names: dict[str, int] = {}  # as the program sees them
        self._positions: dict[str, int] = {}  # by descriptor
        for call in calls:
            self._add(call)
        self._safe = [self._safe_from(change) for change in self.changes]

    def moments(self, times: int, rng: random.Random) -> list[int]:
        """Cuts of the power: by turns at any moment, and when something has just been said."""
        first, said = self.changes[0].began + 1, [one.began + 1 for one in self.said]
        return [rng.choice(said) if n % 2 else rng.randrange(first, self.end) for n in range(times)]

    def said_before(self, cut: int) -> list[str]:
        return [said.text for said in self.said if said.began < cut]

    def rebuild(self, cut: int, rng: random.Random, target: Path) -> None:
        """Makes ``target``, an empty folder, what is on the disk after the power went."""
        kept_share, disk = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0)), Disk()
        for change, safe in zip(self.changes, self._safe, strict=True):
            if safe < cut:
                change.do(disk)
            elif change.began < cut and rng.random() < kept_share:
                if change.torn and rng.random() < TORN_SHARE:
                    change.torn(disk, rng)
                else:
                    change.do(disk)
        disk.into(target, self._folder)

    def _add(self, call: Call) -> None:
        if call.name in ("write", "pwrite64") and call.arguments[0].startswith("1<"):
            self.said.append(Said(call.began, _bytes(call.arguments[1]).decode()))
            return
        paths = [path for path in map(_path, call.arguments) if self._is_inside(path)]
        if not paths:
            return
        match call.name:
            case "openat":
                self._opened(call, paths[0])
            case "write" | "pwrite64":
                self._wrote(call, paths[0])
            case "lseek":
                self._positions[_descriptor(call)] = call.result
            case "ftruncate":
                self._cut(call, paths[0], int(call.arguments[1]))
            case "fsync" | "fdatasync":
                self._syncs[self._names.get(paths[0], paths[0])].append((call.began, call.ended))
            case "mkdir":
                self._name(call, paths[0], lambda disk: disk.names.update({paths[0]: None}))
            case "rename":
                self._names[paths[1]] = self._names.pop(paths[0])
                self._name(call, paths[1], lambda disk: disk.rename(*paths))
            case "unlink":
                del self._names[paths[0]]
                self._name(call, paths[0], lambda disk: disk.names.pop(paths[0], None))
            case _:
                raise AssertionError(f"no model of {call}")

    def _is_inside(self, path: str) -> bool:
        return path.startswith(self._folder + "/") or path == self._folder

    def _opened(self, call: Call, path: str) -> None:
        self._positions[str(call.result)] = 0
        flags = call.arguments[2].split("|")
        if "O_CREAT" in flags and path not in self._names:
            self._names[path] = file = len(self.changes)
            self._name(call, path, lambda disk: disk.names.update({path: file}))
        elif "O_TRUNC" in flags:
            self._cut(call, path, 0)

    def _wrote(self, call: Call, path: str) -> None:
        data = _bytes(call.arguments[1])[: call.result]
        at = int(call.arguments[3]) if call.name == "pwrite64" else self._positions[_descriptor(call)]
        if call.name == "write":
            self._positions[_descriptor(call)] = at + call.result
        file = self._names[path]

        def torn(disk: Disk, rng: random.Random) -> None:
            begin = 0
            while begin < len(data):
                end = begin + SECTOR_BYTES - (at + begin) % SECTOR_BYTES
                if rng.random() < 0.5:
                    disk.write(file, at + begin, data[begin:end])
                begin = end

        self._change(call, file, lambda disk: disk.write(file, at, data), torn)

    def _cut(self, call: Call, path: str, size: int) -> None:
        file = self._names[path]
        self._change(call, file, lambda disk: disk.cut(file, size))

    def _name(self, call: Call, path: str, do: Callable[[Disk], object]) -> None:
        self._change(call, os.path.dirname(path), do)

    def _change(
        self,
        call: Call,
        of: int | str,
        do: Callable[[Disk], object],
        torn: Callable[[Disk, random.Random], None] | None = None,
    ) -> None:
        self.changes.append(Change(call.began, call.ended, of, do, torn))

    def _safe_from(self, change: Change) -> float:
        """When the first sync that began after it had ended."""
        return min((ended for began, ended in self._syncs[change.of] if began > change.ended), default=inf)


def _descriptor(call: Call) -> str:
    return call.arguments[0].partition("<")[0]
