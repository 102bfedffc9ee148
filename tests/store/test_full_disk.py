"""A disk that is full, as a small file system of its own: a clear error, and nothing half there."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import polars as pl
import pytest
import torch
import xgboost
from safetensors.torch import save_file

from recray.folders import build_once, write_whole
from recray.schema import DataError
from recray.store import Store
from recray.store.shared import FOLDER

MIB = 2**20
RNG = np.random.default_rng(0)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems may not be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def random_bytes(folder: Path) -> None:
    (folder / "small").write_bytes(RNG.bytes(MIB // 2))
    (folder / "big").write_bytes(RNG.bytes(4 * MIB))


def tensors(folder: Path) -> None:
    save_file({"x": torch.rand(MIB)}, folder / "x.safetensors")


def frame(folder: Path) -> None:
    pl.DataFrame({"x": RNG.random(MIB)}).write_parquet(folder / "x.parquet")


def index(folder: Path) -> None:
    flat = faiss.IndexFlatIP(64)
    flat.add(RNG.random((2**14, 64), np.float32))
    faiss.write_index(flat, str(folder / "x.faiss"))


def trees(folder: Path) -> None:
    rows = xgboost.DMatrix(RNG.random((5_000, 10)), RNG.random(5_000))
    xgboost.train({"max_depth": 8, "verbosity": 0}, rows, 300).save_model(folder / "x.ubj")


def fitting(folder: Path) -> None:
    (folder / "small").write_bytes(b"x" * 8192)


@pytest.mark.parametrize("write", [random_bytes, tensors, frame, index, trees])
def test_a_version_that_does_not_fit_is_none(disk: Path, write: Any) -> None:
    store = Store(disk / "store")
    first = store.publish("shop", fitting, model="m", config={})
    with pytest.raises(DataError, match=f"no room left on the disk of {disk}.*make room"):
        store.publish("shop", write, model="m", config={})
    assert [each.version for each in store.versions("shop")] == [1]
    assert list((store.root / "shop").glob(".staging-*")) == []
    assert len(list((store.root / FOLDER).iterdir())) == 1
    first.verify()
    assert store.publish("shop", fitting, model="m", config={}).manifest.version == 2


def test_a_manifest_that_does_not_fit_leaves_nothing(disk: Path) -> None:
    store = Store(disk / "store")

    def all_but_a_page(folder: Path) -> None:
        with pytest.raises(OSError, match="No space"):
            (folder / "fill").write_bytes(b"x" * 4 * MIB)

    with pytest.raises(DataError, match="no room left"):
        store.publish("shop", all_but_a_page, model="m", config={"long": "x" * 10_000})
    assert store.applications() == []
    assert list((store.root / FOLDER).iterdir()) == []


def test_a_name_stays_where_it_was_and_a_data_set_is_whole_or_not_there(disk: Path) -> None:
    write_whole(disk / "names.json", b"old")
    with pytest.raises(DataError, match="no room left"):
        write_whole(disk / "names.json", b"x" * 4 * MIB)
    with pytest.raises(DataError, match="no room left"):
        build_once(disk / "data", lambda _: True, lambda target, _: random_bytes(target))
    assert (disk / "names.json").read_bytes() == b"old"
    assert sorted(path.name for path in disk.iterdir()) == [".data.lock", "names.json"]


def test_what_was_kept_for_a_version_that_is_gone_goes_with_the_next(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "left-by-a-publisher-that-died").write_bytes(b"x" * 8192)
    published = store.publish("shop", fitting, model="m", config={})
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [published.manifest.files["small"].sha256]
