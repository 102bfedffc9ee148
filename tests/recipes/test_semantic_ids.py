"""From item content to a published map: deterministic, resumable, and able to take new items."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from recray.bundles.codes import HISTORY, QUALITY, REPORT, RUN, read_codes, read_json
from recray.config import ConfigError
from recray.data.content.vectors import ContentConfig
from recray.launch.semantic_ids import train_codebooks
from recray.models.quantizer import QuantizerConfig
from recray.models.rqvae import RQVAE, RQVAEConfig
from recray.recipes.retrieval import DataConfig
from recray.recipes.semantic_ids import (
    RQVAE_PRESETS,
    ContentBatches,
    RQVAERun,
    content_of,
    publish_rqvae,
    publish_semantic_ids,
    read_items,
    train_rqvae,
)
from recray.schema import DataError
from recray.store.bundle import Bundle
from recray.store.manifest import StoreError
from recray.store.store import Store
from recray.train.context import Context, LaunchConfig
from recray.train.loop import LoopConfig, TrainingError


def run_of(**quantizer: Any) -> RQVAERun:
    codes = QuantizerConfig(codebook_size=16, revive_every=5, **quantizer)
    return RQVAERun(
        data=DataConfig(dataset="synthetic"),
        content=ContentConfig(dim=32),
        model=RQVAEConfig(hidden_dims=(32,), latent_dim=8, quantizer=codes),
        loop=LoopConfig(epochs=4, batch_size=256, metric="reconstruction", goal="min", patience=0),
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def rqvae(store: Store) -> Bundle:
    return train_codebooks(run_of(), LaunchConfig(where="local"), store)


@pytest.fixture(scope="module")
def published(rqvae: Bundle, store: Store) -> Bundle:
    return publish_semantic_ids(rqvae, store)


def test_every_item_comes_once_an_epoch_whatever_the_workers() -> None:
    content_IF = torch.arange(103.0)[:, None]
    batches = ContentBatches(content_IF, 25, seed=3)
    assert batches.num_steps() == 5
    orders = []
    for epoch in (0, 1):
        alone = [batches.batch(epoch, step) for step in range(5)]
        orders.append(torch.cat([batch.content_BF for batch in alone])[:, 0])
        assert torch.equal(orders[-1].sort().values, content_IF[:, 0])
        for step, batch in enumerate(alone):
            shares = [batches.batch(epoch, step, rank, 3) for rank in range(3)]
            assert torch.equal(torch.cat([share.content_BF for share in shares]), batch.content_BF)
            assert {share.total for share in shares} == {batch.size}
    assert not torch.equal(*orders)
    again = ContentBatches(content_IF, 25, seed=3).batch(1, 4)
    assert torch.equal(again.content_BF, batches.batch(1, 4).content_BF)


def test_the_map_names_every_item_once_and_back(published: Bundle, rqvae: Bundle) -> None:
    dataset, _ = content_of(run_of())
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
    quality = read_json(published, QUALITY)
    assert quality["num_items"] == 1498
    assert quality["collision_rate"] == published.manifest.metrics["collision_rate"]
    assert published.manifest.metrics["without_content"] == 0


def test_the_curve_is_kept_with_the_weights(rqvae: Bundle) -> None:
    history = read_json(rqvae, HISTORY)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert history[-1]["reconstruction"] < history[0]["reconstruction"]
    assert {"usage_3", "perplexity_1", "entropy", "collision_rate", "largest_collision"} <= history[0].keys()
    assert rqvae.manifest.metrics["reconstruction"] == pytest.approx(history[-1]["reconstruction"], rel=1e-5)


def test_the_same_run_gives_the_same_codes(published: Bundle, store: Store) -> None:
    again = train_codebooks(run_of(), LaunchConfig(where="local"), store)
    assert read_codes(publish_semantic_ids(again, store))[1].digest == read_codes(published)[1].digest


def test_near_equal_items_meet_in_one_batch() -> None:
    content_IF = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    batches = ContentBatches(torch.cat([content_IF, content_IF + 1e-4]), 100, seed=0)
    met = 0
    for step in range(10):
        gaps_BB = torch.cdist(content_BF := batches.batch(0, step).content_BF, content_BF)
        met += int((gaps_BB < 0.01).sum()) - len(content_BF)
    assert met >= 2 * 480  # of 500 pairs; a slice's edge may part one


class Interrupted(Exception):
    pass


def trained(run: RQVAERun, folder: Path, resume: Path | None = None, stop_after: int = 99) -> RQVAE:
    """Trains, keeping each checkpoint as ``folder/<epoch>``."""

    def report(metrics: dict[str, float], checkpoint: Path | None) -> None:
        assert checkpoint is not None
        shutil.copytree(checkpoint, folder / f"{metrics['epoch']:.0f}")
        if metrics["epoch"] == stop_after:
            raise Interrupted

    return train_rqvae(run, Context(resume_from=resume, report=report))


def test_resume_continues_temperature_weights_and_curve(tmp_path: Path) -> None:
    run = run_of(estimator="gumbel", temperature_steps=20)
    (tmp_path / "whole").mkdir()
    whole = trained(run, tmp_path / "whole")
    with pytest.raises(Interrupted):
        trained(run, tmp_path / "parts", stop_after=2)
    resumed = trained(run, tmp_path / "parts", resume=tmp_path / "parts" / "2")
    assert resumed.quantizer.temperature() == whole.quantizer.temperature()
    assert resumed.quantizer.temperature() < run.model.quantizer.temperature_start
    assert int(resumed.quantizer.step) == int(whole.quantizer.step) > 0
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    curves = [json.loads((tmp_path / part / "4" / HISTORY).read_text()) for part in ("whole", "parts")]
    assert curves[0] == curves[1]


def test_a_collapse_stops_the_run_and_names_the_level() -> None:
    run = replace(run_of(), alarm=1.0, alarm_after_steps=1)
    codes = replace(run.model.quantizer, codebook_size=600, revive_every=0)  # too many for these items
    run = replace(run, model=replace(run.model, quantizer=codes))
    with pytest.raises(TrainingError, match=r"level \d collapsed: \d+\.\d% of its codes are in use"):
        train_rqvae(run, Context())


def test_new_items_get_codes_by_their_content(
    rqvae: Bundle, published: Bundle, store: Store, tmp_path: Path
) -> None:
    dataset, _ = content_of(run_of())
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
    twin = content_of(run_of())[0].items[[7]].with_columns(raw_id=pl.lit("007"))
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
    with pytest.raises(DataError, match="bring at least one of title, text, year, genres"):
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
    with pytest.raises(StoreError, match="is a 'semantic_ids': name a bundle of jobs/train_rqvae.py"):
        publish_semantic_ids(published, store)


def test_the_alarm_waits_for_its_step() -> None:
    run = replace(run_of(), alarm=1.0, alarm_after_steps=1000)
    codes = replace(run.model.quantizer, codebook_size=600, revive_every=0)
    run = replace(run, model=replace(run.model, quantizer=codes), loop=replace(run.loop, epochs=1))
    trained = train_rqvae(run, Context())
    assert 0 < int(trained.quantizer.step) < 1000  # it came to its end, unalarmed


def test_other_data_than_it_was_trained_on_is_refused(rqvae: Bundle, store: Store) -> None:
    def write(folder: Path) -> None:
        for file in rqvae.manifest.files:
            (folder / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(rqvae.folder / file, folder / file)
        saved = read_json(rqvae, RUN)
        (folder / RUN).write_text(json.dumps({**saved, "dataset_hash": "0" * 64}))

    manifest = rqvae.manifest
    other = store.publish("other", write, model="rqvae", config=manifest.config, schema=manifest.schema)
    with pytest.raises(DataError, match="trained on other data than synthetic is now"):
        publish_semantic_ids(other, store)


def test_a_bundle_needs_a_history_or_none(rqvae: Bundle, store: Store) -> None:
    """A map can be published from weights whose curve nobody kept."""
    run = run_of()
    torch.manual_seed(0)
    model = RQVAE(run.model, content_of(run)[1].schema).eval()
    bundle = publish_semantic_ids(publish_rqvae(run, model, [], store), store)
    assert bundle.path(REPORT).read_text(encoding="utf-8").count("<svg") == 2


def test_presets_name_their_data_and_refuse_nonsense() -> None:
    assert all(run.data.dataset == name for name, (_, run) in RQVAE_PRESETS.items() if name != "custom")
    with pytest.raises(ConfigError, match="alarm must be a share"):
        replace(run_of(), alarm=2.0)
