"""The home's bucket as a file system of PyArrow, for libraries that write by themselves."""

from collections.abc import Mapping
from datetime import timedelta
from typing import IO, TYPE_CHECKING

from obstore.fsspec import FsspecStore
from pyarrow import PythonFile
from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

from recray import paths
from recray.storage.bucket import PATIENCE_S, client_options

if TYPE_CHECKING:
    from obstore.store import RetryConfig


class _Handler(FSSpecHandler):  # type: ignore[misc]  # PyArrow has no types
    def open_output_stream(self, path: str, metadata: Mapping[str, str] | None) -> PythonFile:
        return PythonFile(_Written(self.fs.open(path, mode="wb")), mode="w")


class _Written:
    """A file that is written: PyArrow hands out buffers of signed bytes, and obstore takes unsigned ones."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.close = file.close

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: bytes) -> int:
        return self._file.write(memoryview(data).cast("B"))

    def flush(self) -> None:
        """A part is sent when it is full, the last one on closing."""


def opened(inside: str) -> tuple[FileSystem, str]:
    """Of what has this name in the home. It travels to workers without credentials: each finds its own."""
    scheme, _, place = paths.address().partition("://")
    patient: RetryConfig = {"max_retries": 40, "retry_timeout": timedelta(seconds=PATIENCE_S)}
    options = client_options(hasty=False)
    if scheme == "s3":
        store = FsspecStore("s3", client_options=options, retry_config=patient)
    else:
        store = FsspecStore("gs", client_options=options, retry_config=patient)
    return PyFileSystem(_Handler(store)), f"{place}/{inside}"
