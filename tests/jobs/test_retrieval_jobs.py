"""Prepare, train every retriever, index, rank, compare: each job from its command line to what it leaves."""

import json
from pathlib import Path

import polars as pl
import pytest

from recray.store import Store, read_history, run_record
from tests.jobs.world import NUM_ITEMS, NUM_USERS, ended, events_file, job, published, train

BRIEF = ("--launch.where", "local", "--loop.epochs", "2")


@pytest.fixture(scope="module")
def events(home: Path) -> str:
    return events_file(home)


@pytest.fixture(scope="module")
def two_tower(events: str) -> str:
    """What the job said; the retriever is published."""
    return train("two_tower", events, *BRIEF)


def test_prepare_leaves_a_folder_with_its_quality_report(events: str) -> None:
    said = job("prepare", events, "--item-content", "--content.dim", "8", "--content.sketch", "0")
    assert f"films: {NUM_USERS} users, {NUM_ITEMS} items, 480 interactions in " in said
    report = Path(said.split("quality report: ")[1].strip())
    assert "<html" in report.read_text()
    assert (report.parent / "content").is_dir()


def test_two_tower_is_measured_and_published(two_tower: str) -> None:
    assert "films, leave-one-out, test, 60 users" in two_tower
    assert "ndcg@10" in two_tower
    assert published(two_tower) == ["films-two_tower version 1"]
    assert "index_recall@" in two_tower


@pytest.mark.parametrize(
    ("model", "indexed"),
    [
        ("sasrec", True),
        ("ss4rec", True),
        ("gat", True),
        ("ncf", False),
        ("popularity", False),
        ("item_knn", False),
        ("ease", False),
        ("ials", True),
    ],
)
def test_retrievers_are_measured_and_published(model: str, indexed: bool, events: str) -> None:
    brief = BRIEF[:2] if model in ("popularity", "item_knn", "ease", "ials") else BRIEF
    said = train(model, events, *brief)
    assert "films, leave-one-out, test, 60 users" in said
    assert published(said) == [f"films-{model} version 1"]
    assert ("index_recall@" in said) == indexed
    assert [manifest.model for manifest in Store().versions(f"films-{model}")] == [model]


def test_gat_and_the_two_tower_are_compared_by_links(home: Path) -> None:
    films = events_file(home, "graph")
    options = (films, "--data.split", "random")
    said = job("compare_links", *options, "--launch.where", "local")
    assert "gat: links and ranking" in said
    assert "two_tower: links and ranking" in said


def test_another_index_is_another_version(two_tower: str) -> None:
    assert published(two_tower)
    said = job("build_index", "films-two_tower", "--version", "1", "--index.kind", "exact")
    assert published(said) == ["films-two_tower version 2"]
    assert "exact, {'index_recall@" in said
    assert [manifest.version for manifest in Store().versions("films-two_tower")] == [1, 2]


@pytest.mark.parametrize("ranker", ["ranker", "dlrm_ranker"])
def test_rankers_say_what_they_gain_and_are_promoted(
    ranker: str, two_tower: str, events: str, tmp_path: Path
) -> None:
    assert published(two_tower)
    written = tmp_path / "ranker.json"
    brief = ("--launch.where", "local", "--promote", "--json", written)
    said = train(ranker, events, *brief)
    name = "gbdt_ranker" if ranker == "ranker" else ranker
    assert f"retriever + {name} - retriever, ndcg@10: " in said
    version = Store().names("films-ranker")["production"]
    assert published(said) == [f"films-ranker version {version}"]
    document = json.loads(written.read_text())
    assert [row["model"] for row in document["rows"]] == ["retriever", f"retriever + {name}"]
    assert document["gain"]["low"] <= document["gain"]["mean"] <= document["gain"]["high"]


def test_what_has_no_job_of_its_own_is_trained_by_name(events: str) -> None:
    said = job("train", "mamba", events, *BRIEF)
    assert published(said) == ["films-mamba version 1"]
    assert "models: popularity, item_knn" in job("train", "--help")


def test_lists_for_everybody_lie_in_files(two_tower: str, events: str, tmp_path: Path) -> None:
    assert published(two_tower)
    options = ("--version", "latest", "--k", "3", "--launch.where", "local")
    said = job("recommend", "films-two_tower", tmp_path / "lists", *options)
    assert "60 lists in" in said
    [part] = (tmp_path / "lists").glob("part-*.parquet")
    assert pl.read_parquet(part)["user"].n_unique() == 60


def test_the_served_list_is_measured(two_tower: str, events: str) -> None:
    assert published(two_tower)
    options = (
        "--service.application",
        "films-two_tower",
        "--service.rules.diversity.strength",
        "0.5",
        "--version",
        "latest",
    )
    said = job("evaluate_served", events, *options)
    assert "served - first stage, ndcg@10: " in said
    assert "rules.diversity.strength=0.5" in said


def test_models_are_compared_with_their_curves(events: str, tmp_path: Path) -> None:
    plots = ("--plot", tmp_path / "bars.png", "--curves", tmp_path / "curves.png")
    models = ("--models", "popularity", "item_knn", "two_tower", "--seeds", "1")
    said = job("evaluate", events, *models, *plots, "--json", tmp_path / "rows.json")
    assert "protocol: leave-one-out, 60 users" in said
    for name in ("bars.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    found = {row["model"]: row["ndcg@10"]["mean"] for row in rows}
    assert found.keys() == {"popularity", "item_knn", "two_tower"}
    assert all(0 <= value <= 1 for value in found.values())


def test_a_file_name_with_a_space_is_no_obstacle(home: Path) -> None:
    films = events_file(home, "my films")
    assert published(train("popularity", films, *BRIEF[:2])) == ["my-films-popularity version 1"]


def test_another_index_says_so_and_keeps_the_history(two_tower: str) -> None:
    assert published(two_tower)
    said = job("build_index", "films-two_tower", "--version", "1", "--index.kind", "exact")
    [(_, _, version)] = [line.split(" ") for line in published(said)]
    bundle = Store().open("films-two_tower", version)
    assert run_record(bundle).settings["index"]["kind"] == "exact"
    assert [report["epoch"] for report in read_history(bundle)] == [1, 2]


def test_a_bundle_that_is_missing_is_said_before_ray_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    status, _, said = ended("serve", "nobodys")
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith("error: no bundle 'nobodys-ranker'")


def test_an_experiment_ends_in_one_page(events: str, tmp_path: Path) -> None:
    models = [{"model": "popularity"}, {"model": "item_knn", "settings": {"model.num_neighbors": 20}}]
    file = tmp_path / "experiment.json"
    file.write_text(json.dumps({"name": "tiny", "datasets": [events], "models": models}))
    said = job("experiment", str(file), *BRIEF[:2])
    page = Path(said.split("2 runs compared in ")[1].strip())
    assert "item_knn over popularity" in page.read_text() or "popularity over item_knn" in page.read_text()
    status, _, why = ended("experiment", str(tmp_path / "none.json"), *BRIEF[:2])
    assert (status, "none.json holds no experiment" in why) == (2, True)
