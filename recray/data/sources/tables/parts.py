"""Which file of a folder is which part of a benchmark's own split: train, valid and test by their names."""

from pathlib import Path

from recray.data.sources.files.locations import kind_of
from recray.data.sources.tables.table_files import TABLES
from recray.schema import DataError

_PARTS = {"train": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2}
LINES = ".txt"


def benchmark_parts(folder: Path) -> dict[int, Path]:
    """``named_parts``; none where the folder has no training or no test file.

    Raises:
        DataError: two files of one part.
    """
    found = named_parts(folder)
    return found if {0, 2} <= set(found) else {}


def named_parts(folder: Path) -> dict[int, Path]:
    """The file of each part (0, 1, 2) that is named as one.

    Raises:
        DataError: two files of one part.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        part = _PARTS.get(path.name.lower().partition(".")[0])
        if part is None or kind_of(path.name) not in (*TABLES, LINES) or not path.is_file():
            continue
        if part in found:
            raise DataError(f"{found[part]} and {path} could both be the {path.stem} part: take one away")
        found[part] = path
    return found
