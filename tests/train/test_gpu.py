"""The loop on a CUDA device: it learns as on the CPU, also in mixed precision."""

from typing import Literal

import pytest
import torch

from recray.data.batches.rows import MemoryRows
from recray.models.two_tower import TwoTower, TwoTowerConfig
from recray.ops.embedding_bags import EmbeddingConfig, Placement
from recray.train.context import Context
from recray.train.loop import LoopConfig, fit
from recray.train.optim import OptimConfig
from tests.ops.embedding_world import Sharding
from tests.planted import SCHEMA, PlantedBatches, planted_queries
from tests.train.elastic_world import new_model, rows

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def trained(device: str, precision: Literal["float32", "bfloat16"]) -> TwoTower:
    torch.manual_seed(0)
    model = TwoTower(TwoTowerConfig(embedding_dim=8, dropout=0.0), SCHEMA)

    def validate(m: torch.nn.Module) -> dict[str, tuple[float, float]]:
        assert isinstance(m, TwoTower)
        batch = PlantedBatches().batch(99, 0).to(torch.device(device))
        return {"ndcg@10": (-float(m.loss(batch)["loss"]), 1.0)}

    config = LoopConfig(epochs=10, patience=0, precision=precision)
    context = Context(device=torch.device(device))
    fit(model, PlantedBatches(), validate, config=config, optim=OptimConfig(lr=0.05), context=context)
    return model


def test_float32_scores_agree_with_the_cpu() -> None:
    queries = planted_queries(list(range(10)))
    on_gpu = trained("cuda", "float32").score_items(queries.to(torch.device("cuda"))).cpu()
    torch.testing.assert_close(on_gpu, trained("cpu", "float32").score_items(queries), atol=1e-2, rtol=0)


def test_mixed_precision_finds_the_planted_preference() -> None:
    queries = planted_queries(list(range(10))).to(torch.device("cuda"))
    top_BK = trained("cuda", "bfloat16").score_items(queries).topk(3).indices.cpu()
    assert (top_BK % 2 == torch.arange(10)[:, None] % 2).float().mean() > 0.95


@pytest.mark.parametrize("sharding", ["auto", "column_wise"])
def test_embedding_tables_train_as_on_the_cpu(sharding: Sharding) -> None:
    def after_training(device: torch.device) -> dict[str, torch.Tensor]:
        model = new_model(Placement(device=device), EmbeddingConfig(sharding=sharding))
        config = LoopConfig(epochs=1, patience=0, metric="none")
        context, optim = Context(device=device), OptimConfig(lr=0.01)
        measure = lambda _: {"none": (0.0, 1.0)}  # noqa: E731
        fit(model, MemoryRows(rows(), 64), measure, config=config, optim=optim, context=context)
        return {name: value.cpu() for name, value in model.state_dict().items()}

    on_cpu, on_gpu = after_training(torch.device("cpu")), after_training(torch.device("cuda"))
    for name, value in on_cpu.items():
        torch.testing.assert_close(on_gpu[name], value, atol=2e-3, rtol=0, msg=(name + ": {}").format)
