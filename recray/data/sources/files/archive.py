"""Raw archives: found in the raw folders or downloaded, opened, and members taken out whole."""

import hashlib
import logging
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recray.schema import DataError

log = logging.getLogger(__name__)


def verify_checksum(path: Path, expected: str) -> str:
    """``algorithm:hex`` of the file; a sum that differs from ``expected`` is a warning with both.

    Not an error: mirrors repack archives, and the content is checked row by row anyway.
    """
    algorithm = expected.partition(":")[0]
    with path.open("rb") as file:
        found = f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"
    if found != expected:
        log.warning(
            "%s: checksum %s differs from the published %s: not the original archive", path, found, expected
        )
    return found


class Archive:
    """A zip whose members are asked for by the end of their path."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path = path
        self._file = file

    def label(self, member: str) -> str:
        return f"{self.path.name}: {member}"

    def find(self, ending: str) -> str:
        """Full name of the member called ``ending``, in whatever folder of the zip."""
        names = self._file.namelist()
        for name in names:
            if name == ending or name.endswith("/" + ending):
                return name
        raise DataError(
            f"{self.path}: no {ending} inside (it has {', '.join(names[:8])}); is it the right archive?"
        )

    def extract(self, member: str, folder: Path) -> Path:
        """Copies one member into ``folder``; its checksum is verified on the way."""
        target = folder / Path(member).name
        with self._damage_explained(member), self._file.open(member) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out, length=1 << 20)
        return target

    def lines(self, member: str, encoding: str = "utf-8") -> list[str]:
        """Text of a small member by lines.

        With ``latin-1``, text that is valid UTF-8 is read as UTF-8: somebody re-saved the file, and
        Latin-1 would accept it and garble every accent.
        """
        with self._damage_explained(member):
            data = self._file.read(member)
        encodings = ["utf-8", encoding] if encoding == "latin-1" else [encoding]
        for attempt in encodings:
            try:
                return [line.rstrip("\r") for line in data.decode(attempt).split("\n")]
            except UnicodeDecodeError as error:
                line, byte = data.count(b"\n", 0, error.start) + 1, data[error.start]
        raise DataError(
            f"{self.label(member)}, line {line}: byte 0x{byte:02x} is not {encoding}: "
            "fetch the original archive"
        )

    @contextmanager
    def _damage_explained(self, member: str) -> Iterator[None]:
        try:
            yield
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DataError(
                f"{self.label(member)} is damaged ({error}): delete {self.path} and fetch it again"
            ) from error


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """
    Raises:
        DataError: it is no complete zip.
    """
    try:
        file = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError) as error:
        size = path.stat().st_size
        raise DataError(
            f"{path} is not a complete zip ({size:,} bytes; {error}), probably a download that was cut off: "
            "delete it and fetch it again"
        ) from error
    with file:
        yield Archive(path, file)
