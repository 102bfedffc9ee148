"""From item content to a published map: deterministic, resumable, and able to take new items."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recray.bundles.codes import QUALITY, REPORT, read_codes
from recray.data.content.further_items import read_items
from recray.pipelines.semantic_ids import publish_semantic_ids
from recray.pipelines.train import train
from recray.recipes.rqvae import RQVAE_RECIPE
from recray.schema import DataError
from recray.store import Bundle, Store, StoreError, read_history
from recray.train.context import LaunchConfig
from tests.recipes.test_rqvae import run_of

LOCAL = LaunchConfig(where="local")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def rqvae(store: Store) -> Bundle:
    return train(RQVAE_RECIPE, run_of(), LOCAL, store).bundle


@pytest.fixture(scope="module")
def published(rqvae: Bundle, store: Store) -> Bundle:
    return publish_semantic_ids(rqvae, store)


def test_the_map_names_every_item_once_and_back(published: Bundle, rqvae: Bundle) -> None:
    dataset = RQVAE_RECIPE.open(run_of()).dataset
    raw_ids, ids = read_codes(published)
    assert raw_ids == dataset.items["raw_id"].to_list()
    assert ids.sizes[:3] == (16, 16, 16)
    assert all(ids.items(codes) == [item] for item, codes in enumerate(ids.codes_IL.tolist()))
    assert published.manifest.requires == {"rqvae": rqvae.reference}
    assert published.manifest.config["digest"] == ids.digest


def test_the_report_has_curve_usage_and_checks(published: Bundle) -> None:
    html = published.path(REPORT).read_text(encoding="utf-8")
    assert html.count("<svg") == 4
    for text in (
        "synthetic: semantic ids",
        "Reconstruction error while training",
        "Items of each code",
        "perplexity",
    ):
        assert text in html
    quality = json.loads(published.path(QUALITY).read_text())
    assert quality["num_items"] == 1498
    assert quality["collision_rate"] == published.manifest.metrics["collision_rate"]
    assert published.manifest.metrics["without_content"] == 0


def test_the_curve_is_kept_with_the_weights(rqvae: Bundle) -> None:
    history = read_history(rqvae)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert history[-1]["reconstruction"] < history[0]["reconstruction"]
    assert {"usage_3", "perplexity_1", "entropy", "collision_rate", "largest_collision"} <= history[0].keys()
    assert rqvae.manifest.metrics["reconstruction"] == pytest.approx(history[-1]["reconstruction"], rel=1e-5)


def test_the_same_run_gives_the_same_codes(published: Bundle, store: Store) -> None:
    again = train(RQVAE_RECIPE, run_of(), LOCAL, store).bundle
    assert read_codes(publish_semantic_ids(again, store))[1].digest == read_codes(published)[1].digest


def test_new_items_get_codes_by_their_content(
    rqvae: Bundle, published: Bundle, store: Store, tmp_path: Path
) -> None:
    dataset = RQVAE_RECIPE.open(run_of()).dataset
    old_ids = read_codes(published)[1]
    twin = dataset.items[[7]].with_columns(raw_id=pl.lit("new-1"))  # says what item 7 says
    path = tmp_path / "new.parquet"
    twin.write_parquet(path)
    raw_ids, ids = read_codes(publish_semantic_ids(rqvae, store, read_items(path)))
    assert raw_ids == [*dataset.items["raw_id"].to_list(), "new-1"]
    assert np.array_equal(ids.codes_IL[:-1], old_ids.codes_IL)
    assert ids.codes_IL[-1, :3].tolist() == ids.codes_IL[7, :3].tolist()
    assert ids.codes_IL[-1, 3] > ids.codes_IL[7, 3]


def test_wrong_new_items_are_refused(rqvae: Bundle, store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="further items need a column raw_id; there are title"):
        publish_semantic_ids(rqvae, store, pl.DataFrame({"title": ["x"]}))
    known = pl.DataFrame({"raw_id": ["1"], "title": ["again"]})
    with pytest.raises(DataError, match="raw id '1' stands for several items"):
        publish_semantic_ids(rqvae, store, known)
    with pytest.raises(DataError, match=r"items come as \.parquet, \.csv, \.tsv"):
        read_items(tmp_path / "items.xlsx")
    with pytest.raises(DataError, match="no readable table of items"):
        read_items(tmp_path / "missing.csv")


def test_a_csv_gives_the_codes_that_the_typed_table_gives(
    rqvae: Bundle, store: Store, tmp_path: Path
) -> None:
    twin = RQVAE_RECIPE.open(run_of()).dataset.items[[7]].with_columns(raw_id=pl.lit("007"))
    twin.write_parquet(tmp_path / "new.parquet")
    flat = twin.with_columns(pl.col("genres").list.join("|"))
    flat.write_csv(tmp_path / "new.csv")
    flat.write_csv(tmp_path / "new.tsv", separator="\t")
    for ending in ("parquet", "csv", "tsv"):
        raw_ids, ids = read_codes(publish_semantic_ids(rqvae, store, read_items(tmp_path / f"new.{ending}")))
        assert raw_ids[-1] == "007"
        assert ids.codes_IL[-1, :3].tolist() == ids.codes_IL[7, :3].tolist(), ending
    twin.with_columns(raw_id=pl.lit(9007), year=pl.lit(2022.0)).write_parquet(tmp_path / "numbers.parquet")
    raw_ids, ids = read_codes(publish_semantic_ids(rqvae, store, read_items(tmp_path / "numbers.parquet")))
    assert (raw_ids[-1], ids.codes_IL[-1, :3].tolist()) == ("9007", ids.codes_IL[7, :3].tolist())


def test_columns_of_new_items_that_do_not_fit_are_told(
    rqvae: Bundle, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for year in ("soon", 1995.5):
        wrong = pl.DataFrame({"raw_id": ["x"], "title": [300], "year": [year]})
        with pytest.raises(
            DataError, match=f"column 'year' of the further items has '?{year}'? where.* Int32"
        ):
            publish_semantic_ids(rqvae, store, wrong)
    with pytest.raises(DataError, match="bring at least one of title, text, description, year, genres"):
        publish_semantic_ids(rqvae, store, pl.DataFrame({"raw_id": ["x"], "colour": ["red"]}))
    with pytest.raises(DataError, match="row 1499 of 1499 items has no raw id"):
        publish_semantic_ids(rqvae, store, pl.DataFrame({"raw_id": [None], "title": ["x"]}))
    caplog.clear()
    numbers = pl.DataFrame({"raw_id": ["x", "y"], "title": [300, 301]})  # words that no item has
    metrics = publish_semantic_ids(rqvae, store, numbers).manifest.metrics
    assert "lack columns that the data set has: year, genres, text" in caplog.text
    assert "nothing is known of 2 further items (the first is 'x'): their codes say nothing" in caplog.text
    assert metrics["without_content"] == pytest.approx(2 / 1500)


def test_only_an_rqvae_assigns_codes(published: Bundle, store: Store) -> None:
    with pytest.raises(StoreError, match="is a 'semantic_ids': name a bundle of `recray train rqvae`"):
        publish_semantic_ids(published, store)


def test_other_data_than_it_was_trained_on_is_refused(rqvae: Bundle, store: Store) -> None:
    def write(folder: Path) -> None:
        for file in rqvae.manifest.files:
            (folder / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(rqvae.folder / file, folder / file)

    manifest = rqvae.manifest
    assert manifest.run is not None
    other = store.publish(
        "other",
        write,
        model="rqvae",
        config=manifest.config,
        schema=manifest.schema,
        run={**manifest.run, "data_hash": "0" * 64},
    )
    with pytest.raises(DataError, match="trained on other data than synthetic is now"):
        publish_semantic_ids(other, store)


def test_a_bundle_needs_a_history_or_none(rqvae: Bundle, store: Store) -> None:
    """A map can be published from weights whose curve nobody kept."""
    run = run_of()
    data = RQVAE_RECIPE.open(run)
    model = RQVAE_RECIPE.new(run, data).eval()
    draft = RQVAE_RECIPE.draft(run, data, model, RQVAE_RECIPE.measure(run, data, model))
    bare = store.publish(**vars(replace(draft, run=rqvae.manifest.run)))
    assert read_history(bare) == []
    bundle = publish_semantic_ids(bare, store)
    assert bundle.path(REPORT).read_text(encoding="utf-8").count("<svg") == 2
