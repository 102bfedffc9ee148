"""From semantic ids in the store to a decoder that is trained, published, reopened and extended."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from recray.bundles.codes import CODES, LEVELS, write_codes
from recray.bundles.decoder import load_decoder, read_generative, write_generative
from recray.bundles.naming import bundle_name
from recray.config import ConfigError
from recray.data.events.examples import eval_examples
from recray.data.events.split_data import DataConfig, open_split
from recray.launch import launch
from recray.models.decoder import Decoder, DecoderConfig
from recray.pipelines.compare import compare_models
from recray.pipelines.extend_decoder import extend
from recray.pipelines.train import train
from recray.recipes.decoder import DECODER, DecoderRun
from recray.schema import SemanticSchema
from recray.semantic_ids import SemanticIds, disambiguate
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.pipeline import Pipeline
from recray.serve.versions import open_served
from recray.store import Bundle, Store, StoreError
from recray.train.context import Context, LaunchConfig
from recray.train.loop import LoopConfig
from recray.train.optim import OptimConfig

LOCAL = LaunchConfig(where="local")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """100 users in two tastes over 40 items, eight events each."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(100):
        items = 2 * rng.choice(20, size=8, replace=False) + user % 2
        rows += [(f"u{user}", f"i{item}", 4, 1_600_000_000 + 100 * n) for n, item in enumerate(items)]
    path = tmp_path_factory.mktemp("raw") / "generative.csv"
    pl.DataFrame(rows, schema=["user", "item", "rating", "timestamp"], orient="row").write_csv(path)
    return DataConfig(dataset=f"{path}?name=generative")


