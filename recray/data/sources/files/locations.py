"""Where raw files lie: a path, a folder, a glob, or an address of object storage; packed or plain.

All of it goes through PyArrow's file systems, so that ``s3://shop/events.csv.gz`` is read as a file
beside the program is. Readers get plain local files: what is packed or far away is unpacked or copied
into a scratch folder.
"""

import fnmatch
import glob
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote

from recray.folders import file_sha256
from recray.redaction import hidden
from recray.schema import DataError

if TYPE_CHECKING:
    from pyarrow import NativeFile
    from pyarrow.fs import FileInfo, FileSystem

PACKED = {".gz": "gzip", ".zst": "zstd"}
"""Endings of packed files, and what PyArrow calls the way they are packed."""
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}  # how packed files begin, whatever their names
_NOT_READ = (".zip", ".bz2", ".xz", ".7z", ".rar", ".tar", ".tgz")
_WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
_COPY_BYTES = 8 << 20
_SUBMITTED = re.compile(r"^/.*/working_dir_files/_ray_pkg_[0-9a-f]+/")
_RETRY_S = 6  # Google's client would go on for a quarter of an hour where there is no network


@dataclass(frozen=True, kw_only=True)
class RawFile:
    """One file, as it was when it was listed."""

    label: str  # as a person would name it
    path: str  # in its file system
    size_bytes: int
    modified_ns: int
    system: "FileSystem" = field(repr=False)
    partitions: Mapping[str, str] = field(default_factory=dict)  # of folders such as date=2026-01-01

    def fingerprint(self) -> dict[str, Any]:
        """Tells one state of the file from another without reading it."""
        return state_of(self.path, self.size_bytes, self.modified_ns)


def state_of(path: str, size_bytes: int, modified_ns: int) -> dict[str, Any]:
    """A file's place and what tells its states apart: its time, and of what was submitted, its content.

    Ray unpacks the working directory of a job anew after each edit, into a folder of another name.
    """
    if (place := lasting_place(path)) == path:
        return {"path": path, "size_bytes": size_bytes, "modified_ns": modified_ns}
    return {"path": place, "sha256": file_sha256(Path(path))}


def lasting_place(path: str) -> str:
    """A path that stays the same; of what was submitted with a job, the one in its working directory."""
    return _SUBMITTED.sub("working-dir:", path)


def is_address(location: str | Path) -> bool:
    """Whether it names a file system of its own, as ``s3://bucket/file.csv`` does."""
    return "://" in str(location)


def absolute_location(location: str | Path) -> str:
    """The same place from any working directory; addresses are as they are."""
    text = str(location)
    return text if is_address(text) else os.path.abspath(os.path.expanduser(text))


def beside(location: str | Path, other: str | Path) -> str:
    """Where ``other`` is, told from the folder that ``location`` is in."""
    text = os.path.expanduser(str(other))
    if is_address(text) or os.path.isabs(text):
        return text
    here = absolute_location(location)
    if not is_address(here) and os.path.isdir(here):
        return os.path.join(here, text)
    return f"{here.rpartition('/')[0]}/{text}"


def kind_of(name: str) -> str:
    """The ending that says what is in a file, in lower case: ``.csv`` of ``Events.CSV.gz``."""
    path = PurePosixPath(name.lower())
    return PurePosixPath(path.stem).suffix if path.suffix in PACKED else path.suffix


def refuse_packing(name: str | Path) -> None:
    """
    Raises:
        DataError: by its name it is a workbook, or packed in a way that is not read.
    """
    packing = PurePosixPath(str(name).lower()).suffix
    if packing in _WORKBOOKS:
        raise DataError(f"{name} is a workbook, which is not read: save its sheet as CSV (UTF-8)")
    if packing in _NOT_READ:
        raise DataError(
            f"{name} is packed as {packing}, which is not read: unpack it, or pack it as .gz or .zst"
        )


def unique_name(location: str | Path) -> str:
    """What the data set of this place is called: ``events-1f2e3d4c``, whatever the files come to hold.

    Two files of one stem are two data sets, so the name carries eight letters of the place's digest.
    """
    place = lasting_place(absolute_location(location).rstrip("/"))
    stem = PurePosixPath(place).name.partition("*")[0]
    for endings in (PACKED, (kind_of(stem),)):
        ending = PurePosixPath(stem.lower()).suffix
        stem = stem[: -len(ending)] if ending and ending in endings else stem
    return f"{stem.rstrip('-_.') or 'files'}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


def list_files(location: str | Path, kinds: tuple[str, ...]) -> list[RawFile]:
    """The files of a place, in order of their names; of folders and globs, those of ``kinds``.

    Raises:
        DataError: nothing is there, nothing of that kind is, a file is empty, or the place cannot be reached.
    """
    with _explained(location):
        system, path = _opened(location)
        return files_of(system, path, hidden(str(location)), kinds)


