"""Reads an offline file of Weights & Biases with its own messages: LevelDB's log format around protobuf."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # made at import

HEADER, BLOCK = 7, 32768
FULL, LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    data, place, whole = path.read_bytes(), HEADER, b""
    assert data.startswith(b":W&B")
    while place + HEADER <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        _, size, kind = struct.unpack("<IHB", data[place : place + HEADER])
        whole += data[place + HEADER : place + HEADER + size]
        place += HEADER + size
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def rows(path: Path) -> list[dict[str, Any]]:
    """What was logged, a dict a step."""
    found = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            found.append({(i.key or ".".join(i.nested_key)): json.loads(i.value_json) for i in items})
    return found


def config(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        update = (
            record.run.config.update if kind == "run" else record.config.update if kind == "config" else ()
        )
        found |= {(i.key or ".".join(i.nested_key)): json.loads(i.value_json) for i in update}
    return found


def artifacts(path: Path) -> dict[str, set[str]]:
    """Name -> paths of its files."""
    found = [record.artifact for record in records(path) if record.WhichOneof("record_type") == "artifact"]
    return {each.name: {entry.path for entry in each.manifest.contents} for each in found}


def exit_code(path: Path) -> int:
    (ended,) = [record.exit for record in records(path) if record.WhichOneof("record_type") == "exit"]
    return int(ended.exit_code)
