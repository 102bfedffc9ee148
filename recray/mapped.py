"""Arrays that a machine makes once: every process looks into the same pages of one file.

They lie in ``mapped/`` of the home and can be made again at any time. The system reads a page when it is
looked at, and drops it where it has better use for the memory.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy
import safetensors.torch

from recray import paths
from recray.folders import fsync, locked, room_in
from recray.schema import DataError

LARGE_BYTES = 8 * 2**20  # of a table: about a million events; smaller ones are read into memory
UNUSED_S = 7 * 86_400  # after which a file is removed, by whoever makes the next one

Arrays = Mapping[str, npt.NDArray[Any]]
log = logging.getLogger(__name__)


def mapped(name: str, make: Callable[[], Arrays]) -> Arrays:
    """The arrays of that name: pages of their file, which ``make`` fills where it is missing.

    Where the home cannot be written, or is full, they are what ``make`` gives, in memory.

    Args:
        name: says what they are made of, such as a digest: what has this name is never made again.
    """
    file = paths.mapped_dir() / f"{name}.safetensors"
    try:
        _make_once(file, make)
        os.utime(file)
        return read_pages(file)
    except (OSError, DataError, safetensors.SafetensorError) as error:
        log.warning("%s: made in memory, as nothing can be kept in %s (%s)", name, file.parent, error)
        return make()


def read_pages(file: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a safetensors file, without reading them."""
    return {name: tensor.numpy() for name, tensor in safetensors.torch.load_file(file).items()}


def write_pages(file: Path, arrays: Arrays) -> None:
    safetensors.numpy.save_file({name: np.ascontiguousarray(each) for name, each in arrays.items()}, file)


def _make_once(file: Path, make: Callable[[], Arrays]) -> None:
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.with_suffix(".lock"), f"{file.stem} is being made by another process"):
        if file.exists():
            return
        _remove_unused(file.parent)
        beside = file.with_suffix(".new")
        with room_in(file.parent):
            write_pages(beside, make())
        fsync(beside)
        beside.replace(file)


def _remove_unused(folder: Path) -> None:
    for file in folder.iterdir():
        if time.time() - file.stat().st_mtime > UNUSED_S:
            file.unlink(missing_ok=True)
