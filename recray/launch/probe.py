"""What a node says of itself, asked by the preflight. Needs nothing of recray there: it is sent by value."""

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

SEEN_WITHIN_S = 3.0  # a shared folder may show a new file a moment later
CONNECT_S = 3.0


class Facts(NamedTuple):
    """One node, as a process on it sees it."""

    versions: dict[str, str]  # of Python and packages; those that are missing are not there
    code: str  # digest of recray's files; empty where it is not found
    marker: str  # what the driver wrote into the home, as it is read here; else why it is not
    writes: str  # why the home cannot be written; empty where it can
    free_home: int  # bytes
    free_temp: int
    interface: str  # of the address by which the others know this node
    clock: float  # seconds since 1970
    gpus: int  # that PyTorch sees; -1: not asked
    took_s: float


class Probe:
    """Lives on a node for as long as the preflight lasts."""

    def facts(self, home: str, name: str, address: str, packages: Sequence[str], gpu: bool) -> Facts:
        began = time.monotonic()
        return Facts(
            versions=dict(_versions(packages)),
            code=code_digest(),
            marker=_read(Path(home) / name),
            writes=_write(Path(home) / f"{name}-{address}"),
            free_home=_free(Path(home)),
            free_temp=_free(Path(tempfile.gettempdir())),
            interface=interface_of(address),
            clock=time.time(),
            gpus=_gpus() if gpu else -1,
            took_s=time.monotonic() - began,
        )

    def listen(self, address: str) -> int:
        """A port of this node at which it can be reached."""
        self.door = socket.create_server((address, 0), backlog=256)
        return int(self.door.getsockname()[1])

    def reach(self, others: Sequence[tuple[str, int]]) -> list[tuple[str, str]]:
        """Those that cannot be reached from here, and why."""
        failed = []
        for address, port in others:
            try:
                socket.create_connection((address, port), timeout=CONNECT_S).close()
            except OSError as error:
                failed.append((address, error.strerror or str(error)))
        return failed


def code_digest() -> str:
    """Of the files of the recray that a process here would import."""
    spec = importlib.util.find_spec("recray")
    if spec is None or spec.origin is None:
        return ""
    digest, folder = hashlib.sha256(), Path(spec.origin).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def _versions(packages: Iterable[str]) -> Iterable[tuple[str, str]]:
    yield "python", platform.python_version()
    for package in packages:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue


def _read(marker: Path) -> str:
    deadline = time.monotonic() + SEEN_WITHIN_S
    while True:
        try:
            return marker.read_text()
        except OSError as error:
            if time.monotonic() > deadline:
                return error.strerror or str(error)
            os.listdir(marker.parent) if marker.parent.is_dir() else None  # NFS looks anew
            time.sleep(0.1)


def _write(file: Path) -> str:
    try:
        file.write_text("here")
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _free(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


def interface_of(address: str) -> str:
    """The network interface that has this address; empty for none."""
    import psutil

    for name, has in psutil.net_if_addrs().items():
        if any(one.address == address for one in has):
            return str(name)
    return ""


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
