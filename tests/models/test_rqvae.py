"""The RQ-VAE and its quantiser against slow loops written from the papers, with pinned codebooks."""

import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from recray.batch import ContentBatch
from recray.config import ConfigError, from_dict, to_dict
from recray.models import build
from recray.models.quantizer import (
    QuantizerConfig,
    ResidualQuantizer,
    distances,
    gumbel_softmax,
    kmeans,
    rotate,
    sinkhorn,
    straight_through,
)
from recray.models.rqvae import RQVAE, RQVAEConfig
from recray.schema import ContentSchema

SCHEMA = ContentSchema(content_dim=6, content_digest="made")
GRID = [[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]]  # the first level's codes
STEPS = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]  # and the second's


def pinned(**changes: Any) -> ResidualQuantizer:
    config = QuantizerConfig(levels=2, codebook_size=4, revive_every=0, **changes)
    quantizer = ResidualQuantizer(config, dim=2)
    with torch.no_grad():
        quantizer.codes_LCD.copy_(torch.tensor([GRID, STEPS]))
    return quantizer


def random_rows(rows: int, dim: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)) * 3


def model(spread: float = 0.1, hidden: tuple[int, ...] = (5,), **quantizer: Any) -> RQVAE:
    torch.manual_seed(0)
    codes = QuantizerConfig(levels=2, codebook_size=4, **quantizer)
    config = RQVAEConfig(hidden_dims=hidden, latent_dim=3, spread=spread, quantizer=codes)
    return RQVAE(config, SCHEMA)


def test_distances_are_exact() -> None:
    rows_BD, codes_CD = random_rows(5, 3), random_rows(4, 3, seed=1)
    squared_BC, angle_BC = distances(rows_BD, codes_CD, "l2"), distances(rows_BD, codes_CD, "cosine")
    for b, row in enumerate(rows_BD.tolist()):
        for c, code in enumerate(codes_CD.tolist()):
            dot = sum(x * y for x, y in zip(row, code, strict=True))
            squared = sum((x - y) ** 2 for x, y in zip(row, code, strict=True))
            assert squared_BC[b, c].item() == pytest.approx(squared, rel=1e-5)
            assert angle_BC[b, c].item() == pytest.approx(
                1 - dot / math.hypot(*row) / math.hypot(*code), abs=1e-6
            )


@pytest.mark.parametrize("kind", ["l2", "cosine"])
def test_a_row_far_from_the_origin_has_one_code_alone_and_in_any_batch(kind: Literal["l2", "cosine"]) -> None:
    rows_BD = 300 + torch.randn(1_000, 32, generator=torch.Generator().manual_seed(0))
    config = QuantizerConfig(levels=3, codebook_size=32, distance=kind)
    quantizer = ResidualQuantizer(config, dim=32).eval()
    quantizer.initialise(rows_BD, 0)
    codes_BL = quantizer.encode(rows_BD)
    for size in (1, 7, 100):
        parts = [quantizer.encode(part_BD) for part_BD in rows_BD.split(size)]
        assert torch.equal(torch.cat(parts), codes_BL)
    if kind == "l2":
        exact_BC = (rows_BD.double()[:, None] - quantizer.codebook(0).double()).square().sum(2)
        assert torch.equal(exact_BC.argmin(dim=1), codes_BL[:, 0])


def test_codes_are_the_nearest_at_each_level() -> None:
    rows_BD = torch.tensor([[0.9, 0.1], [4.0, 4.9], [3.2, -0.9], [-0.8, 3.2]])
    quantizer = pinned()
    assert quantizer.encode(rows_BD).tolist() == [[0, 1], [3, 2], [1, 3], [2, 3]]
    expected = [[1.0, 0.0], [4.0, 5.0], [3.0, -1.0], [-1.0, 3.0]]
    assert quantizer.decode(quantizer.encode(rows_BD)).tolist() == expected


def test_cosine_chooses_by_direction_alone() -> None:
    rows_BD = torch.tensor([[0.01, 0.001], [100.0, 90.0]])
    assert pinned(distance="cosine").encode(rows_BD)[:, 0].tolist() == [1, 3]
    assert pinned(distance="l2").encode(rows_BD)[:, 0].tolist() == [0, 3]


