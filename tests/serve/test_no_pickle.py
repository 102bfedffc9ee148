"""Nothing that runs code while it is read stands between the store and an answer."""

import ast
import pickle
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2] / "recray"
LOAD_PATH = ("store", "serve", "ops", "models", "features")
FORBIDDEN = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
SOURCES = sorted(p for folder in LOAD_PATH for p in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_load_path_names_no_pickle(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not FORBIDDEN & {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in FORBIDDEN
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {
                ("torch", "load"),
                ("np", "load"),
                ("pl", "deserialize"),
            }
        elif isinstance(node, ast.keyword):
            assert node.arg != "allow_pickle"


def test_a_version_is_opened_and_served_without_unpickling(
    published: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from recray.serve.http.requests import RecommendRequest
    from recray.serve.place.pipeline import Pipeline
    from recray.serve.versions import open_served

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was unpickled while a bundle was opened")

    for module, name in (
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (pickle, "_Unpickler"),
        (torch, "load"),
    ):
        monkeypatch.setattr(module, name, refuse)
    pipeline = Pipeline(open_served(published, "tiny-ranker"))
    assert pipeline.recommend(RecommendRequest(user_id="101", explain=True))["items"]
