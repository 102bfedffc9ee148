"""Content by sentence-transformers: a real model of the library, tiny and made on the spot."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recray.config import ConfigError
from recray.data.content.text import load_sentence_encoder, sentence_of
from recray.data.content.vectors import ContentConfig, item_content, load_encoder
from recray.schema import DataError
from tests.data.content.test_content import dataset_with

ITEMS = pl.DataFrame(
    {
        "raw_id": ["1", "2", "3"],
        "title": ["red soap", "green brush", None],
        "categories": [["a", "b"], ["c"], None],
    }
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sentence_transformers", reason="the extra 'text' is not installed")
    from tests.data.content.tiny_sentence_model import write_model

    return write_model(tmp_path_factory.mktemp("model") / "tiny")


def test_a_row_becomes_a_sentence() -> None:
    row = {"raw_id": "1", "text": "a soap ", "title": "Red", "price": 2.5, "year": 1999, "genres": ["x", "y"]}
    assert sentence_of(row) == "Red. a soap. year: 1999. genres: x, y"
    assert sentence_of({"raw_id": "1", "title": None, "genres": []}) == ""


def test_content_by_a_model_on_disk(model: Path, tmp_path: Path) -> None:
    config = ContentConfig(method="sentence", model=str(model))
    content = item_content(dataset_with(ITEMS, tmp_path / "made"), config)
    assert content.vectors_IF.shape == (3, 16)
    assert content.covered_I.tolist() == [True, True, False]

    from sentence_transformers import SentenceTransformer

    library = SentenceTransformer(str(model), device="cpu")
    expected = library.encode(["red soap. categories: a, b", "green brush. categories: c"])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(content.vectors_IF[:2], expected, atol=1e-5)
    assert abs(expected[0] @ expected[1]) < 0.999  # the model tells them apart

    encoder = load_encoder(content.folder / "encoder")
    assert encoder.digest == content.schema.content_digest
    np.testing.assert_allclose(encoder.encode(ITEMS[1:2]), content.vectors_IF[1:2], atol=1e-5)


def test_a_model_that_was_changed_since_is_refused(model: Path, tmp_path: Path) -> None:
    from tests.data.content.tiny_sentence_model import write_model

    encoder = load_sentence_encoder(str(model))
    encoder.save(tmp_path)
    text = (tmp_path / "encoder.json").read_text()
    other = write_model(tmp_path / "other", seed=1)
    (tmp_path / "encoder.json").write_text(text.replace(str(model), str(other)))
    with pytest.raises(DataError, match="was changed since"):
        load_encoder(tmp_path)


def test_a_model_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sentence_transformers", reason="the extra 'text' is not installed")
    with pytest.raises(ConfigError, match="neither a model's folder, nor in the cache, nor to be fetched"):
        load_sentence_encoder(str(tmp_path / "gone"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    with pytest.raises(ConfigError, match="put the model's folder on disk"):
        load_sentence_encoder("nobody/nothing-of-this-name")


def test_without_the_package_the_way_out_is_named() -> None:
    """In a process of its own, in which the import fails as it does where nothing is installed."""
    code = (
        "import sys; sys.modules['sentence_transformers'] = None\n"
        "from recray.data.content.text import load_sentence_encoder\n"
        "load_sentence_encoder('x')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "ConfigError: content.method 'sentence' needs sentence-transformers: pip install" in done.stderr