def codes_of(raw_ids: list[str]) -> SemanticIds:
    """By taste and number, with collisions."""
    numbers = [int(raw[1:]) for raw in raw_ids]
    return disambiguate(np.array([[n % 2, n // 2 % 4, n // 8 % 2] for n in numbers]), (2, 4, 2))


def publish_map(store: Store, name: str, raw_ids: list[str], ids: SemanticIds) -> Bundle:
    return store.publish(
        name, lambda folder: write_codes(folder, raw_ids, ids), model="semantic_ids", config={}
    )


@pytest.fixture(scope="module")
def semantic_ids(data: DataConfig) -> Bundle:
    dataset = open_split(data).dataset
    raw_ids = dataset.items["raw_id"].to_list()
    return publish_map(Store(), bundle_name(dataset.name, "semantic-ids"), raw_ids, codes_of(raw_ids))


@pytest.fixture(scope="module")
def run(data: DataConfig, semantic_ids: Bundle) -> DecoderRun:
    return DecoderRun(
        data=data,
        version=str(semantic_ids.manifest.version),
        model=DecoderConfig(dim=32, num_heads=2, feedforward_dim=64, max_items=7),
        optim=OptimConfig(lr=5e-3),
        loop=LoopConfig(epochs=8, batch_size=32, patience=0),
        validation_users=50,
    )


@pytest.fixture(scope="module")
def published(run: DecoderRun) -> Bundle:
    return train(DECODER, run, LOCAL, Store()).bundle


def test_it_learns_and_is_measured_under_the_common_card(run: DecoderRun, published: Bundle) -> None:
    # A random order of the 12 unseen items of the right taste gives 10 / 12, of all 33 unseen ones 10 / 33.
    assert published.manifest.metrics["hit@10"] > 0.7
    assert 0 <= published.manifest.metrics["exact_share"] <= 1
    assert published.manifest.card is not None
    assert published.manifest.card.split == "leave-one-out"
    assert published.manifest.requires["semantic_ids"] == DECODER.open(run).bundle.reference


def test_what_is_opened_answers_like_what_was_trained(run: DecoderRun, published: Bundle) -> None:
    files = read_generative(published)
    served = load_decoder(published, files.codes)
    assert files.items["raw_id"].to_list() == open_split(run.data).dataset.items["raw_id"].to_list()
    assert isinstance(published.manifest.schema, SemanticSchema)
    assert files.codes.digest == published.manifest.schema.codes_digest
    assert int(files.item_counts_I.sum()) == len(open_split(run.data).dataset)
    assert int(read_generative(published.measured).item_counts_I.sum()) == 600
    assert isinstance(served, Decoder)


def test_it_answers_known_users_from_what_they_did(run: DecoderRun, published: Bundle) -> None:
    version = published.manifest.version
    pipeline = Pipeline(open_served(Store(), published.manifest.name, version))
    right = 0
    for user in range(20):
        answer = pipeline.recommend(RecommendRequest(user_id=f"u{user}", k=5))
        shown = [item["item_id"] for item in answer["items"]]
        dataset = open_split(run.data).dataset
        row = dataset.users["raw_id"].to_list().index(f"u{user}")
        seen = dataset.items["raw_id"].gather(dataset.item_ids_N[dataset.user_ids_N == row]).to_list()
        assert answer["fallback"] is None
        assert len(shown) == 5
        assert not set(shown) & set(seen)
        right += sum(int(item[1:]) % 2 == user % 2 for item in shown)
    assert right > 80


def test_a_run_continues_to_the_same_weights(run: DecoderRun, tmp_path: Path) -> None:
    short = replace(run, loop=replace(run.loop, epochs=2, checkpoint_every_steps=2))
    whole = DECODER.work(short, Context()).state_dict()

    class Killed(Exception):
        pass

    def die(_: dict[str, float], folder: Path | None) -> None:
        assert folder is not None
        folder.rename(tmp_path / "checkpoint")
        raise Killed

    with pytest.raises(Killed):
        DECODER.work(short, Context(report=die))
    resumed = DECODER.work(short, Context(resume_from=tmp_path / "checkpoint")).state_dict()
    assert all(torch.equal(resumed[name], weight) for name, weight in whole.items())
    assert DECODER.restore(short, DECODER.open(short), tmp_path / "checkpoint").training is False


@pytest.mark.ray
def test_two_ray_workers_learn_what_one_process_learns(run: DecoderRun, ray_cluster: None) -> None:
    still = replace(run.model, dropout=0.0, user_dropout=0.0)
    optim = OptimConfig(method="sgd", lr=0.1)
    exact = replace(run, model=still, optim=optim, loop=replace(run.loop, epochs=2))
    weights = []
    for config in (LOCAL, LaunchConfig(workers=2)):
        done = launch(DECODER.work, exact, config, "generative")
        weights.append(DECODER.restore(exact, DECODER.open(exact), done.checkpoint).state_dict())
    for name, alone in weights[0].items():
        torch.testing.assert_close(weights[1][name], alone, atol=1e-5, rtol=1e-4)


def test_bidirectional_runs_train_one_target_per_window(run: DecoderRun) -> None:
    one = replace(run, model=replace(run.model, encoder="bidirectional"), loop=replace(run.loop, epochs=1))
    assert isinstance(DECODER.work(one, Context()), Decoder)


def test_it_stands_in_one_table_with_the_others(run: DecoderRun, monkeypatch: pytest.MonkeyPatch) -> None:
    short = replace(run, loop=replace(run.loop, epochs=1))
    monkeypatch.setitem(DECODER.presets, run.data.dataset, ("here", short))
    rows = compare_models(
        DataConfig(dataset=run.data.dataset, split="leave-one-out"), ["popularity", "decoder"], 2
    )
    assert [(row.model, row.seed) for row in rows] == [("popularity", 0), ("decoder", 0), ("decoder", 1)]
    assert len({row.evaluation.card for row in rows}) == 1
    with pytest.raises(ConfigError, match="'rqvae' does not rank the catalogue.* its own job measures it"):
        compare_models(DataConfig(dataset=run.data.dataset, split="leave-one-out"), ["rqvae"], 1)


def test_no_map_is_answered_with_how_to_make_one(run: DecoderRun) -> None:
    with pytest.raises(StoreError, match=r"needs semantic ids, and no bundle 'absent'.*recray train rqvae"):
        DECODER.open(replace(run, semantic_ids="absent"))


def test_the_map_of_another_catalogue_is_refused(run: DecoderRun, published: Bundle) -> None:
    raw_ids = [f"i{n}" for n in range(50, 90)]
    publish_map(Store(), "other-semantic-ids", raw_ids, codes_of(raw_ids))
    with pytest.raises(StoreError, match=r"is a 'decoder', no map of semantic ids"):
        DECODER.open(replace(run, semantic_ids="generative-decoder", version="latest"))
    with pytest.raises(ConfigError, match=r"other-semantic-ids version 1 .* for another catalogue than gen"):
        DECODER.open(replace(run, semantic_ids="other-semantic-ids", version="latest"))


def damaged(published: Bundle, name: str, change: Callable[[Path], object]) -> Bundle:
    """Published again with files that were changed before: each file is whole, together they disagree."""
    files = read_generative(published)
    manifest = published.manifest

    def write(folder: Path) -> None:
        write_generative(folder, load_decoder(published, files.codes), files)
        change(folder)

    return Store().publish(name, write, model="decoder", config=manifest.config, schema=manifest.schema)


def test_a_map_that_its_weights_were_not_trained_on_is_refused(published: Bundle) -> None:
    def other_map(folder: Path) -> None:
        ids = read_generative(published).codes
        raw_ids = pl.read_parquet(folder / CODES)["raw_id"].to_list()
        write_codes(folder, raw_ids, replace(ids, codes_IL=ids.codes_IL[::-1].copy()))

    with pytest.raises(StoreError, match=r"its weights are for the semantic ids .*, the map beside them is"):
        read_generative(damaged(published, "other-map", other_map))


def test_codes_that_are_not_their_digest_are_refused(published: Bundle) -> None:
    def forge(folder: Path) -> None:
        header = json.loads((folder / LEVELS).read_text())
        (folder / LEVELS).write_text(json.dumps({**header, "digest": "0" * 64}))

    with pytest.raises(StoreError, match="its codes have digest"):
        read_generative(damaged(published, "forged", forge))


def test_weights_with_codes_of_another_version_are_refused(published: Bundle) -> None:
    codes = read_generative(published).codes
    other = replace(codes, codes_IL=codes.codes_IL[::-1].copy())
    with pytest.raises(StoreError, match="its weights hold other semantic ids than the map"):
        load_decoder(published, other)


def test_what_is_no_decoder_is_refused(semantic_ids: Bundle) -> None:
    with pytest.raises(StoreError, match="is a 'semantic_ids', no decoder"):
        read_generative(semantic_ids)


def test_new_items_are_found_by_their_codes_without_training(
    run: DecoderRun, published: Bundle, semantic_ids: Bundle
) -> None:
    raw_ids = [*open_split(run.data).dataset.items["raw_id"].to_list(), "i100", "i101"]
    known = read_generative(published).codes
    # i100 has the content codes of the even items 8 and 24, i101 those of the odd 9 and 25.
    further = disambiguate(np.vstack([known.content_codes(), [[0, 0, 1], [1, 0, 1]]]), known.sizes[:3])
    grown = publish_map(Store(), semantic_ids.manifest.name, raw_ids, further)
    bundle = extend(published.manifest.name, str(published.manifest.version), "latest", Store())
    files = read_generative(bundle)
    model = load_decoder(bundle, files.codes)
    assert bundle.manifest.requires["semantic_ids"] == grown.reference
    assert bundle.manifest.parent == published.manifest.version
    assert bundle.manifest.metrics == {}
    assert files.items["raw_id"].to_list()[-2:] == ["i100", "i101"]
    assert files.item_counts_I[-2:].tolist() == [0, 0]
    assert torch.equal(model.codes.weight, load_decoder(published, known).codes.weight)
    split = open_split(run.data)
    queries = eval_examples(split.dataset, split.split, "test")[0].queries
    even_B = torch.tensor([int(u[1:]) % 2 == 0 for u in split.dataset.users["raw_id"]])
    scores_BI = model.score_items(queries)
    gap_B = (scores_BI[:, 40] - scores_BI[:, 41]) * (1 - 2 * (~even_B[queries.user_ids_B]).float())
    assert (gap_B > 0).float().mean() > 0.8  # who likes even items likes the new even one better


def test_a_map_that_renamed_known_codes_does_not_extend(published: Bundle, semantic_ids: Bundle) -> None:
    known = read_generative(published)
    renamed = replace(known.codes, codes_IL=known.codes.codes_IL[::-1].copy())
    publish_map(Store(), semantic_ids.manifest.name, known.items["raw_id"].to_list(), renamed)
    with pytest.raises(ConfigError, match="is no extension of the map"):
        extend(published.manifest.name, str(published.manifest.version), "latest", Store())
