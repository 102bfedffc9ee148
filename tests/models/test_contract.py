"""What every registered retriever must do, on data whose answer is known (see ``tests.planted``)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import safetensors.torch
import torch

from recray.config import ConfigError, from_dict, to_dict
from recray.contract import CountLearner, Learner, Retriever, VectorRetriever
from recray.data.batches.neighbours import WholeGraph
from recray.models import build, config_of
from recray.recipes import RECIPES
from recray.recipes.retriever import RetrieverRecipe
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
    "ss4rec": {"dim": 32, "channels": 32, "mamba_states": 8, "dropout": 0.0},
}
BATCHES: dict[str, Callable[..., Any]] = {
    "decoder": planted_sequences,
    "sasrec": planted_sequences,
    "ss4rec": planted_sequences,
    "gat": planted_surroundings,
}
Model: TypeAlias = Any  # an nn.Module that is a Retriever; Python has no name for both at once
DEEP = {"decoder", "sasrec", "ss4rec", "gat"}  # take small steps

# Popularity cannot know what a user likes: it is held to everything but that.
TASTELESS = {"popularity"}


def new(name: str) -> Model:
    model: Model = build(name, config_for(name), SCHEMAS.get(name, SCHEMA))
    if hasattr(model, "set_semantic_ids"):
        model.set_semantic_ids(SEMANTIC_IDS)
    return model


def config_for(name: str) -> Any:
    return from_dict(config_of(name), CONFIGS.get(name, {}))


def learn(name: str, model: Model, steps: int = 150) -> None:
    if isinstance(model, CountLearner):
        model.count(*planted_history())
        return
    weights = model.parameters()
    assert isinstance(model, Learner)
    optimizer = torch.optim.Adam(weights, lr=0.005 if name in DEEP else 0.05)
    for step in range(steps):
        loss = model.loss(BATCHES.get(name, planted_pairs)(64, seed=step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if hasattr(model, "refresh"):
        model.refresh(WholeGraph(planted_graph()))


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
    assert isinstance(model, CountLearner) != isinstance(model, Learner)


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


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no model 'two-tower', did you mean 'two_tower'"):
        build("two-tower", {}, SCHEMA)
    with pytest.raises(ConfigError, match="no setting 'embeding_dim'.*did you mean 'embedding_dim'"):
        build("two_tower", {"embeding_dim": 3}, SCHEMA)
