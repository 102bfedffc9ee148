"""The decoder against slow forms of itself: one target at a time, one item at a time, one head at a time."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recray.batch import Jagged, QueryBatch, SequenceBatch
from recray.config import ConfigError
from recray.models.decoder import Decoder, DecoderConfig
from recray.models.transformer import EncoderLayer, Rotary
from recray.ops.jagged_attention import attend, group_rows
from recray.schema import SemanticSchema
from recray.semantic_ids import SemanticIds, disambiguate

NUM_ITEMS, NUM_USERS = 50, 10
IDS = disambiguate(np.random.default_rng(0).integers(0, 5, (NUM_ITEMS, 3)), (5, 5, 5))
VARIANTS: list[dict[str, Any]] = [
    {},
    {"encoder": "bidirectional"},
    {"softmax": "codebook"},
    {"separators": True},
    {"history_tokens": "items"},
    {"user_buckets": 0},
]
HISTORIES = [[1, 2, 3], [4], [7, 8, 9, 10, 11, 12, 13], []]


def decoder(ids: SemanticIds = IDS, **changes: Any) -> Decoder:
    torch.manual_seed(0)
    config = DecoderConfig(
        **{"dim": 16, "num_heads": 2, "feedforward_dim": 32, "max_items": 5, "user_buckets": 3, **changes}
    )
    schema = SemanticSchema(
        num_users=NUM_USERS, num_items=ids.num_items, code_sizes=ids.sizes, codes_digest=ids.digest
    )
    model = Decoder(config, schema)
    model.set_semantic_ids(ids)
    return model.eval()


def queries(histories: list[list[int]], user_ids: list[int] | None = None) -> QueryBatch:
    history = Jagged.from_rows(histories)
    users_B = torch.tensor(user_ids or range(len(histories)))
    return QueryBatch(users_B, history, torch.zeros_like(history.values_N), torch.zeros_like(users_B))


def sequences(rows: list[list[int]], first_target: list[int], user_ids: list[int]) -> SequenceBatch:
    items = Jagged.from_rows(rows)
    times_N = torch.arange(len(items.values_N))
    return SequenceBatch(torch.tensor(user_ids), items, times_N, torch.tensor(first_target))


@torch.no_grad()
def brute_force(model: Decoder, user_id: int, history: list[int]) -> Tensor:
    """log p of every item by the training path: no cache, no trie, no beams."""
    history = history[-model.config.max_items :]
    rows = [[*history, item] for item in range(NUM_ITEMS)]
    batch = sequences(rows, [len(history)] * NUM_ITEMS, [user_id] * NUM_ITEMS)
    logits, codes_GL = model._teacher_forced(batch)
    return sum(
        (x.log_softmax(-1)[torch.arange(NUM_ITEMS), codes_GL[:, level]] for level, x in enumerate(logits)),
        start=torch.zeros(NUM_ITEMS),
    )


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_beam_search_equals_brute_force_scoring_of_every_item(changes: dict[str, Any]) -> None:
    model = decoder(**changes)
    asked = queries(HISTORIES, [0, -1, 2, 3])
    found = model.generate(asked, NUM_ITEMS, beams=NUM_ITEMS)
    for row, (user_id, history) in enumerate(zip(asked.user_ids_B.tolist(), HISTORIES, strict=True)):
        if not history:
            continue  # training never sees an empty history; that generation copes is tested below
        scores_I = brute_force(model, user_id, history)
        best = scores_I.sort(descending=True)
        assert found.item_ids_BK[row].tolist() == best.indices.tolist()
        torch.testing.assert_close(found.scores_BK[row], best.values, atol=1e-5, rtol=0)
    assert found.exact_B.all()


@pytest.mark.parametrize("beams", [10, 20])
def test_an_answer_that_says_it_is_exact_is_the_brute_force_answer(beams: int) -> None:
    model = decoder()
    with torch.no_grad():
        model.codes.weight *= 4  # a sharp distribution, of which few prefixes hold most
    histories = [[a, b] for a, b in itertools.islice(itertools.permutations(range(NUM_ITEMS), 2), 100)]
    found = model.generate(queries(histories, [-1] * 100), 5, beams=beams)
    assert found.exact_B.any()
    for row in found.exact_B.nonzero().flatten().tolist():
        best = brute_force(model, -1, histories[row]).topk(5)
        assert found.item_ids_BK[row].tolist() == best.indices.tolist()


@pytest.mark.parametrize("changes", [v for v in VARIANTS if "encoder" not in v], ids=str)
def test_one_causal_pass_is_every_target_alone(changes: dict[str, Any]) -> None:
    """Nothing of a later item reaches an earlier target, and a row's neighbours do not matter."""
    model = decoder(**changes)
    rows = [[1, 2], [3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]
    with torch.no_grad():
        together, codes_GL = model._teacher_forced(sequences(rows, [1, 2, 1], [0, 1, 2]))
        targets = [(0, 1), (1, 2), (1, 3), *((2, t) for t in range(1, 6))]
        assert codes_GL.tolist() == [IDS.codes_IL[rows[b][t]].tolist() for b, t in targets]
        for g, (b, t) in enumerate(targets):
            alone, _ = model._teacher_forced(sequences([rows[b][: t + 1]], [t], [b]))
            for level in range(4):
                torch.testing.assert_close(together[level][g], alone[level][0], atol=1e-5, rtol=1e-4)


def test_the_loss_is_minus_the_log_probability_of_the_targets() -> None:
    model = decoder()
    batch = sequences([[1, 2], [3, 4, 5]], [1, 1], [0, 1])
    wanted = [
        -brute_force(model, user_id, history)[target].item()
        for user_id, history, target in [(0, [1], 2), (1, [3], 4), (1, [3, 4], 5)]
    ]
    assert model.loss(batch)["loss"].item() == pytest.approx(sum(wanted) / 3, rel=1e-5)
    heavy = batch._replace(weights_N=torch.tensor([7, 0.5, 7, 2.5, 0]))
    expected = (0.5 * wanted[0] + 2.5 * wanted[1]) / 3
    assert model.loss(heavy)["loss"].item() == pytest.approx(expected, rel=1e-5)


def slow_layer(layer: EncoderLayer, x_TD: Tensor, causal_block: int | None) -> Tensor:
    """A pre-norm layer on one row, from the papers: heads, positions and rotations in Python loops."""

    def norm(x_TD: Tensor, weight: Tensor) -> Tensor:
        eps = torch.finfo(x_TD.dtype).eps
        return x_TD / (x_TD.square().mean(-1, keepdim=True) + eps).sqrt() * weight

    def turned(x: Tensor, position: int) -> Tensor:
        half = len(x) // 2
        out = torch.empty_like(x)
        for i in range(half):
            angle = position * 10000.0 ** (-2 * i / len(x))
            c, s = math.cos(angle), math.sin(angle)
            out[i], out[half + i] = x[i] * c - x[half + i] * s, x[i] * s + x[half + i] * c
        return out

    attention, (num_tokens, dim) = layer.attention, x_TD.shape
    heads, size = attention.num_heads, dim // attention.num_heads
    h_TD = norm(x_TD, layer.norm_attention.weight)
    q_TD, kv_TE = h_TD @ attention.query.weight.T, h_TD @ attention.key_value.weight.T
    out_TD = torch.zeros_like(x_TD)
    for head, t in itertools.product(range(heads), range(num_tokens)):
        part = slice(head * size, (head + 1) * size)
        limit = num_tokens - 1
        if causal_block is not None:
            limit = -(-t // causal_block) * causal_block
        keys = range(min(limit, num_tokens - 1) + 1)
        score = torch.stack(
            [turned(q_TD[t, part], t) @ turned(kv_TE[s, part], s) / math.sqrt(size) for s in keys]
        ).softmax(0)
        out_TD[t, part] = sum(p * kv_TE[s, dim:][part] for p, s in zip(score, keys, strict=True))
    x_TD = x_TD + out_TD @ attention.out.weight.T
    h_TD = norm(x_TD, layer.norm_mlp.weight)
    hidden = torch.nn.functional.gelu(h_TD @ layer.mlp.expand.weight.T)
    return x_TD + hidden @ layer.mlp.contract.weight.T


@pytest.mark.parametrize("block", [None, 3])
@torch.no_grad()
def test_a_layer_over_jagged_rows_is_the_slow_layer_over_each(block: int | None) -> None:
    torch.manual_seed(1)
    layer = EncoderLayer(8, 2, 16, 0.0)
    lengths = [4, 4, 7, 7, 10, 1]
    offsets_B = torch.tensor([0, *itertools.accumulate(lengths)])
    x_ND = torch.randn(sum(lengths), 8)
    position_N = torch.cat([torch.arange(n) for n in lengths])
    limits_N = None if block is None else (position_N + block - 1) // block * block
    groups = group_rows(offsets_B, offsets_B, limits_N, None if block is None else position_N)
    found_ND = layer(x_ND, Rotary(4).angles(position_N), groups)
    for start, stop in itertools.pairwise(offsets_B.tolist()):
        torch.testing.assert_close(found_ND[start:stop], slow_layer(layer, x_ND[start:stop], block))


def test_padding_sends_no_gradient_and_no_nan() -> None:
    offsets_B = torch.tensor([0, 1, 6])
    x_NHD = torch.randn(6, 2, 4, requires_grad=True)
    groups = group_rows(
        offsets_B, offsets_B, torch.tensor([0, 0, 1, 2, 3, 4]), torch.tensor([0, 0, 1, 2, 3, 4])
    )
    attend(x_NHD, x_NHD, x_NHD, groups)[:1].sum().backward()
    assert x_NHD.grad is not None
    assert x_NHD.grad[1:].abs().max() == 0
    assert x_NHD.grad.isfinite().all()


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_every_weight_learns(changes: dict[str, Any]) -> None:
    model = decoder(dropout=0.2, **changes).train()
    rows, first = [[1, 2], [3, 4, 5], [6, 7, 8, 9]], [1, 1, 1]
    if changes.get("encoder") == "bidirectional":
        first = [1, 2, 3]
    model.loss(sequences(rows, first, [0, 1, 2]))["loss"].backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().max() > 0, name


def test_only_the_newest_items_are_read() -> None:
    model = decoder()
    long = model.score_items(queries([[40, 41, 1, 2, 3, 4, 5]], [1]))
    assert torch.equal(long, model.score_items(queries([[1, 2, 3, 4, 5]], [1])))
    history = Jagged.from_rows([[1, 2, 3], [], [4], [5, 6]])
    cut = history.keep(history.newest_N(2))
    assert cut.values_N.tolist() == [2, 3, 4, 5, 6]
    assert cut.offsets_B.tolist() == [0, 2, 2, 3, 5]


def test_an_empty_history_is_answered_from_the_user_token_alone() -> None:
    found = decoder().generate(queries([[]], [1]), 10)
    assert (found.item_ids_BK >= 0).all()
    assert found.scores_BK.isfinite().all()


def test_ten_thousand_requests_bring_items_only_and_none_that_is_excluded() -> None:
    model, generator = decoder(), np.random.default_rng(0)
    histories = [
        generator.choice(NUM_ITEMS, generator.integers(1, 8), replace=False).tolist() for _ in range(10_000)
    ]
    asked = queries(histories, [-1] * 10_000)
    for start in range(0, 10_000, 1000):
        part = asked.slice(start, start + 1000)
        ids_BK = model.generate(part, 10, beams=10, exclude=part.history).item_ids_BK
        assert ((ids_BK >= 0) & (ids_BK < NUM_ITEMS)).all()
        for row, history in enumerate(histories[start : start + 1000]):
            shown = ids_BK[row].tolist()
            assert len(set(shown)) == 10
            assert not set(shown) & set(history)


def test_items_that_share_an_id_share_its_probability() -> None:
    ids = SemanticIds(codes_IL=np.array([[0, 1], [0, 1], [1, 0], [1, 1]]), sizes=(2, 2), disambiguated=False)
    scores_BI = decoder(ids).score_items(queries([[0, 2]], [0]))
    assert scores_BI[0, 0] == scores_BI[0, 1]
    assert scores_BI.isfinite().all()


def test_probabilities_over_the_catalogue_add_up_to_one() -> None:
    scores_BI = decoder(softmax="catalogue").score_items(queries(HISTORIES, [0, 1, 2, 3]))
    torch.testing.assert_close(scores_BI.exp().sum(1), torch.ones(4))


def test_new_codes_make_a_new_trie() -> None:
    model = decoder()
    model.generate(queries([[1]], [0]), 5)
    model.set_semantic_ids(disambiguate(IDS.codes_IL[::-1, :3].copy(), IDS.sizes[:3]))
    found = model.generate(queries([[1]], [0]), NUM_ITEMS, beams=NUM_ITEMS)
    torch.testing.assert_close(found.scores_BK[0], brute_force(model, 0, [1]).sort(descending=True).values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 18}, "multiple of 2 x 2 heads, got 18"),
        ({"encoder_layers": 0}, "encoder_layers must be at least 1, got 0"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"separators": True, "history_tokens": "items"}, "set history_tokens to codes"),
        ({"beams": 0}, "beams 0 >= 1"),
    ],
)
def test_configs_refuse_nonsense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decoder(**changes)
