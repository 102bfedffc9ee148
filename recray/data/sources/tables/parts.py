"""Which file of a folder is which part of a benchmark's own split: train, valid and test by their names."""

import re
from pathlib import Path

from recray.data.sources.files.locations import kind_of
from recray.data.sources.tables.table_files import TABLES
from recray.schema import DataError

_PARTS = {"train": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2}
_PIECE = re.compile(rf"({'|'.join(_PARTS)})[-_ ]?(?:part)?[-_ ]?\d+\.")  # train_part2.csv, test-00001.parquet
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
        if part is None or not _is_table(path):
            continue
        if part in found:
            raise DataError(f"{found[part]} and {path} could both be the {path.stem} part: take one away")
        found[part] = path
    return found


def not_read(folder: Path) -> list[Path]:
    """Tables of a benchmark's folder that are none of its parts.

    Raises:
        DataError: one is called like a further piece of a part.
    """
    parts = benchmark_parts(folder)
    others = [path for path in sorted(folder.iterdir()) if path not in parts.values() and _is_table(path)]
    for path in others:
        piece = _PIECE.match(path.name.lower())
        part = parts.get(_PARTS[piece[1]]) if piece else None
        if part is not None:
            raise DataError(
                f"{path} looks like a piece of {part.name}, and a part is one file: put their rows into "
                f"{part.name}, or take {path.name} out of the folder"
            )
    return others


def _is_table(path: Path) -> bool:
    is_shown = not path.name.startswith((".", "_"))
    return is_shown and kind_of(path.name) in (*TABLES, LINES) and path.is_file()
