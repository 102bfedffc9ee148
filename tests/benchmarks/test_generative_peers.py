"""The plain forms that the generative benchmark measures against give the decoder's own numbers."""

from typing import Any, Literal

import pytest
import torch

from benchmarks import generative_peers as peers
from benchmarks import generative_world as world
from recray.models.decoder import DecoderConfig

SMALL: dict[str, Any] = {
    "dim": 16,
    "num_heads": 2,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "feedforward_dim": 32,
    "dropout": 0.0,
}
CONFIGS = {
    "as in the paper": DecoderConfig(encoder="bidirectional", softmax="codebook", user_dropout=0.0, **SMALL),
    "causal": DecoderConfig(softmax="codebook", user_dropout=0.0, **SMALL),
    "items": DecoderConfig(softmax="codebook", history_tokens="items", user_dropout=0.0, **SMALL),
}


@pytest.mark.parametrize("encode_once", [True, False])
@pytest.mark.parametrize("softmax", ["codebook", "catalogue"])
def test_decoding_without_cache_finds_the_same_items(
    encode_once: bool, softmax: Literal["codebook", "catalogue"]
) -> None:
    model = world.decoder(DecoderConfig(softmax=softmax, **SMALL))
    queries, ids = world.queries(3), world.semantic_ids()
    found = model.generate(queries, 5, beams=5)
    for row, beams in enumerate(peers.decode(model, queries, 5, 5, encode_once=encode_once)):
        assert [ids.items(beam.codes)[0] for beam in beams] == found.item_ids_BK[row].tolist()
        scores = torch.tensor([beam.score for beam in beams])
        torch.testing.assert_close(scores, found.scores_BK[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_padded_and_jagged_rows_have_one_loss_and_one_gradient(name: str) -> None:
    model = world.decoder(CONFIGS[name]).train()
    batch = world.sequences(12, CONFIGS[name].encoder == "causal")
    losses = [model.loss(batch)["loss"], peers.padded_loss(model, batch.user_ids_B, batch)]
    jagged, padded = (
        torch.autograd.grad(loss, list(model.parameters()), allow_unused=True) for loss in losses
    )
    torch.testing.assert_close(losses[0], losses[1])
    for a, b in zip(jagged, padded, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("every_position", [True, False])
def test_batches_have_the_lengths_of_the_data(every_position: bool) -> None:
    batch = world.sequences(2000, every_position)
    lengths = batch.items.lengths_B()
    assert int(lengths.min()) >= 2
    assert int(lengths.max()) <= world.HISTORY + 1
    assert bool((lengths.diff() >= 0).all())
    assert bool((batch.first_target_B < lengths).all())
