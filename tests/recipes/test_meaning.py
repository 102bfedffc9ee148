"""What events mean reaches every retriever: weights change what is learnt, choices what is asked."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from recray.config import ConfigError, override
from recray.data.events.examples import eval_examples
from recray.data.events.split_data import DataConfig, SplitData, split_as
from recray.data.source import ABSOLUTE_TIMES, ROW_NUMBERS
from recray.eval.evaluate import Evaluation
from recray.models.ease import EASEConfig
from recray.models.gat import GATConfig
from recray.models.gru4rec import GRU4RecConfig
from recray.models.hstu import HSTUConfig
from recray.models.ials import IALSConfig
from recray.models.lightgcn import LightGCNConfig
from recray.models.ncf import NCFConfig
from recray.models.sasrec import SASRecConfig
from recray.models.slim import SLIMConfig
from recray.models.ss4rec import SS4RecConfig
from recray.models.two_tower import TwoTowerConfig
from recray.recipes import RECIPES
from recray.recipes.at_once import EASERun, IALSRun, ItemKNNRun, PopularityRun, SLIMRun
from recray.recipes.decoder import DecoderRun
from recray.recipes.graph import GATRun, GraphData
from recray.recipes.lightgcn import LightGCNRun
from recray.recipes.pairs import NCFRun, TwoTowerRun
from recray.recipes.ranker import GBDTRankerRun
from recray.recipes.sequence import GRU4RecRun, HSTURun, SASRecRun, SS4RecRun
from recray.train.context import Context
from recray.train.loop import LoopConfig
from recray.train.run import Unmeasured
from tests.data.made import Row, dataset_of

LOOP = LoopConfig(epochs=2, batch_size=64)
RUNS: dict[str, Any] = {
    "popularity": PopularityRun(),
    "item_knn": ItemKNNRun(),
    "ease": EASERun(model=EASEConfig(l2=5.0, recency=4.0)),
    "slim": SLIMRun(model=SLIMConfig(l1=0.1, l2=2.0, recency=4.0)),
    "ials": IALSRun(model=IALSConfig(embedding_dim=8, iterations=3)),
    "two_tower": TwoTowerRun(model=TwoTowerConfig(embedding_dim=8), loop=LOOP, recency=3.0),
    "ncf": NCFRun(model=NCFConfig(factor_dim=4, mlp_dim=4, hidden_dims=(8,)), loop=LOOP, negatives=3),
    "lightgcn": LightGCNRun(model=LightGCNConfig(embedding_dim=8, layers=1), loop=LOOP, negatives=3),
    "gat": GATRun(model=GATConfig(embedding_dim=8, heads=2), loop=LOOP),
    "sasrec": SASRecRun(model=SASRecConfig(dim=8, num_layers=1, hidden_dim=8, max_items=5), loop=LOOP),
    "gru4rec": GRU4RecRun(model=GRU4RecConfig(dim=8, hidden_dim=8, max_items=5), loop=LOOP),
    "hstu": HSTURun(
        model=HSTUConfig(dim=8, num_layers=1, attention_dim=4, value_dim=4, max_items=5), loop=LOOP
    ),
    "ss4rec": SS4RecRun(
        model=SS4RecConfig(dim=8, num_blocks=1, channels=8, s5_states=2, mamba_states=2, max_items=5),
        loop=LOOP,
    ),
}
RNG = np.random.default_rng(0)
ROWS: list[Row] = [(user, int(RNG.integers(0, 30)), 100 * n + user) for user in range(40) for n in range(9)]
RATINGS = RNG.integers(1, 6, len(ROWS)).tolist()
TYPES = [("view", "view", "cart", "buy")[int(n)] for n in RNG.integers(0, 4, len(ROWS))]


@pytest.fixture(params=sorted(RUNS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(name: str, choices: DataConfig, rows: list[Row], **made: Any) -> SplitData:
    data = split_as(dataset_of(rows, **made), choices)
    return GraphData(data.dataset, data.split) if name == "gat" else data


def learnt(name: str, choices: DataConfig, rows: list[Row] = ROWS, **made: Any) -> tuple[Any, SplitData]:
    data = opened(name, choices, rows, **made)
    run = replace(RUNS[name], data=choices)
    return RECIPES[name].work(run, Context(), data=data), data


def figures(name: str, choices: DataConfig, **made: Any) -> Evaluation:
    model, data = learnt(name, choices, **made)
    found = RECIPES[name].measure(replace(RUNS[name], data=choices), data, model)
    assert isinstance(found, Evaluation)
    return found


def test_ratings_set_to_one_change_the_figures_where_they_weigh_and_only_there(name: str) -> None:
    def scores(weights: str, ratings: list[float]) -> list[float]:
        means = figures(name, DataConfig(weights=weights), ratings=ratings).means()
        return [value for metric, value in means.items() if metric != "popularity_bias@10"]

    ones = [1.0] * len(ROWS)
    if name != "gat":  # its messages carry ratings, whatever they weigh
        assert scores("equal", RATINGS) == scores("equal", ones)
    assert scores("rating", ones) == scores("equal", ones)
    assert scores("rating", RATINGS) != scores("rating", ones)


def test_only_proportions_of_weights_count(name: str) -> None:
    states = [
        learnt(name, DataConfig(weights=weights), types=TYPES)[0].state_dict()
        for weights in ("view=1,cart=2,buy=4", "view=4,cart=8,buy=16")
    ]
    factor = 4 if name == "popularity" else 1  # its scores are sums of the weights as given
    assert all(torch.equal(factor * states[0][key], states[1][key]) for key in states[0])


def test_every_model_learns_with_types_that_weigh_and_types_that_are_history(name: str) -> None:
    choices = DataConfig(weights="cart=1,buy=3", target=("buy",), seen="keep")
    found = figures(name, choices, types=TYPES)
    assert found.card.relevance == "buy, of users with training history"
    assert found.card.seen == "kept"
    assert found.card.num_users + sum(found.card.dropped.values()) == 40
    assert all(np.isfinite(values_U).all() for values_U in found.per_query.values())


RECENT = dict.fromkeys(("two_tower", "ncf", "lightgcn", "gat"), "recency")
RECENT |= dict.fromkeys(("item_knn", "ease", "slim", "ials"), "model.recency")


@pytest.mark.parametrize("name", RECENT)
def test_recency_counts_where_what_is_held_out_comes_later_and_only_there(name: str) -> None:
    """None is later under a random split, and who has no times has no order."""

    def auc(split: Any, recency: float, times: str = ABSOLUTE_TIMES) -> float:
        choices = DataConfig(split=split)
        run = override(RUNS[name], {"data": choices, RECENT[name]: recency})
        data = opened(name, choices, ROWS, times=times)
        model = RECIPES[name].work(run, Context(), data=data)
        return RECIPES[name].measure(run, data, model).means()["auc"]

    assert auc("leave-one-out", 2.0) != auc("leave-one-out", 0.0)
    assert auc("random", 2.0) == auc("random", 0.0)
    assert auc("leave-one-out", 2.0, ROW_NUMBERS) == auc("leave-one-out", 0.0, ROW_NUMBERS)


def test_a_version_says_the_recency_that_it_has() -> None:
    for split, recency in (("leave-one-out", 4.0), ("random", 0.0)):
        choices = DataConfig(split=split)  # type: ignore[arg-type]
        model, data = learnt("ease", choices)
        draft = RECIPES["ease"].draft(replace(RUNS["ease"], data=choices), data, model, Unmeasured())
        assert draft.config["recency"] == model.recency == recency


def test_what_weighs_nothing_is_never_learnt(name: str) -> None:
    """Two items that only views hold: nothing tells them from untrained ones."""
    rows = [*ROWS, (3, 30, 2), (4, 31, 3), (5, 30, 4)]
    types = [*("buy" if n % 2 else "cart" for n in range(len(ROWS))), "view", "view", "view"]
    model, data = learnt(name, DataConfig(weights="cart=1,buy=2"), rows, types=types)
    if not RECIPES[name].loop(RUNS[name]):
        examples, _ = eval_examples(data.dataset, data.split, "test")
        scores_BI = model.score_items(examples.queries)
        assert (scores_BI[:, 30:] <= scores_BI[:, :30].amin(dim=1, keepdim=True)).all()
        return
    run = replace(RUNS[name], data=DataConfig(weights="cart=1,buy=2"))
    batches = RECIPES[name].batches(run, data)  # type: ignore[attr-defined]
    for step in range(batches.num_steps()):
        batch = batches.batch(0, step)
        if name in ("sasrec", "gru4rec", "hstu", "ss4rec"):
            targets = batch.items.values_N[batch.is_target_N()]
            assert (batch.target_weights()[targets >= 30] == 0).all()
        else:
            assert ((batch.pairs if name == "gat" else batch).item_ids_B < 30).all()


EIGHT: list[Row] = [(u, (3 * u + n * (u % 3 + 1)) % 8, 10 * n + u) for u in range(24) for n in range(5)]


def test_a_catalogue_below_ten_items_is_trained_and_measured_at_any_k(name: str) -> None:
    choices = DataConfig(seen="keep")
    model, data = learnt(name, choices, EIGHT)
    assert data.dataset.num_items == 8
    run = replace(RUNS[name], data=choices, ks=(3, 10, 200))
    means = RECIPES[name].measure(run, data, model).means()
    assert means["recall@10"] == means["recall@200"] == 1.0
    assert means["recall@3"] <= 1.0
    assert means["coverage@10"] == 1.0


def test_a_user_who_has_everything_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    rows = [*EIGHT, *((24, item, 200 + item) for item in range(8)), (24, 0, 300), (24, 1, 301)]
    model, _ = learnt("ncf", DataConfig(seen="keep"), rows)
    assert "not learnt from are 'u24'" in caplog.text
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


@pytest.mark.parametrize("choices", [{"target": ("buy",), "seen": "keep"}, {"repeats": "merge"}])
def test_histories_that_end_with_what_they_looked_at_are_learnt_and_measured(
    name: str, choices: dict[str, Any]
) -> None:
    """Everybody looks around, then at one product, puts it into the cart and buys it: one purchase each."""
    rows: list[Row] = []
    for user in range(30):
        looked = [(user + n * n) % 15 for n in range(4)]
        bought = (7 * user + 3) % 15
        rows += [(user, item, 1000 * user + n) for n, item in enumerate([*looked, bought, bought, bought])]
    types = ["view", "view", "view", "view", "view", "cart", "buy"] * 30
    found = learnt(name, DataConfig(**choices), rows, types=types)
    run = replace(RUNS[name], data=DataConfig(**choices))
    for part in ("validation", "test"):
        evaluation = RECIPES[name].measure(run, found[1], found[0], part)
        assert evaluation.card is not None
        assert evaluation.card.num_users >= 10
        assert evaluation.means()["recall@10"] > 0


def test_validation_measures_the_list_that_the_metric_asks_for(name: str) -> None:
    if not RECIPES[name].loop(RUNS[name]):
        return
    run = override(RUNS[name], {"loop.metric": "recall@3"})
    reports: list[dict[str, float]] = []
    context = Context(report=lambda metrics, _: reports.append(metrics))
    RECIPES[name].work(run, context, data=opened(name, DataConfig(), ROWS))
    assert "recall@3" in reports[-1]
    assert "recall@10" not in reports[-1]


@pytest.mark.parametrize("kind", [TwoTowerRun, GATRun, SASRecRun, DecoderRun])
def test_metrics_and_lengths_are_checked_before_anything_is_read(kind: Any) -> None:
    with pytest.raises(ConfigError, match="did you mean 'recall@20'"):
        kind(loop=LoopConfig(metric="recal@20"))
    with pytest.raises(ConfigError, match="k must be at least 1, got 0"):
        kind(ks=(10, 0))
    if kind is GATRun:
        assert kind(loop=LoopConfig(metric="link_auc")).loop.metric == "link_auc"
    if kind is DecoderRun:
        with pytest.raises(ConfigError, match="'auc' is not measured"):
            kind(loop=LoopConfig(metric="auc"))


def test_everything_known_at_test_is_asked_of_models_that_learnt_it(name: str) -> None:
    model, data = learnt(name, DataConfig())
    split = replace(data.split, known="everything")
    with pytest.raises(ConfigError, match="Fit it again with that part first"):
        eval_examples(data.dataset, split, "test")
    again = replace(split, train_N=split.train_N | split.validation_N, validation_N=np.zeros(len(ROWS), bool))
    folded = replace(data, split=again)
    found, plain = (RECIPES[name].measure(RUNS[name], each, model) for each in (folded, data))
    assert found.card is not None
    assert plain.card is not None
    assert set(found.card.differences(plain.card)) == {"known"}
    assert found.card.num_users == plain.card.num_users


@pytest.mark.parametrize("choices", [{"known": "training"}, {"known": "everything"}, {"weights": "rating"}])
def test_a_ranker_refuses_what_it_cannot_honour(choices: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(choices))):
        GBDTRankerRun(data=DataConfig(**choices))
