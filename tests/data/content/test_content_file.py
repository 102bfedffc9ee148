"""Item vectors brought in a file: every format, and what is wrong with a file."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from recray.arrays import Float32s
from recray.data.content.file import read_vectors
from recray.data.content.vectors import ContentConfig, item_content, load_encoder
from recray.schema import DataError
from tests.data.content.test_content import dataset_with

IDS = ["c", "7", "a"]
VECTORS = np.array([[1, 2], [3, 4], [-1, 0.5]], np.float32)


def parquet_lists(path: Path, ids: list[str], vectors: Float32s) -> Path:
    pl.DataFrame({"item_id": ids, "vector": vectors.tolist()}).write_parquet(path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def _columns(ids: list[str], vectors: Float32s) -> pl.DataFrame:
    return pl.DataFrame({"raw_id": ids, **{f"v{n}": vectors[:, n] for n in range(vectors.shape[1])}})


def parquet_columns(path: Path, ids: list[str], vectors: Float32s) -> Path:
    _columns(ids, vectors).write_parquet(path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def csv(path: Path, ids: list[str], vectors: Float32s) -> Path:
    _columns(ids, vectors).write_csv(path.with_suffix(".csv"))
    return path.with_suffix(".csv")


def npy(path: Path, ids: list[str], vectors: Float32s) -> Path:
    np.save(path.with_suffix(".npy"), vectors)
    path.with_suffix(".ids.txt").write_text("".join(f"{raw_id}\n" for raw_id in ids))
    return path.with_suffix(".npy")


def tensors(path: Path, ids: list[str], vectors: Float32s) -> Path:
    save_file({"vectors": vectors}, path.with_suffix(".safetensors"), {"raw_ids": json.dumps(ids)})
    return path.with_suffix(".safetensors")


FORMATS = [parquet_lists, parquet_columns, csv, npy, tensors]
Writer = Callable[[Path, list[str], Float32s], Path]


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_gives_the_vectors_of_the_items(tmp_path: Path, write: Writer) -> None:
    dataset = dataset_with(pl.DataFrame({"raw_id": ["a", "b", "7"]}), tmp_path / "made")
    path = write(tmp_path / "mine", IDS, VECTORS)
    content = item_content(dataset, ContentConfig(method="file", path=str(path)))
    np.testing.assert_array_equal(content.vectors_IF, VECTORS[[2, 0, 1]] * [[1], [0], [1]])
    assert content.covered_I.tolist() == [True, False, True]
    encoder = load_encoder(content.folder / "encoder")
    assert encoder.digest == content.schema.content_digest
    # A cold-start item: in the file, not in the data set.
    np.testing.assert_array_equal(encoder.encode(pl.DataFrame({"raw_id": ["c", "x"]})), [[1, 2], [0, 0]])


def test_an_edited_file_is_read_anew(tmp_path: Path) -> None:
    dataset = dataset_with(pl.DataFrame({"raw_id": ["a", "7"]}), tmp_path / "made")
    config = ContentConfig(method="file", path=str(npy(tmp_path / "mine", IDS, VECTORS)))
    first = item_content(dataset, config)
    csv(tmp_path / "mine", IDS, VECTORS)
    npy(tmp_path / "mine", IDS, np.hstack([VECTORS, VECTORS]))
    again = item_content(dataset, config)
    assert (first.schema.content_dim, again.schema.content_dim) == (2, 4)


def test_ids_of_another_data_set_are_refused(tmp_path: Path) -> None:
    dataset = dataset_with(pl.DataFrame({"raw_id": ["p", "q"]}), tmp_path / "made")
    config = ContentConfig(method="file", path=str(csv(tmp_path / "mine", IDS, VECTORS)))
    with pytest.raises(DataError, match=r"mine.csv has a vector for none of the items.*e\.g\. 'p'"):
        item_content(dataset, config)


@pytest.mark.parametrize("write", FORMATS)
def test_wrong_vectors_are_refused(tmp_path: Path, write: Writer) -> None:
    with pytest.raises(DataError, match="mine.*raw id '7' occurs more than once"):
        read_vectors(write(tmp_path / "mine", ["7", "7", "a"], VECTORS))
    broken = VECTORS.copy()
    broken[1, 0] = np.nan
    with pytest.raises(DataError, match="mine.*the vector of '7' has a number that is missing or not finite"):
        read_vectors(write(tmp_path / "mine", IDS, broken))
    path = write(tmp_path / "mine", IDS, VECTORS)
    path.write_bytes(path.read_bytes()[:5])
    with pytest.raises(DataError, match="mine"):
        read_vectors(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="mine.*empty"):
        read_vectors(path)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    def refused(path: Path, message: str) -> None:
        with pytest.raises(DataError, match=f"{path.name}.*{message}"):
            read_vectors(path)

    refused(tmp_path / "gone.npy", "does not exist")
    (tmp_path / "x.txt").write_text("1")
    refused(tmp_path / "x.txt", r"read from \.parquet")
    np.save(tmp_path / "lonely.npy", VECTORS)
    refused(tmp_path / "lonely.npy", "no lonely.ids.txt beside it")
    refused(npy(tmp_path / "short", ["a"], VECTORS), "for 1 raw ids")
    np.save(tmp_path / "short.npy", np.array(["a"]))
    refused(tmp_path / "short.npy", "for 1 raw ids")
    np.save(tmp_path / "short.npy", np.array([["a"]]))
    refused(tmp_path / "short.npy", "write numbers")
    np.save(tmp_path / "short.npy", np.array([[{}]]), allow_pickle=True)
    refused(tmp_path / "short.npy", "not a readable")
    save_file({"x": VECTORS}, tmp_path / "x.safetensors")
    refused(tmp_path / "x.safetensors", "needs a tensor 'vectors'")
    save_file({"vectors": VECTORS}, tmp_path / "x.safetensors", {"raw_ids": "[1,"})
    refused(tmp_path / "x.safetensors", "not a readable")
    save_file({"vectors": VECTORS}, tmp_path / "x.safetensors", {"raw_ids": "5"})
    refused(tmp_path / "x.safetensors", "JSON list")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a"], "v": [1.0]}, "no column of raw ids.*call it raw_id"),
        ({"raw_id": ["a"], "v": [1.0], "title": ["x"]}, "column 'title' is neither"),
        ({"raw_id": ["a"], "v": [[1.0]], "w": [[1.0]]}, "several columns of vectors"),
        ({"raw_id": ["a", "b"], "v": [[1.0], [1.0, 2.0]]}, "the vector of 'b' has length 2, the first one 1"),
        ({"raw_id": ["a", "b"], "v": [[1.0], None]}, "the vector of 'b' has length None"),
        ({"raw_id": ["a", "b"], "v": [[1.0], [None]]}, "the vector of 'b' has a number that is missing"),
        ({"raw_id": ["a"], "v": [["x"]]}, "not a readable"),
        ({"raw_id": ["a", None], "v": [1.0, 2.0]}, "column 'raw_id' has an empty row"),
        ({"raw_id": ["a"]}, r"vectors of shape \(1, 0\)"),
        ({"raw_id": ["a"], "v": [1e300]}, "not finite in 32 bits"),
        ({"raw_id": [], "v": []}, "neither the raw id nor numbers|vectors of shape"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    pl.DataFrame(columns).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=f"x.parquet.*{message}"):
        read_vectors(tmp_path / "x.parquet")
