"""A notebook's door, on a few hundred events: what it gives is what commands and servers give."""

import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

import recray
from recray.config import ConfigError
from recray.schema import DataError
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.pipeline import Pipeline
from recray.serve.versions import open_served
from recray.store import Store, StoreError, run_record
from tests.pipelines.tiny import tiny_events

REPO = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> recray.Dataset:
    return recray.load(tiny_events(tmp_path_factory.mktemp("raw")), name="notebook")


@pytest.fixture(scope="module")
def knn(data: recray.Dataset) -> recray.Model:
    return recray.fit("item_knn", data)


def test_a_file_and_a_frame_are_the_same_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = pl.DataFrame({"who": ["a", "a", "b", "b"], "item": [1, 2, 2, 3], "timestamp": [10, 20, 30, 40]})
    items = pl.DataFrame({"item": [1, 2, 3, 4], "title": ["one", "two", "three", "four"]})
    events.write_csv(tmp_path / "events.csv")
    items.write_csv(tmp_path / "items.csv")
    file = recray.load(tmp_path / "events.csv", items=tmp_path / "items.csv", user="who", name="small")
    mixed = recray.load(str(tmp_path / "events.csv"), items=items, user="who")
    frame = recray.load(events, items=items, user="who", name="small")
    assert file.prepared.hash == mixed.prepared.hash == frame.prepared.hash
    assert (len(file), file.items["title"].to_list()) == (4, ["one", "two", "three", "four"])
    assert "interactions" in repr(file)
    untold = recray.load(events, items=items, users=None, user="who", name="small")
    assert untold.prepared.hash == frame.prepared.hash
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"^{tmp_path}/nope.csv does not exist"):
        recray.load(events, items="nope.csv", user="who", name="small")


def test_a_list_is_what_a_server_answers(knn: recray.Model) -> None:
    found = knn.recommend(["u1", "u2"], k=3)
    assert found["place"].to_list() == [1, 2, 3, 1, 2, 3]
    pipeline = Pipeline(open_served(knn.store, "notebook-item_knn", 1))
    assert pipeline.known_until
    asked = RecommendRequest(user_id="u2", k=3, request_time=pipeline.known_until + 1)
    served = pipeline.recommend(asked)["items"]
    assert found.filter(user="u2")["item"].to_list() == [item["item_id"] for item in served]
    assert found.filter(user="u2")["score"].to_list() == [item["score"] for item in served]


def test_users_histories_and_strangers(data: recray.Dataset, knn: recray.Model) -> None:
    told = knn.recommend({"x": ["i1", "i3"], "y": np.array(["i2"])}, k=4, exclude=["i5"])
    assert told["user"].unique(maintain_order=True).to_list() == ["x", "y"]
    assert not {"i1", "i3", "i5"} & set(told.filter(user="x")["item"])
    listed = knn.recommend([["i1", "i3"], ["i2"]], k=4, exclude=["i5"])
    assert listed.drop("user").equals(told.drop("user"))
    assert knn.recommend("nobody-knows", k=2)["fallback"].to_list() == ["popular", "popular"]
    near = knn.similar("i1", k=2)
    assert (near["of"].to_list(), near["place"].to_list()) == (["i1", "i1"], [1, 2])


def test_ids_come_as_notebooks_have_them(knn: recray.Model) -> None:
    """A column of numbers with a gap is one of floats; NumPy's numbers are numbers."""
    ids: list[Any] = [7.0, np.int64(7), "7", np.float32(7.5)]
    k, at = cast(int, np.int64(2)), cast(int, np.int64(1_700_000_000))
    told = knn.recommend(ids, k=k, at=at)
    assert told["user"].to_list() == ["7"] * 6 + ["7.5"] * 2
    assert told["score"].null_count() == 8  # popular items have none, and NaN would sort above all
    assert knn.history(" u1 ").equals(knn.history("u1"))
    assert knn.similar(np.array([" i1 "]), k=1)["item"].to_list() == knn.similar("i1", k=1)["item"].to_list()
    for wrong in (None, [None], [float("nan")], True):
        with pytest.raises(DataError, match="an id is text or a number, got"):
            knn.recommend(wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"a frame has several columns: .*frame\['user'\]"):
        knn.recommend(pl.DataFrame({"user": ["u1"]}))
    with pytest.raises(DataError, match="request_time: Input should be a valid integer"):
        knn.recommend("u1", at=date(2026, 1, 1))  # type: ignore[arg-type]


