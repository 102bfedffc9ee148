"""The decoder on a CUDA device: the Triton path of its jagged attention gives the CPU's numbers."""

from typing import Any

import pytest
import torch

from recray.batch import SequenceBatch
from recray.train.context import Context
from recray.train.loop import LoopConfig, fit
from recray.train.optim import OptimConfig
from tests.models.test_decoder import VARIANTS, decoder, queries, sequences

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
ROWS = [[1, 2], [3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]


@pytest.mark.parametrize("changes", [v for v in VARIANTS if "encoder" not in v], ids=str)
def test_loss_gradients_and_answers_agree_with_the_cpu(changes: dict[str, Any]) -> None:
    batch = sequences(ROWS, [1, 2, 1], [0, 1, 2])
    cuda = torch.device("cuda")
    on_cpu, on_gpu = decoder(**changes), decoder(**changes).to(cuda)
    losses = [on_cpu.loss(batch)["loss"], on_gpu.loss(batch.to(cuda))["loss"]]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-4)
    for a, b in zip(on_cpu.parameters(), on_gpu.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        torch.testing.assert_close(b.grad.cpu(), a.grad, atol=1e-3, rtol=1e-2)
    asked = queries([[1, 2, 3], [4], [7, 8, 9, 10, 11, 12, 13]])
    scores = on_gpu.score_items(asked.to(cuda)).cpu()
    torch.testing.assert_close(scores, on_cpu.score_items(asked), atol=1e-2, rtol=0)


def test_mixed_precision_trains() -> None:
    class Batches:
        def num_steps(self) -> int:
            return 20

        def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> SequenceBatch:
            return sequences(ROWS, [1, 1, 1], [0, 1, 2])

    model, context = decoder(), Context(device=torch.device("cuda"))
    before = decoder().loss(Batches().batch(0, 0))["loss"].item()
    config = LoopConfig(epochs=2, patience=0, precision="bfloat16", metric="none")
    measure = lambda _: {"none": (0.0, 1.0)}  # noqa: E731
    fit(model, Batches(), measure, config=config, optim=OptimConfig(lr=1e-2), context=context)
    assert model.cpu().eval().loss(Batches().batch(0, 0))["loss"].item() < before / 2
