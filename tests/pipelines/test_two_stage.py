"""The served list, measured offline: the same stages, the same numbers, and what the options change."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from recray.batch import EvalExamples, Jagged, QueryBatch
from recray.bundles.freshness import read_ages, read_ranges
from recray.bundles.promotion import promote
from recray.bundles.ranker import read_ranker
from recray.config import ConfigError
from recray.data.events.examples import eval_examples
from recray.data.events.split_data import DataConfig, SplitData, open_split
from recray.eval.ages import AGES_S, as_words
from recray.eval.lists import evaluate_lists
from recray.eval.protocol import require_same_card
from recray.features.candidates import CandidateConfig
from recray.models.gbdt import GBDTConfig
from recray.models.two_tower import TwoTowerConfig
from recray.ops.ann import IndexConfig
from recray.pipelines.train import train
from recray.pipelines.two_stage import measure_served
from recray.recipes.pairs import TWO_TOWER, TwoTowerRun
from recray.recipes.ranker import GBDT_RANKER, GBDTRankerRun, measure_stages
from recray.recipes.two_stage import TwoStage
from recray.schema import ProtocolCard
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.config import ServiceConfig
from recray.serve.place.pipeline import Pipeline
from recray.serve.rules.diversify import DiversityConfig
from recray.serve.rules.listed import Rules
from recray.serve.rules.per_category import PerCategoryConfig
from recray.serve.versions import open_served
from recray.store import Bundle, Store
from recray.train.context import LaunchConfig
from recray.train.loop import LoopConfig
from recray.train.optim import OptimConfig

LOCAL = LaunchConfig(where="local")
CANDIDATES = CandidateConfig(retrieved=30, popular=5)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """120 users in two tastes over 60 items, ten events each."""
    rng, rows = np.random.default_rng(0), []
    for user in range(120):
        items = 2 * rng.choice(30, size=10, replace=False) + user % 2
        times = np.sort(rng.integers(1_600_000_000, 1_600_900_000, size=10))
        rows += [(f"u{user}", f"i{item}", 4, int(t)) for item, t in zip(items, times, strict=True)]
    path = tmp_path_factory.mktemp("raw") / "tastes.csv"
    pl.DataFrame(rows, schema=["user", "item", "rating", "timestamp"], orient="row").write_csv(path)
    return DataConfig(dataset=f"{path}?name=tastes", split="leave-one-out")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECRAY_HOME", str(tmp_path_factory.mktemp("home")))
        yield Store()


@pytest.fixture(scope="module")
def ranker(config: DataConfig, store: Store) -> Bundle:
    run = TwoTowerRun(
        data=config,
        model=TwoTowerConfig(embedding_dim=16),
        loop=LoopConfig(epochs=5, batch_size=128),
        optim=OptimConfig(lr=0.02),
        index=IndexConfig(kind="exact"),
    )
    train(TWO_TOWER, run, LOCAL, store)
    trees = GBDTConfig(rounds=60, max_depth=6)
    ranking = GBDTRankerRun(data=config, candidates=CANDIDATES, model=trees, negatives=0)
    bundle = train(GBDT_RANKER, ranking, LOCAL, store).bundle
    store.promote(bundle.manifest.name, bundle.manifest.version)
    return bundle


@pytest.fixture(scope="module")
def data(config: DataConfig) -> SplitData:
    return open_split(config)


def service(ranker: Bundle, store: Store) -> ServiceConfig:
    return ServiceConfig(application=ranker.manifest.name, store=str(store.root))


def test_it_equals_the_evaluation_of_the_ranker(ranker: Bundle, store: Store, data: SplitData) -> None:
    stages = TwoStage(store.resolve(ranker.manifest.requires["retriever"]), data, CANDIDATES)
    offline = measure_stages(stages, read_ranker(ranker.measured), ks=(5, 10))
    served = measure_served(service(ranker, store), data.dataset, data.split, ks=(5, 10))
    examples, _ = eval_examples(data.dataset, data.split, "test")
    # Where the ranker ties, an evaluation averages over all orders and a list has one.
    scores_BI = stages.ranked_by(read_ranker(ranker.measured), examples.queries)
    scores_BI[examples.queries.history.rows_N(), examples.queries.history.values_N] = -torch.inf
    best_BK = scores_BI.sort(dim=1, descending=True).values[:, :11]
    distinct_B = (best_BK.diff(dim=1) != 0).all(dim=1).numpy()
    assert distinct_B.mean() > 0.5
    compared = 0
    for name, values_U in served.served.per_query.items():
        if not name.startswith(("filled", "diversity")):  # which an evaluation of scores has not
            np.testing.assert_allclose(
                values_U[distinct_B], offline.ranker.per_query[name][distinct_B], rtol=1e-12, err_msg=name
            )
            compared += 1
    assert compared == 14
    for name, values_U in served.first_stage.per_query.items():
        if not name.startswith(("filled", "diversity")):  # which an evaluation of scores has not
            np.testing.assert_allclose(values_U, offline.retriever.per_query[name], rtol=1e-12, err_msg=name)
    assert served.served.per_query["filled@10"].tolist() == [1.0] * len(distinct_B)


def test_the_card_says_what_was_served(ranker: Bundle, store: Store, data: SplitData) -> None:
    diverse = replace(service(ranker, store), rules=Rules(diversity=DiversityConfig(strength=0.8)))
    plain, spread = (
        measure_served(c, data.dataset, data.split, ks=(3, 10)) for c in (service(ranker, store), diverse)
    )
    assert spread.served.means()["ndcg@10"] != plain.served.means()["ndcg@10"]
    assert spread.served.scalars["coverage@3"] != plain.served.scalars["coverage@3"]
    assert spread.first_stage.means() == plain.first_stage.means()
    card = spread.served.card
    assert card.served.startswith("tastes-two_tower version 1")
    assert card.served.endswith("rules.diversity.strength=0.8")
    assert ProtocolCard.from_json(card.to_json()).served == card.served
    require_same_card(card, plain.served.card)  # what is measured is not how it is measured


def test_lists_of_an_old_log_are_those_of_its_end(ranker: Bundle, store: Store, data: SplitData) -> None:
    """Served to people, measured offline, and published with the version: all three say the same."""
    asked = service(ranker, store)
    young = measure_served(asked, data.dataset, data.split)
    ages = read_ages(ranker)
    assert [at.age_s for at in ages] == list(AGES_S)
    assert json.loads(ranker.path("measured/ages.json").read_text()) == [at._asdict() for at in ages]
    for at in ages:
        old = measure_served(asked, data.dataset, data.split, age_s=at.age_s)
        assert old.served.means()["ndcg@10"] == pytest.approx(at.both, rel=1e-12)
        assert old.first_stage.means()["ndcg@10"] == pytest.approx(at.first, rel=1e-12)
        gain = at.both - at.first
        assert gain >= 0.95 * (young.served.means()["ndcg@10"] - young.first_stage.means()["ndcg@10"])
        assert f"asked {as_words(at.age_s)} later" in old.served.card.served
    ranges = read_ranges(ranker)
    assert tuple(ranges) == read_ranker(ranker).feature_names
    assert all(one.low <= one.high for one in ranges.values() if one.low is not None and one.high is not None)


def test_past_the_age_at_which_the_ranker_helps_the_order_of_retrieval_stands(
    ranker: Bundle, store: Store, data: SplitData, tmp_path: Path
) -> None:
    ages = [at._asdict() for at in read_ages(ranker)]
    ages[1] |= {"both": ages[1]["first"] - 0.01, "high": -0.001}  # it was measured to be worse a day later
    other = Store(tmp_path / "store")
    shutil.copytree(store.root, other.root, dirs_exist_ok=True)

    def write(folder: Path) -> None:
        shutil.copytree(ranker.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest*"))
        (folder / "ages.json").write_text(json.dumps(ages))

    m = ranker.manifest
    aged = other.publish(
        m.name, write, model=m.model, config=m.config, card=m.card, metrics=m.metrics, requires=m.requires
    )
    with pytest.raises(
        ConfigError, match="served 1 d after its newest event .* promote it anyway with --force"
    ):
        promote(other, m.name, aged.manifest.version)
    promote(other, m.name, aged.manifest.version, force=True)
    pipeline = Pipeline(open_served(other, m.name))
    end = pipeline.known_until
    assert end == int(data.dataset.timestamps_N.max()) + 1
    user = str(data.dataset.users["raw_id"][0])
    for later, skipped in ((0, []), (3_600, []), (3_601, [{"stage": "rank", "reason": "too old"}])):
        answer = pipeline.recommend(RecommendRequest(user_id=user, k=5, request_time=end + later))
        assert answer["skipped"] == skipped
        assert answer["age_s"] == later
        assert len(answer["items"]) == 5
    scores = [item["score"] or 0.0 for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)  # the retriever's


def test_rules_are_measured(ranker: Bundle, store: Store, data: SplitData) -> None:
    rules = Rules(per_category=PerCategoryConfig(at_most=1, column="raw_id"))  # each item its own category
    same = measure_served(replace(service(ranker, store), rules=rules), data.dataset, data.split)
    plain = measure_served(service(ranker, store), data.dataset, data.split)
    assert same.served.means() == plain.served.means()
    assert "at_most=1" in same.served.card.served


def test_what_it_may_have_learned_is_refused(ranker: Bundle, store: Store, data: SplitData) -> None:
    asked = service(ranker, store)
    with pytest.raises(ConfigError, match="learned from the validation part: measure on test"):
        measure_served(asked, data.dataset, data.split, target="validation")
    other = replace(data.split, name="random")
    with pytest.raises(ConfigError, match=r"asked here: split leave-one-out, here random\. .* --data"):
        measure_served(asked, data.dataset, other)
    manifest = replace(data.dataset.manifest, hash="0" * 64)
    changed = replace(data.dataset, manifest=manifest)
    with pytest.raises(ConfigError, match=r"asked here: its events or its tables of items and users have"):
        measure_served(asked, changed, data.split)


def test_short_lists_earn_nothing_for_what_they_do_not_show() -> None:
    nothing = torch.empty(0, dtype=torch.int64)
    queries = QueryBatch(
        torch.arange(3), Jagged(nothing, torch.zeros(4, dtype=torch.int64)), nothing, torch.zeros(3)
    )
    examples = EvalExamples(queries, Jagged.from_rows([[4], [4], [4, 0]]))
    card = ProtocolCard(dataset="x", dataset_hash="x", split="x", target="test", relevance="all", k_core=0)
    lists = [np.array([2, 4]), np.array([], np.int64), np.array([0])]
    counts_I = np.array([4, 1, 1, 1, 1])
    found = evaluate_lists(lists, examples, card, counts_I, ks=(3,))
    assert found.per_query["recall@3"].tolist() == [1.0, 0.0, 0.5]
    assert found.per_query["mrr@3"].tolist() == [0.5, 0.0, 1.0]
    assert found.per_query["filled@3"].tolist() == pytest.approx([2 / 3, 0.0, 1 / 3])
    assert found.per_query["novelty@3"].tolist() == pytest.approx([3.0, 0.0, 1.0])  # shares 1/8 and 4/8
    assert found.scalars["coverage@3"] == pytest.approx(3 / 5)
    assert "auc" not in found.per_query
