"""Criteo's click logs: the Kaggle file, the Terabyte's days, or files that are already split.

https://ailab.criteo.com/ressources/: 45,840,617 lines of seven days in order of time (Kaggle 2014), and
4.4 billion lines in ``day_0`` to ``day_23`` (1TB Click Logs). Non-commercial use, no redistribution.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from recray.data.row_block import RowBlock
from recray.data.row_source import Malformed, Part, RawRows
from recray.data.sources.clicks.criteo_text import COLUMNS, read_clicks
from recray.data.sources.clicks.ids import (
    ClickOptions,
    Encoding,
    Hashed,
    Vocabulary,
    count_values,
    encode,
    fit_vocabulary,
    schema_of,
)
from recray.data.sources.files.locations import list_files, start_of
from recray.data.sources.files.raw_files import find_raw_folder, fingerprint, require_file, where_to_put
from recray.data.sources.files.text_blocks import Lines, TextBlock, lines_of
from recray.schema import DataError

Blocks = Callable[[], Iterable[TextBlock]]  # to be read as often as asked
FILES: dict[Part, str] = {"train": "train.csv", "validation": "dev.csv", "test": "test.csv"}
SINGLE = "train.txt"
TRAIN_DAYS, DAYS = 6, 7  # of a single file


class Cut(NamedTuple):
    """Which lines are for what."""

    parts: Mapping[Part, list[Lines]]
    split: str


@dataclass(frozen=True, kw_only=True)
class Criteo(ClickOptions):
    """``path`` None: ``<name>/`` in the raw folders.

    A folder holds either ``train.csv``, ``dev.csv`` and ``test.csv``; or ``day_0``, ``day_1``... (``.gz``
    too), of which the last is validation and test by halves; or ``train.txt``, which like a file of any
    name is in order of time: 6/7 train, then half and half.
    """

    name: str
    path: Path | None = None

    @property
    def reader(self) -> str:
        return "criteo"

    def options(self) -> dict[str, Any]:
        raw: Any = self.name
        if self.path is not None:
            raw = [fingerprint(path) for path in _files(self.path)]
        return {"raw": raw, **self.line_options()}

    def rows(self, scratch: Path) -> RawRows:
        cut = _cut(_files(self._locate()))
        parts: dict[Part, Blocks] = {
            part: functools.partial(_blocks, lines) for part, lines in cut.parts.items()
        }
        return click_rows(self, parts, cut.split)

    def _locate(self) -> Path:
        if self.path is not None:
            return self.path
        found = find_raw_folder(self.name)
        if found is None:
            raise DataError(f"{self.name} is not at hand: {where_to_put(self.name + '/')}")
        return found


def is_click_log(path: Path) -> bool:
    """Whether the first line of a file, packed or plain, has a label and as many fields as Criteo's."""
    if not path.is_file() or not path.stat().st_size:
        return False
    [file] = list_files(path, ())
    first = start_of(file, 1 << 16).partition(b"\n")[0]
    return first.startswith((b"0\t", b"1\t")) and first.count(b"\t") == len(COLUMNS) - 1


def click_rows(options: ClickOptions, parts: Mapping[Part, Blocks], split: str) -> RawRows:
    """Lines of Criteo's format, part by part, as rows."""
    malformed = Malformed()
    encoding: Encoding = Hashed(options.buckets)
    if options.ids == "vocabulary":
        # The first of two readings: its malformed lines are counted in the second.
        counted = read_clicks(parts["train"](), count_values, Malformed(), options.max_malformed)
        encoding = fit_vocabulary(counted, options.min_count)
    schema = schema_of(encoding)

    def rows(part: Part, blocks: Blocks) -> Iterator[RowBlock]:
        lines, bad, found = malformed.lines, malformed.count, 0
        work = functools.partial(encode, schema, encoding)
        for block in read_clicks(blocks(), work, malformed, options.max_malformed):
            found += len(block)
            yield block
        if not found:
            raise DataError(
                f"no row is left for {part}: {malformed.lines - lines:,} lines were read for it and "
                f"{malformed.count - bad:,} of them are malformed; each part needs at least 1 row"
            )

    return RawRows(
        schema=schema,
        parts={part: rows(part, blocks) for part, blocks in parts.items()},
        split=split,
        shuffle_train=True,
        malformed=malformed,
        encoding=encoding.spelt() if isinstance(encoding, Vocabulary) else None,
    )


def _blocks(lines: list[Lines]) -> Iterator[TextBlock]:
    return chain.from_iterable(each.blocks() for each in lines)


def _files(path: Path) -> list[Path]:
    """
    Raises:
        DataError: there is none, or not the ones of a known layout.
    """
    if not path.is_dir():
        require_file(path)
        return [path]
    days = sorted(
        (p for p in path.glob("day_*") if p.name.removesuffix(".gz").removeprefix("day_").isdigit()),
        key=lambda p: int(p.name.removesuffix(".gz").removeprefix("day_")),
    )
    if len(days) > 1:
        return days
    split = [path / name for name in FILES.values()]
    found = split if all(p.is_file() for p in split) else [path / SINGLE]
    if not found[0].is_file():
        raise DataError(
            f"{path} holds no Criteo logs: it needs {', '.join(FILES.values())}, or day_0, day_1 and so on "
            f"(.gz too), or {SINGLE}; a folder of LibSVM files needs rank.train and rank.test"
        )
    return found


def _cut(files: list[Path]) -> Cut:
    if [p.name for p in files] == list(FILES.values()):
        named = zip(FILES, files, strict=True)
        return Cut({part: [Lines(path)] for part, path in named}, "files " + ", ".join(FILES.values()))
    last = files[-1]
    total = lines_of(last)
    if len(files) > 1:
        days, first = [Lines(path) for path in files[:-1]], 0
        split = f"global-time({files[0].name}..{files[-2].name}, {last.name} by halves)"
    else:
        first = total * TRAIN_DAYS // DAYS
        days, split = (
            [Lines(last, 0, first)],
            f"global-time({TRAIN_DAYS}/{DAYS} of the lines, the rest by halves)",
        )
    if total - first < 2:
        needed = (
            "2, for validation and test" if len(files) > 1 else "8, for 6/7 training, validation and test"
        )
        raise DataError(f"{last} has {total} lines and needs at least {needed}: is it complete?")
    half = (first + total) // 2
    return Cut({"train": days, "validation": [Lines(last, first, half)], "test": [Lines(last, half)]}, split)