@pytest.mark.parametrize("estimator", ["ste", "rotation", "gumbel"])
def test_training_codes_are_those_of_inference(estimator: str) -> None:
    rows_BD = random_rows(50)
    quantizer = pinned(estimator=estimator).eval()
    done = quantizer(rows_BD)
    assert torch.equal(done.codes_BL, quantizer.encode(rows_BD))
    torch.testing.assert_close(done.vectors_BD, quantizer.decode(done.codes_BL))
    assert int(quantizer.step) == 0  # looking does not train


def test_straight_through_passes_gradients_unchanged() -> None:
    rows_BD, codes_BD, weight_BD = random_rows(4), random_rows(4, seed=1), random_rows(4, seed=2)
    rows_BD.requires_grad_()
    passed_BD = straight_through(rows_BD, codes_BD)
    (passed_BD * weight_BD).sum().backward()
    torch.testing.assert_close(passed_BD.detach(), codes_BD)
    assert rows_BD.grad is not None
    assert torch.equal(rows_BD.grad, weight_BD)


def test_the_rotation_trick_is_the_papers() -> None:
    """Algorithm 1 and equation 3 of arXiv 2410.06424, with the matrix R formed for every row."""
    rows_BD = random_rows(6, 5).double().requires_grad_()
    codes_BD, weight_BD = random_rows(6, 5, seed=1).double(), random_rows(6, 5, seed=2).double()
    rotated_BD = rotate(rows_BD, codes_BD)
    (rotated_BD * weight_BD).sum().backward()
    assert rows_BD.grad is not None
    for e, q, w, found, gradient in zip(
        rows_BD.detach(), codes_BD, weight_BD, rotated_BD.detach(), rows_BD.grad, strict=True
    ):
        unit_e, unit_q = e / e.norm(), q / q.norm()
        r = (unit_e + unit_q) / (unit_e + unit_q).norm()
        R = torch.eye(5, dtype=torch.float64) - 2 * torch.outer(r, r) + 2 * torch.outer(unit_q, unit_e)
        scale = q.norm() / e.norm()
        torch.testing.assert_close(R @ R.T, torch.eye(5, dtype=torch.float64))
        torch.testing.assert_close(scale * R @ e, q)
        torch.testing.assert_close(found, q)
        torch.testing.assert_close(gradient, scale * R.T @ w)


