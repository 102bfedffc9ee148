"""One record per line, as Amazon Reviews 2014 has it: strict JSON, or the loose form.

The loose form is a Python literal (quotes of either kind, no ``null``); it is read by
``ast.literal_eval``, which builds values and runs nothing.
"""

import ast
import json
import re
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from recray.data.sources.files.text_blocks import Lines
from recray.schema import DataError

MAX_LINE_BYTES = 1 << 20  # a record has a few thousand bytes; more than this is a file without line breaks


class Record(NamedTuple):
    values: dict[str, Any]
    where: str  # file and line, for messages


def records(path: Path, *, only: tuple[str, Collection[str]] | None = None) -> Iterator[Record]:
    """The records of a file, ``.gz`` or plain; blank lines are none.

    Args:
        only: field and values: records whose field has another value are left out, unparsed where
            that can be seen without parsing.

    Raises:
        DataError: a line is neither form, is no record, or is longer than ``MAX_LINE_BYTES``; the
            file is damaged.
    """
    field = only[0] if only else ""
    sighted = re.compile(rb"""%s["']\s*:\s*["']([^"'\\]*)["']""" % re.escape(field).encode())
    wanted = {value.encode() for value in only[1]} if only else set()
    for block in Lines(path).blocks():
        for number, line in enumerate(block.data.split(b"\n"), start=block.first_line):
            if not line.strip():
                continue
            if only:
                seen = sighted.findall(line)
                # More than one: a title may quote such a pair. Then only parsing tells.
                if len(seen) == 1 and seen[0] not in wanted:
                    continue
            record = Record(_parsed(line, f"{path}, line {number}"), f"{path}, line {number}")
            if not only or not isinstance(record.values.get(field), str) or record.values[field] in only[1]:
                yield record


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise DataError(
            f"{where} has {len(line):,} bytes, at most {MAX_LINE_BYTES:,}: there must be one record per line"
        )
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: byte 0x{line[error.start]:02x} is not utf-8: fetch the file again"
        ) from error
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = _loose(text, where)
    if not isinstance(values, dict):
        raise DataError(f"{where}: {_shown(text)} is no record of fields: drop the line")
    return values


def _loose(text: str, where: str) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes such as \d, which descriptions are full of
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise DataError(
            f"{where}: {_shown(text)} is neither JSON nor a Python literal: the file is cut off there, or "
            "of another format; fetch it again or drop the line"
        ) from error


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:40] + " … " + text[-15:])
