"""Lists ahead of time: what a server would answer, whole whatever happened on the way."""

from pathlib import Path

import polars as pl
import pytest

from recray.cli import main
from recray.config import ConfigError, override
from recray.pipelines.recommend import BatchConfig, recommend_all
from recray.pipelines.train import train
from recray.recipes import RECIPES
from recray.schema import DataError
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.pipeline import Pipeline
from recray.serve.versions import open_served
from recray.store import Store, StoreError
from recray.train.context import LaunchConfig
from tests.pipelines.tiny import NUM_ITEMS, NUM_USERS, tiny_events

LOCAL = LaunchConfig(where="local")
CONFIG = BatchConfig(version="latest", k=5, users_per_part=16)
NAME = "batch-item_knn"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    events = tiny_events(tmp_path_factory.mktemp("raw"), "batch")
    run = override(RECIPES["item_knn"].default(f"{events}?name=batch"), {"seed": 0})
    train(RECIPES["item_knn"], run, LOCAL, Store())
    return Store()


def lists(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(sorted(folder.glob("part-*.parquet")))


def test_every_user_has_the_list_that_a_server_answers(store: Store, tmp_path: Path) -> None:
    done = recommend_all(NAME, CONFIG, tmp_path / "lists", store, LOCAL)
    assert (done.lists, done.new) == (NUM_USERS, NUM_USERS)
    found = lists(tmp_path / "lists")
    assert found["user"].n_unique() == NUM_USERS
    assert found["version"].unique().to_list() == [f"{NAME}:1"]
    pipeline = Pipeline(open_served(store, NAME, 1))
    assert pipeline.known_until
    for user in ("u0", "u17", "u59"):
        asked = RecommendRequest(user_id=user, k=5, request_time=pipeline.known_until + 1)
        answer = pipeline.recommend(asked)["items"]
        mine = found.filter(user=user)
        assert mine["place"].to_list() == [1, 2, 3, 4, 5]
        assert mine["item"].to_list() == [item["item_id"] for item in answer]
        assert mine["score"].to_list() == [item["score"] for item in answer]


def test_what_was_stopped_goes_on_without_a_gap_or_a_copy(store: Store, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        recommend_all(NAME, CONFIG, folder, store, LOCAL)
    parts = sorted(broken.glob("part-*.parquet"))
    parts[1].unlink()
    parts[3].rename(broken / ".part-000003.parquet.new")  # what a killed writer leaves
    before = parts[0].stat().st_mtime_ns
    done = recommend_all(NAME, CONFIG, broken, store, LOCAL)
    assert (done.lists, done.new) == (NUM_USERS, 16 + NUM_USERS % 16)
    assert parts[0].stat().st_mtime_ns == before
    assert lists(broken).equals(lists(whole))
    assert recommend_all(NAME, CONFIG, broken, store, LOCAL).new == 0


def test_a_folder_holds_lists_of_one_plan(store: Store, tmp_path: Path) -> None:
    recommend_all(NAME, CONFIG, tmp_path / "lists", store, LOCAL, ["u1", "a-stranger"])
    found = lists(tmp_path / "lists")
    assert found.filter(user="a-stranger")["fallback"].unique().to_list() == ["popular"]
    with pytest.raises(ConfigError, match="holds other lists, k 5 instead of 6: name a new"):
        recommend_all(
            NAME, override(CONFIG, {"k": 6}), tmp_path / "lists", store, LOCAL, ["u1", "a-stranger"]
        )
    with pytest.raises(ConfigError, match="holds other lists, number of lists 2 instead of 60"):
        recommend_all(NAME, CONFIG, tmp_path / "lists", store, LOCAL)
    with pytest.raises(ConfigError, match="holds something else"):
        recommend_all(NAME, CONFIG, tmp_path, store, LOCAL)


def test_items_that_resemble_each_item(store: Store, tmp_path: Path) -> None:
    recommend_all(NAME, override(CONFIG, {"similar": True}), tmp_path / "alike", store, LOCAL)
    found = lists(tmp_path / "alike")
    assert found.columns == ["item", "place", "similar", "score", "version"]
    assert not found.filter(pl.col("item") == pl.col("similar")).height
    assert NUM_ITEMS // 2 < found["item"].n_unique() <= NUM_ITEMS


def test_mistakes_are_sentences(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="user 'u1' is named twice"):
        recommend_all(NAME, CONFIG, tmp_path / "lists", store, LOCAL, ["u1", "u1"])
    with pytest.raises(StoreError, match="did you mean 'batch-item_knn'"):
        recommend_all("batch-item_kn", CONFIG, tmp_path / "lists", store, LOCAL)
    assert not (tmp_path / "lists").exists()
    assert main(["recommend", NAME, str(tmp_path / "x"), "--k", "0"]) == 2
    assert "k must be from 1 to 500, got 0" in capsys.readouterr().err
    (tmp_path / "users.csv").write_text("who\nu3\nu4\n")
    words = ["--version", "1", "--users", str(tmp_path / "users.csv"), "--launch.where", "local"]
    assert main(["recommend", NAME, str(tmp_path / "y"), *words]) == 0
    assert "2 lists in" in capsys.readouterr().out