@pytest.mark.parametrize("estimator", ["ste", "rotation"])
def test_the_loss_is_the_slow_loops(estimator: str) -> None:
    built = model(estimator=estimator)
    content_BF = random_rows(7, 6)
    parts = built.loss(ContentBatch(content_BF))
    latent_BD = built.encoder(content_BF).detach()
    codes_LCD, totals = built.quantizer.codes_LCD.detach(), dict.fromkeys(("rec", "code", "spread"), 0.0)
    for b in range(7):
        residual, total = latent_BD[b], torch.zeros(3)
        for level in range(2):
            gaps = [float(((residual - code) ** 2).sum()) for code in codes_LCD[level]]
            chosen = gaps.index(min(gaps))
            totals["code"] += gaps[chosen] / 7
            residual, total = residual - codes_LCD[level, chosen], total + codes_LCD[level, chosen]
        totals["rec"] += float(((built.decoder(total).detach() - content_BF[b]) ** 2).sum()) / 7
        gaps = [math.dist(latent_BD[b].tolist(), latent_BD[c].tolist()) for c in range(7) if c != b]
        totals["spread"] -= math.log(min(gaps)) / 7
    expected = totals["rec"] + 1.25 * totals["code"] + 0.1 * totals["spread"]
    assert parts["reconstruction"].item() == pytest.approx(totals["rec"], rel=1e-5)
    assert parts["codebook"].item() == pytest.approx(totals["code"], rel=1e-5)
    assert parts["commitment"].item() == pytest.approx(totals["code"], rel=1e-5)
    assert parts["spread"].item() == pytest.approx(totals["spread"], rel=1e-4)
    assert parts["loss"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("estimator", ["ste", "rotation"])
def test_each_term_moves_what_it_should(estimator: str) -> None:
    """The codebook term moves codes only, the commitment and the reconstruction latents only."""
    quantizer = pinned(estimator=estimator)
    rows_BD = random_rows(9).requires_grad_()
    done = quantizer(rows_BD)
    inputs = (rows_BD, quantizer.codes_LCD)

    def moved(term: Tensor) -> list[bool]:
        gradients = torch.autograd.grad(term, inputs, retain_graph=True, allow_unused=True)
        return [gradient is not None and bool(gradient.any()) for gradient in gradients]

    assert moved(done.codebook) == [False, True]
    assert moved(done.commitment) == [True, False]
    assert moved(done.vectors_BD.square().sum()) == [True, False]


def test_a_level_learns_from_its_own_residual_only() -> None:
    """The gradient of a code is twice its mean gap to the rows that chose it, whatever lower levels do."""
    quantizer = pinned(estimator="ste")
    rows_BD = random_rows(20)
    done = quantizer(rows_BD)
    done.codebook.backward()
    residual_BD = rows_BD
    for level in range(2):
        for code in range(4):
            mine = done.codes_BL[:, level] == code
            gaps_BD = quantizer.codes_LCD[level, code].detach() - residual_BD[mine]
            assert quantizer.codes_LCD.grad is not None
            torch.testing.assert_close(quantizer.codes_LCD.grad[level, code], 2 * gaps_BD.sum(0) / 20)
        residual_BD = residual_BD - quantizer.codes_LCD[level].detach()[done.codes_BL[:, level]]


def test_gumbel_softmax_learns_codes_and_latents_through_the_sum() -> None:
    quantizer = pinned(estimator="gumbel")
    rows_BD = random_rows(9).requires_grad_()
    quantizer(rows_BD).vectors_BD.square().sum().backward()
    for leaf in (rows_BD, quantizer.codes_LCD):
        assert leaf.grad is not None
        assert bool(leaf.grad.any())


def test_gumbel_weights_follow_the_distances() -> None:
    distance_BC = torch.tensor([[1.0, 2.0, 4.0]]).repeat(20_000, 1)
    torch.manual_seed(0)
    cold_BC = gumbel_softmax(distance_BC, 1e-3)
    torch.testing.assert_close(cold_BC.sum(1), torch.ones(len(cold_BC)))
    share_C = torch.bincount(cold_BC.argmax(1), minlength=3) / len(cold_BC)
    torch.testing.assert_close(share_C, torch.softmax(-distance_BC[0], 0), atol=0.015, rtol=0)
    assert float(cold_BC.max(1).values.mean()) > 0.99  # nearly one-hot
    assert float(gumbel_softmax(distance_BC, 100.0).max()) < 0.4  # nearly uniform


def test_the_unit_of_distance_does_not_matter() -> None:
    distance_BC = random_rows(5, 4).abs()
    torch.manual_seed(0)
    one = gumbel_softmax(distance_BC, 0.5)
    torch.manual_seed(0)
    torch.testing.assert_close(gumbel_softmax(1000 * distance_BC, 0.5), one)
    torch.testing.assert_close(sinkhorn(1000 * distance_BC, 0.1, 20), sinkhorn(distance_BC, 0.1, 20))


def test_the_temperature_falls_geometrically_and_stays() -> None:
    quantizer = pinned(estimator="gumbel", temperature_start=2.0, temperature_end=0.5, temperature_steps=4)
    seen = []
    for _ in range(6):
        seen.append(quantizer.temperature())
        quantizer(random_rows(3))
    assert seen == pytest.approx([2.0, 2.0**0.5, 1.0, 0.5**0.5, 0.5, 0.5])
    assert pinned(estimator="gumbel").load_state_dict(quantizer.state_dict())
    fresh = pinned(estimator="gumbel", temperature_start=2.0, temperature_end=0.5, temperature_steps=4)
    fresh.load_state_dict(quantizer.state_dict())
    assert fresh.temperature() == pytest.approx(0.5)


def test_sinkhorn_is_the_slow_loop_and_has_its_marginals() -> None:
    distance_BC = random_rows(12, 4).abs().double()
    plan = torch.exp(-distance_BC / (0.2 * distance_BC.mean())).tolist()
    for _ in range(50):
        for c in range(4):
            total = sum(row[c] for row in plan)
            for row in plan:
                row[c] /= total
        plan = [[value / sum(row) for value in row] for row in plan]
    found_BC = sinkhorn(distance_BC, 0.2, 50)
    torch.testing.assert_close(found_BC, torch.tensor(plan, dtype=torch.float64))
    torch.testing.assert_close(found_BC.sum(1), torch.ones(12, dtype=torch.float64))
    torch.testing.assert_close(found_BC.sum(0), torch.full((4,), 3.0, dtype=torch.float64), atol=1e-3, rtol=0)


def test_sinkhorn_balances_codes_while_training_only() -> None:
    quantizer = pinned(sinkhorn_levels=1, sinkhorn_epsilon=0.01, sinkhorn_iterations=300)
    rows_BD = torch.cat([random_rows(40) * 0.01, torch.tensor([[0.0, 0.0]])])
    balanced = torch.bincount(quantizer(rows_BD).codes_BL[:, 1], minlength=4)
    assert balanced.min() >= 6  # 41 rows over 4 codes
    assert quantizer.eval()(rows_BD).codes_BL.unique(dim=0).tolist() == [[0, 0]]


def test_simvq_learns_the_basis_and_not_the_codes() -> None:
    quantizer = pinned(simvq=True)
    assert {name for name, _ in quantizer.named_parameters()} == {"mixing_LDD"}
    assert quantizer.codebook(0).tolist() == GRID  # the basis starts as the identity
    assert quantizer.mixing_LDD is not None
    with torch.no_grad():
        quantizer.mixing_LDD[0] = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
    assert quantizer.codebook(0).tolist() == [[y, 2 * x] for x, y in GRID]
    quantizer(random_rows(9)).codebook.backward()
    assert quantizer.mixing_LDD.grad is not None
    assert bool(quantizer.mixing_LDD.grad.any())


@pytest.mark.parametrize("simvq", [False, True])
def test_codes_that_nobody_chose_move_to_rows(simvq: bool) -> None:
    config = QuantizerConfig(levels=2, codebook_size=4, revive_every=3, simvq=simvq)
    quantizer = ResidualQuantizer(config, dim=2)
    with torch.no_grad():
        quantizer.codes_LCD.copy_(torch.tensor([GRID, STEPS]) + 100)
        quantizer.codes_LCD[:, 0] = 0.0
        if quantizer.mixing_LDD is not None:
            quantizer.mixing_LDD.mul_(0.5)
    rows_BD = random_rows(30)
    for _ in range(3):
        quantizer(rows_BD)
    assert quantizer.used_LC.tolist() == [[True, False, False, False]] * 2
    assert float(quantizer.codebook(0)[1:].detach().min()) >= 50  # not before its time
    quantizer(rows_BD)
    gaps_CB = torch.cdist(quantizer.codebook(0).detach(), rows_BD)
    assert quantizer.codebook(0)[0].tolist() == [0.0, 0.0]  # was in use: stays
    torch.testing.assert_close(gaps_CB[1:].min(dim=1).values, torch.zeros(3), atol=1e-4, rtol=0)
    assert int(quantizer.used_LC.sum()) > 2


def test_reviving_does_not_disturb_the_gradients_of_gumbel() -> None:
    built = model(estimator="gumbel", revive_every=1)
    for _ in range(3):
        built.zero_grad()
        built.loss(ContentBatch(random_rows(8, 6)))["loss"].backward()
        gradients = [weight.grad for weight in built.parameters()]
        assert all(g is not None and g.isfinite().all() for g in gradients)


def test_kmeans_starts_each_level_on_what_is_left_over() -> None:
    """Points on a grid of 4 x 4 offsets are coded without error, every code in use."""
    points_ID = torch.tensor([[10 * x + u, 10 * y + v] for x, y in GRID for u, v in STEPS]).repeat(4, 1)
    quantizer = ResidualQuantizer(QuantizerConfig(levels=2, codebook_size=4), dim=2)
    quantizer.initialise(points_ID, seed=0)
    codes_IL = quantizer.encode(points_ID)
    torch.testing.assert_close(quantizer.decode(codes_IL), points_ID, atol=1e-4, rtol=0)
    assert len(codes_IL.unique(dim=0)) == 16
    again = ResidualQuantizer(QuantizerConfig(levels=2, codebook_size=4), dim=2)
    again.initialise(points_ID, seed=0)
    assert torch.equal(again.codes_LCD, quantizer.codes_LCD)


def test_fewer_items_than_codes_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="256 codes a level for 100 items: lower model.quantizer.codebook_size"
    ):
        kmeans(random_rows(100), 256, seed=0)