def test_a_kernel_shows_what_is_shown_once(knn: recray.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich finds out that it runs in a kernel and shows each table itself: three of each were seen."""
    shown: list[object] = []
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda *one: shown.append(one))
    assert "ndcg@10" in repr(knn)
    assert "ndcg@10" in knn._repr_html_()
    assert shown == []


def test_mistakes_are_sentences(data: recray.Dataset, knn: recray.Model) -> None:
    with pytest.raises(DataError, match="history: no item 'i9999' in this catalogue"):
        knn.recommend({"x": ["i9999"]})
    with pytest.raises(DataError, match="k: Input should be greater than or equal to 1"):
        knn.recommend("u1", k=0)
    with pytest.raises(DataError, match="no item 'i9999'"):
        knn.similar("i9999")
    for wrong in (0, 501, 2.5):
        with pytest.raises(DataError, match=f"k must be a whole number from 1 to 500, got {wrong}"):
            knn.similar("i1", k=wrong)  # type: ignore[arg-type]
    nothings: list[Any] = [[], "popularity"]
    for nothing in nothings:
        with pytest.raises(ConfigError, match="these is a list of models"):
            recray.compare(nothing, data)
    with pytest.raises(ConfigError, match="seeds must be at least 1, got 0"):
        recray.compare(["popularity"], data, seeds=0)
    with pytest.raises(ConfigError, match=r"item_knn was measured by .*ndcg@10.*, not by ndcg@5: ask for"):
        recray.compare([knn], data, metric="ndcg@5")
    with pytest.raises(ConfigError, match="did you mean 'item_knn'"):
        recray.fit("item_kn", data)
    with pytest.raises(ConfigError, match="did you mean 'shrink'"):
        recray.fit("item_knn", data, model__shrik=1.0)
    with pytest.raises(StoreError, match="no bundle 'nothing-here'"):
        recray.open("nothing-here:1")
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        getattr(recray, "fit" + "t")


def test_settings_are_changed_by_either_spelling(data: recray.Dataset) -> None:
    changes: dict[str, Any] = {"model.shrink": 3.0}
    dotted = recray.fit("item_knn", data, **changes)
    model = recray.fit("item_knn", data, model__shrink=3.0, refit=False)
    assert run_record(dotted.bundle).settings["model"] == run_record(model.bundle).settings["model"]
    assert dotted.metrics["ndcg@10"] == model.metrics["ndcg@10"]


def test_a_version_that_is_published_answers_and_measures_the_same(
    data: recray.Dataset, knn: recray.Model
) -> None:
    assert "notebook-item_knn" not in Store().applications()
    kept = knn.publish()
    assert (kept.reference, repr(knn).splitlines()[0].strip()) == (
        "notebook-item_knn:1",
        "notebook-item_knn (not published)",
    )
    opened = recray.open(kept.reference)
    assert opened.recommend(["u3", "u4"]).equals(knn.recommend(["u3", "u4"]))
    assert opened.metrics == knn.metrics
    both = recray.compare([knn, opened], data)
    assert both.differences.row(0)[2:] == (0.0, 0.0, 0.0, 1.0)
    with pytest.raises(StoreError, match="is published"):
        kept.publish()
    with pytest.raises(StoreError, match="no production version yet"):
        recray.open("notebook-item_knn")


def test_all_kinds_stand_in_one_table(data: recray.Dataset, knn: recray.Model) -> None:
    narrow = ("two_tower", {"model.embedding_dim": 8, "loop.epochs": 1})
    found = recray.compare(["popularity", narrow, knn, knn], data, seeds=2)
    names = ["popularity", "two_tower, model.embedding_dim 8, loop.epochs 1"]
    names += ["item_knn", "item_knn #2"]
    ndcg = found.metrics.filter(metric="ndcg@10")
    assert ndcg["model"].to_list() == names
    assert ndcg["seeds"].to_list() == [1, 2, 1, 1]
    assert ndcg["mean"].to_list()[2] == pytest.approx(knn.metrics["ndcg@10"])
    assert len(found.differences) == 6
    assert (found.differences["mean"] >= 0).all()
    assert found.card == knn.card
    page = found._repr_html_()
    assert page.startswith("<pre")
    for name in ("popularity", "differences of ndcg@10", "leave-one-out"):
        assert name in page


def test_what_was_measured_otherwise_is_refused(data: recray.Dataset, knn: recray.Model) -> None:
    with pytest.raises(ConfigError, match=r"split: 'leave-one-out' and 'global-time"):
        recray.compare(["popularity", knn], data, split="global-time")
    with pytest.raises(ConfigError, match="metric 'ndgc@10' is not measured, did you mean 'ndcg@10'"):
        recray.compare(["popularity", knn], data, metric="ndgc@10")


def test_a_ranker_builds_on_what_is_published(data: recray.Dataset, knn: recray.Model) -> None:
    retriever = recray.fit("popularity", data).publish()
    assert retriever.bundle.manifest.name == "notebook-popularity"
    ranker = recray.fit("gbdt_ranker", data, retriever="notebook-popularity", model__rounds=3)
    assert ranker.bundle.manifest.name == "notebook-ranker"
    assert len(ranker.recommend("u1", k=5)) == 5
    assert recray.compare([ranker, retriever], data).metrics["model"].unique().len() == 2


def test_importing_the_package_imports_nothing_else() -> None:
    program = "import recray, sys; print(sorted(m for m in sys.modules if m.startswith('recray')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['recray']"


def test_the_handbook_page_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks, one after the other, where there are such files."""
    rng = np.random.default_rng(0)
    people = ["anna", "ben", *(f"u{n}" for n in range(30))]
    lines = ["user_id,item_id,timestamp"]
    for at, who in enumerate(people):
        liked = rng.choice(np.arange(at % 2, 40, 2), 8, replace=False)
        lines += [f"{who},sku-{item},{1_700_000_000 + 60 * at + 3_600 * n}" for n, item in enumerate(liked)]
    (tmp_path / "events.csv").write_text("\n".join(lines))
    products = ["item_id,title", *(f"sku-{n},Product {n}" for n in range(42))]
    (tmp_path / "products.csv").write_text("\n".join(products))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", (REPO / "docs" / "api.md").read_text(), re.S):
        exec(compile(block, "docs/api.md", "exec"), names)
    lists = names["lists"]
    assert isinstance(lists, pl.DataFrame)
    assert len(lists) == 15
    assert lists.filter(user="zoe")["fallback"].to_list() == ["popular"] * 5
    assert Store().names("shop-item_knn") == {"production": 1}