def files_of(system: "FileSystem", path: str, label: str, kinds: tuple[str, ...]) -> list[RawFile]:
    """``list_files`` of a file system that is open; ``label`` names the place in messages."""
    from pyarrow.fs import FileSelector, FileType

    info = system.get_file_info(path)
    if info.type == FileType.File:
        refuse_packing(label)
        if info.size == 0:
            raise DataError(f"{label} is empty (0 bytes): fetch it again")
        return [_raw_file(system, info, label)]
    pattern = None
    if info.type != FileType.Directory:
        if not glob.has_magic(path):
            raise DataError(f"{label} does not exist")
        pattern, path = path, _before_magic(path)
    found = system.get_file_info(FileSelector(path, recursive=True, allow_not_found=True))
    wanted = [
        each
        for each in found
        if each.type == FileType.File
        and each.size
        and kind_of(each.path) in kinds
        and not _is_hidden(each.path[len(path) :])
        and (pattern is None or _matches(each.path, pattern))
    ]
    if not wanted:
        raise DataError(
            f"{label}: no file in it ends in {', '.join(kinds)} (packed as .gz or .zst, or plain)"
        )
    wanted.sort(key=lambda each: each.path)
    return [_raw_file(system, each, each.path, _partitions(each.path[len(path) :])) for each in wanted]


def _partitions(path: str) -> dict[str, str]:
    """Columns that Hive, Spark and Athena write as folders: ``date=2026-01-01/part-0.parquet``."""
    folders = (part.partition("=") for part in PurePosixPath(path).parts[:-1])
    return {name: unquote(value) for name, equals, value in folders if name and equals}


def _raw_file(
    system: "FileSystem", info: "FileInfo", label: str, partitions: Mapping[str, str] = MappingProxyType({})
) -> RawFile:
    return RawFile(
        label=label,
        path=info.path,
        size_bytes=info.size,
        modified_ns=info.mtime_ns or 0,
        system=system,
        partitions=partitions,
    )


def _is_hidden(path: str) -> bool:
    """Markers such as ``_SUCCESS`` and what a writer has not finished."""
    return any(part.startswith((".", "_")) for part in PurePosixPath(path).parts if part != "/")


def _matches(path: str, pattern: str) -> bool:
    """Part by part: a star does not reach into folders."""
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


def _before_magic(pattern: str) -> str:
    parts = pattern.split("/")
    plain = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return "/".join(parts[:plain]) or "/"


def _opened(location: str | Path) -> "tuple[FileSystem, str]":
    from pyarrow.fs import FileSystem, LocalFileSystem

    place = absolute_location(location)
    if place.startswith(("gs://", "gcs://")):
        place += f"?retry_limit_seconds={_RETRY_S}"
    return FileSystem.from_uri(place) if is_address(place) else (LocalFileSystem(), place)


def plain_file(file: RawFile, scratch: Path) -> Path:
    """The file itself where it is local and not packed, else a plain copy of it in ``scratch``.

    Raises:
        DataError: it is damaged, or it cannot be read.
    """
    import pyarrow
    from pyarrow.fs import LocalFileSystem

    packing = PACKED.get(PurePosixPath(file.path.lower()).suffix)
    is_local = isinstance(file.system, LocalFileSystem)
    if packing is None:
        packing = _packing_of(file)
    if is_local and packing is None:
        return Path(file.path)
    name = PurePosixPath(file.path).name
    target = scratch / f"{hashlib.sha256(file.label.encode()).hexdigest()[:8]}-{name}"
    with _explained(file.label), file.system.open_input_stream(file.path, compression=None) as stored:
        source = pyarrow.CompressedInputStream(stored, packing) if packing else stored
        with target.open("wb") as out:
            while data := _read(source, file.label, packing):
                _write(out, data, file.label)
    return target


def _write(out: BinaryIO, data: bytes, label: str) -> None:
    try:
        out.write(data)
    except OSError as error:
        raise DataError(
            f"{label} cannot be unpacked into {Path(out.name).parent} ({_sentence(error)}): make room there; "
            "RECRAY_HOME names another place"
        ) from error


def start_of(file: RawFile, size_bytes: int) -> bytes:
    """The first bytes of what is in it, unpacked.

    Raises:
        DataError: it is damaged, or it cannot be read.
    """
    import pyarrow

    packing = _packing_of(file)
    with _explained(file.label), file.system.open_input_stream(file.path, compression=None) as stored:
        source = pyarrow.CompressedInputStream(stored, packing) if packing else stored
        return _read(source, file.label, packing, size_bytes)


def _packing_of(file: RawFile) -> str | None:
    with _explained(file.label), file.system.open_input_stream(file.path, compression=None) as stored:
        start = stored.read(max(map(len, _MAGIC)))
    return next((packing for magic, packing in _MAGIC.items() if start.startswith(magic)), None)


def _read(source: "NativeFile", label: str, packing: str | None, size_bytes: int = _COPY_BYTES) -> bytes:
    try:
        data: bytes = source.read(size_bytes)
        return data
    except OSError as error:
        if packing is None:
            raise
        raise DataError(f"{label} is damaged ({_sentence(error)}): fetch it again") from error


@contextmanager
def _explained(location: str | Path) -> Iterator[None]:
    """What file systems raise, in one sentence for people."""
    import pyarrow

    try:
        yield
    except pyarrow.ArrowInvalid as error:
        said = f"{location}: no file system for it ({_sentence(error)})"
        raise DataError(f"{hidden(said)}: write a path, s3://, gs:// or file://") from error
    except OSError as error:
        out = (
            "check the address, the network and the credentials" if is_address(location) else "let it be read"
        )
        raise DataError(f"{hidden(f'{location} cannot be read ({_sentence(error)})')}: {out}") from error


def _sentence(error: Exception) -> str:
    text = str(getattr(error, "strerror", None) or error).removeprefix("google::cloud::Status(")
    return text.splitlines()[0].partition("; Details")[0].partition(". ")[0].rstrip(". ")