def test_an_items_codes_depend_on_that_item_alone() -> None:
    built, content_IF = model().eval(), random_rows(40, 6)
    together = built.encode(content_IF)
    assert torch.equal(together, torch.cat([built.encode(row[None]) for row in content_IF]))
    assert built.decode(together).shape == content_IF.shape
    assert built.code_sizes == (4, 4)


def test_bfloat16_leaves_the_codes_alone() -> None:
    built = model(hidden=(), spread=0.0)
    with torch.autocast("cpu", torch.bfloat16):
        parts = built.loss(ContentBatch(random_rows(16, 6)))
    assert {name: value.dtype for name, value in parts.items()} == dict.fromkeys(parts, torch.float32)


def test_a_model_is_rebuilt_from_plain_values() -> None:
    built = model()
    config = RQVAEConfig(
        hidden_dims=(5,), latent_dim=3, spread=0.1, quantizer=QuantizerConfig(levels=2, codebook_size=4)
    )
    assert from_dict(RQVAEConfig, to_dict(config)) == config
    again = build("rqvae", to_dict(config), SCHEMA)
    again.load_state_dict(built.state_dict())
    assert isinstance(again, RQVAE)
    content_IF = random_rows(30, 6)
    assert torch.equal(again.encode(content_IF), built.encode(content_IF))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": 0}, "quantizer.levels must be at least 1, got 0"),
        ({"codebook_size": 0}, "quantizer.codebook_size must be at least 1"),
        ({"sinkhorn_epsilon": 0.0}, "quantizer.sinkhorn_epsilon must be positive"),
        ({"temperature_end": -1.0}, "quantizer.temperature_end must be positive"),
        ({"sinkhorn_levels": 4}, "quantizer.sinkhorn_levels must be 0 to 3, got 4"),
        ({"sinkhorn_levels": 1, "estimator": "gumbel"}, "set sinkhorn_levels to 0"),
        ({"revive_every": -1}, "quantizer.revive_every must not be negative"),
    ],
)
def test_quantizers_refuse_nonsense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        QuantizerConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_dim": 0}, "latent_dim and hidden_dims must be positive"),
        ({"hidden_dims": (8, 0)}, "latent_dim and hidden_dims must be positive"),
        ({"commitment": -1.0}, "commitment must not be negative"),
        ({"spread": -1.0}, "spread must not be negative"),
    ],
)
def test_configs_refuse_nonsense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RQVAEConfig(**changes)


def test_without_an_autoencoder_it_is_residual_k_means() -> None:
    torch.manual_seed(0)
    content_IF = torch.nn.functional.normalize(torch.randn(200, 8), dim=1)
    config = RQVAEConfig(autoencoder="none", quantizer=QuantizerConfig(levels=2, codebook_size=8))
    model = RQVAE(config, ContentSchema(content_dim=8, content_digest=""))
    model.initialise(content_IF, 0)
    codes_IL = model.encode(content_IF)
    residual_IF = content_IF.clone()
    for level in range(2):
        codes_CF = model.quantizer.codebook(level).detach()
        wanted_I = torch.cdist(residual_IF, codes_CF).argmin(1)
        assert torch.equal(codes_IL[:, level], wanted_I)
        residual_IF = residual_IF - codes_CF[wanted_I]
    torch.testing.assert_close(model.decode(codes_IL), content_IF - residual_IF)
    losses = model.loss(ContentBatch(content_IF))
    assert losses["reconstruction"].item() == pytest.approx(
        float(residual_IF.square().sum(1).mean()), rel=1e-4
    )
    losses["loss"].backward()
    assert model.quantizer.codes_LCD.grad is not None
