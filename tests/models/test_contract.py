"""What every registered retriever must do, on data whose answer is known (see ``tests.planted``)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import safetensors.torch
import torch

from recray.batch import FeatureTables
from recray.config import ConfigError, from_dict, to_dict
from recray.contract import ForgetsItems, Learner, Retriever, VectorRetriever, WholeLearner
from recray.data.batches.neighbours import WholeGraph
from recray.models import build, config_of
from recray.models.lightgcn import LightGCN
from recray.recipes import RECIPES
from recray.recipes.retriever import RetrieverRecipe
from recray.schema import Feature
from tests.planted import (
    NUM_ITEMS,
    NUM_USERS,
    SCHEMA,
    SEMANTIC_IDS,
    SEMANTIC_SCHEMA,
    planted_graph,
    planted_history,
    planted_pairs,
    planted_queries,
    planted_sequences,
    planted_surroundings,
)

RETRIEVERS = sorted({r.model_name for r in RECIPES.values() if isinstance(r, RetrieverRecipe)})

# What a model of this name is built for and learns from, where it is not the usual.
SCHEMAS = {"decoder": SEMANTIC_SCHEMA}
CONFIGS = {
    "decoder": {"dim": 32, "num_heads": 2, "feedforward_dim": 64, "dropout": 0.0},
    "sasrec": {"dim": 32, "hidden_dim": 64, "dropout": 0.0},
    "gru4rec": {"dim": 32, "hidden_dim": 32, "dropout": 0.0},
    "hstu": {"dim": 32, "attention_dim": 16, "value_dim": 16, "dropout": 0.0},
    "ss4rec": {"dim": 32, "channels": 32, "mamba_states": 8, "dropout": 0.0},
}
BATCHES: dict[str, Callable[..., Any]] = {
    "decoder": planted_sequences,
    "sasrec": planted_sequences,
    "gru4rec": planted_sequences,
    "hstu": planted_sequences,
    "ss4rec": planted_sequences,
    "gat": planted_surroundings,
}
Model: TypeAlias = Any  # an nn.Module that is a Retriever; Python has no name for both at once
DEEP = {"decoder", "sasrec", "gru4rec", "hstu", "ss4rec", "gat"}  # take small steps

# Popularity cannot know what a user likes: it is held to everything but that.
TASTELESS = {"popularity"}


def new(name: str) -> Model:
    model: Model = build(name, config_for(name), SCHEMAS.get(name, SCHEMA))
    if hasattr(model, "set_semantic_ids"):
        model.set_semantic_ids(SEMANTIC_IDS)
    return model


def config_for(name: str) -> Any:
    return from_dict(config_of(name), CONFIGS.get(name, {}))


def learn(name: str, model: Model, steps: int = 150, num_items: int = NUM_ITEMS) -> None:
    if isinstance(model, WholeLearner):
        model.learn(*planted_history())
        return
    if isinstance(model, LightGCN):
        model.set_graph(*planted_history())
    weights = model.parameters()
    assert isinstance(model, Learner)
    optimizer = torch.optim.Adam(weights, lr=0.005 if name in DEEP else 0.05)
    for step in range(steps):
        loss = model.loss(BATCHES.get(name, planted_pairs)(64, seed=step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if hasattr(model, "refresh"):
        model.refresh(*([] if isinstance(model, LightGCN) else [WholeGraph(planted_graph(num_items))]))


@pytest.fixture(scope="module", params=RETRIEVERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> Model:
    torch.manual_seed(0)
    built = new(name)
    learn(name, built)
    return built.eval()


def test_it_keeps_its_promises(model: Model) -> None:
    assert isinstance(model, Retriever)
    assert isinstance(model, WholeLearner) != isinstance(model, Learner)


def test_scores_cover_the_catalogue(model: Model) -> None:
    scores_BI = model.score_items(planted_queries([0, 3, 7]))
    assert scores_BI.shape == (3, NUM_ITEMS)
    assert scores_BI.dtype == torch.float32
    assert scores_BI.isfinite().all()


def test_it_finds_the_planted_preference(name: str, model: Model) -> None:
    if name in TASTELESS:
        pytest.skip("has no notion of a user's taste, by definition")
    users = list(range(NUM_USERS))
    top_BK = model.score_items(planted_queries(users)).topk(NUM_ITEMS // 2 - 2).indices
    assert (top_BK % 2 == torch.tensor(users)[:, None] % 2).float().mean() > 0.95


def test_a_query_gets_the_same_scores_alone_and_in_a_batch(model: Model) -> None:
    batch = model.score_items(planted_queries(list(range(NUM_USERS))))
    alone = model.score_items(planted_queries([7]))
    torch.testing.assert_close(batch[7:8], alone)


def test_an_unknown_user_is_served_from_its_history(name: str, model: Model) -> None:
    scores_BI = model.score_items(planted_queries([-1]))
    assert scores_BI.isfinite().all()
    if name not in TASTELESS:
        assert (scores_BI.topk(3).indices % 2 == 0).all()  # its history holds even items


def test_config_and_weights_rebuild_it(name: str, model: Model, tmp_path: Path) -> None:
    config = from_dict(config_of(name), to_dict(config_for(name)))
    safetensors.torch.save_file(model.state_dict(), tmp_path / "model.safetensors")
    rebuilt: Model = build(name, to_dict(config), SCHEMAS.get(name, SCHEMA))
    rebuilt.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    queries = planted_queries([1, 2, -1])
    assert torch.equal(rebuilt.eval().score_items(queries), model.score_items(queries))


def test_vectors_give_the_scores(model: Model) -> None:
    if not isinstance(model, VectorRetriever):
        pytest.skip("scores without vectors")
    queries = planted_queries([0, 5, -1])
    by_vectors_BI = model.query_vectors(queries) @ model.item_vectors().T
    torch.testing.assert_close(by_vectors_BI, model.score_items(queries))


COLD = (NUM_ITEMS, NUM_ITEMS + 1)  # items that nobody ever took: the first one says that it is even
EVEN_USERS, ODD_USERS = [0, 4, 8], [1, 5, 9]
PARITY = Feature(name="parity", kind="ids", size=3, width=1)
SAID = torch.tensor([[1 + i % 2] for i in range(NUM_ITEMS)] + [[1], [0]])


def learnt_with_cold_items(name: str, *, side_features: bool) -> Model:
    """As a recipe would: where a model reads side features, it forgets before it learns too."""
    torch.manual_seed(0)
    schema = replace(SCHEMA, num_items=NUM_ITEMS + len(COLD), item=(PARITY,) if side_features else ())
    config = config_for(name)
    if hasattr(config, "side_features"):
        config = replace(config, side_features=side_features)
    model: Model = build(name, config, schema)
    if side_features:
        model.set_side_features(FeatureTables({}, {"parity": SAID}))
        model.forget_items(torch.tensor(COLD))
    learn(name, model, num_items=schema.num_items)
    if isinstance(model, ForgetsItems):
        model.forget_items(torch.tensor(COLD))
    return model.eval()


def test_a_cold_item_is_never_above_a_learnt_one_by_accident(name: str) -> None:
    if name == "decoder":
        pytest.skip("knows every item by its content codes")
    model = learnt_with_cold_items(name, side_features=False)
    scores_BI = model.score_items(planted_queries([*EVEN_USERS, *ODD_USERS, -1]))
    lowest_B, cold_BC = scores_BI[:, :NUM_ITEMS].amin(1, keepdim=True), scores_BI[:, NUM_ITEMS:]
    assert (cold_BC < lowest_B if isinstance(model, ForgetsItems) else cold_BC <= lowest_B).all()
    if isinstance(model, VectorRetriever):
        assert not model.item_vectors()[list(COLD)].any()  # which no search is to find


def test_a_cold_item_is_found_by_what_it_says_of_itself(name: str) -> None:
    if not hasattr(config_for(name), "side_features"):
        pytest.skip("reads no side features")
    model = learnt_with_cold_items(name, side_features=True)
    even_BI, odd_BI = (model.score_items(planted_queries(users)) for users in (EVEN_USERS, ODD_USERS))
    says_even, says_nothing = COLD
    assert (even_BI[:, says_even] > even_BI[:, 1:NUM_ITEMS:2].amax(1)).all()  # above all odd ones
    assert (odd_BI[:, says_even] < odd_BI[:, 1:NUM_ITEMS:2].amin(1)).all()
    for scores_BI in (even_BI, odd_BI):
        assert (scores_BI[:, says_nothing] < scores_BI[:, :says_nothing].amin(1)).all()


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no model 'two-tower', did you mean 'two_tower'"):
        build("two-tower", {}, SCHEMA)
    with pytest.raises(ConfigError, match="no setting 'embeding_dim'.*did you mean 'embedding_dim'"):
        build("two_tower", {"embeding_dim": 3}, SCHEMA)
