"""Embedding tables in one process: against a slow loop, and what they refuse."""

import math

import pytest
import torch
from torch import Tensor, nn

from recray.batch import KeyedJagged
from recray.config import ConfigError
from recray.ops.embedding_bags import EmbeddingBags, EmbeddingConfig, Embeddings, EmbeddingTable, Placement
from recray.ops.embedding_plan import bytes_per_rank, plan_shards
from recray.ops.sharded import Piece, Sharded
from recray.schema import DataError
from tests.ops.embedding_world import (
    NO_MAX,
    TABLES,
    Case,
    Head,
    Sharding,
    keyed,
    random_bags,
    share,
    train,
    with_weights,
)

TORCH = EmbeddingConfig()
STRATEGIES = ("auto", "table_wise", "column_wise", "row_wise")


def slow_pool(table: EmbeddingTable, weight: Tensor, row: list[int], factors: list[float]) -> Tensor:
    if not row:
        return torch.zeros(table.dim)
    vectors = torch.stack([f * weight[i] for i, f in zip(row, factors, strict=True)])
    return {"sum": vectors.sum(0), "mean": vectors.mean(0), "max": vectors.max(0).values}[table.pooling]


def slow_adagrad(weight: Tensor, sums: Tensor, grad: Tensor, config: EmbeddingConfig) -> None:
    """Row by row and block by block, as fbgemm's EXACT_ROWWISE_ADAGRAD says."""
    width = weight.shape[1] // sums.shape[1]
    for i in range(len(weight)):
        for c in range(sums.shape[1]):
            columns = slice(c * width, (c + 1) * width)
            sums[i, c] += sum(float(x) ** 2 for x in grad[i, columns]) / width
            if grad[i, columns].any():
                weight[i, columns] -= config.lr * grad[i, columns] / (math.sqrt(sums[i, c]) + config.eps)


@pytest.mark.parametrize("sharding", STRATEGIES)
@pytest.mark.parametrize("weighted", [False, True])
def test_forward_and_updates_are_those_of_a_slow_loop(sharding: Sharding, weighted: bool) -> None:
    config = EmbeddingConfig(sharding=sharding, lr=0.1)
    tables = NO_MAX if weighted else TABLES
    case = Case(config, tables, weighted, steps=6)
    module, head = EmbeddingBags(tables, config, seed=3), Head(case.features)
    slow = {name: w.clone().requires_grad_() for name, w in module.state_dict().items()}
    sums = {
        name: torch.zeros(t.rows, 2 if sharding == "column_wise" else 1) for t in tables for name in [t.name]
    }
    for step in range(case.steps):
        ids = share(case, step, 0, 1)
        factors = iter([1.0] * len(ids.values_N) if ids.weights_N is None else ids.weights_N.tolist())
        values, expected = iter(ids.values_N.tolist()), {}
        for key, lengths in zip(ids.keys, ids.lengths_FB.tolist(), strict=True):
            table = next(t for t in tables if key in t.features)
            rows = [[next(values) for _ in range(n)] for n in lengths]
            pooled = [slow_pool(table, slow[table.name], row, [next(factors) for _ in row]) for row in rows]
            expected[key] = torch.stack(pooled)
        found = module(ids)
        for key in expected:
            # Rounding of the updates adds up, that of the lookup alone does not.
            torch.testing.assert_close(found[key], expected[key], atol=1e-5 if step else 1e-6, rtol=1e-6)
        head(found).mean().backward()
        grads = torch.autograd.grad(head(expected).mean(), list(slow.values()))
        with torch.no_grad():
            for name, grad in zip(slow, grads, strict=True):
                slow_adagrad(slow[name], sums[name], grad, config)
    for name, weight in module.state_dict().items():
        torch.testing.assert_close(weight, slow[name].detach(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(module.optimizer_state()[name], sums[name], atol=1e-7, rtol=1e-4)


def test_sums_are_those_of_torch_embedding_bag() -> None:
    module, ids = EmbeddingBags(TABLES), keyed(random_bags(1))
    start = int(ids.lengths_FB[: ids.keys.index("last_item")].sum())
    lengths = ids.lengths_FB[ids.keys.index("last_item")]
    values = ids.values_N[start : start + int(lengths.sum())]
    reference = nn.EmbeddingBag.from_pretrained(module.state_dict()["items"], mode="sum")
    torch.testing.assert_close(module(ids)["last_item"], reference(values, lengths.cumsum(0) - lengths))


def test_embeddings_are_rows_in_the_order_of_the_ids() -> None:
    module, bags = Embeddings(TABLES, EmbeddingConfig(lr=1.0)), random_bags(2)
    before = {name: w.clone() for name, w in module.state_dict().items()}
    found = module(keyed(bags))
    for feature, rows in bags.items():
        table = module.table_of[feature].name
        assert found[feature].offsets_B.diff().tolist() == [len(row) for row in rows]
        ids = [i for row in rows for i in row]
        torch.testing.assert_close(found[feature].values_N, before[table][ids], atol=0, rtol=0)
    found["user"].values_N.sum().backward()
    changed = (module.state_dict()["users"] != before["users"]).any(1).nonzero().flatten().tolist()
    assert changed == sorted({i for row in bags["user"] for i in row})


def test_the_order_of_the_keys_does_not_matter() -> None:
    bags = random_bags(3)
    forwards, backwards = EmbeddingBags(TABLES), EmbeddingBags(TABLES)
    one, other = forwards(keyed(bags)), backwards(keyed(dict(reversed(bags.items()))))
    for feature in bags:
        assert torch.equal(one[feature], other[feature])
    for module, found in ((forwards, one), (backwards, other)):
        Head({f: v.shape[1] for f, v in found.items()})(found).sum().backward()
        assert not list(module.parameters())
        assert not list(module.buffers())
    for name, weight in forwards.state_dict().items():
        torch.testing.assert_close(weight, backwards.state_dict()[name])


def test_first_weights_depend_on_seed_table_and_row_alone() -> None:
    big = (EmbeddingTable(name="big", rows=40_000, dim=4, features=("a",)),)
    whole = EmbeddingBags(big, seed=4).state_dict()["big"]
    assert whole.abs().max() <= 1 / math.sqrt(40_000)
    torch.testing.assert_close(float(whole.std()), 1 / math.sqrt(3 * 40_000), rtol=0.02, atol=0)
    assert len(whole.unique()) > 0.9 * whole.numel()
    beside = EmbeddingBags((*TABLES, *big), EmbeddingConfig(sharding="column_wise"), seed=4).state_dict()[
        "big"
    ]
    assert torch.equal(whole, beside)
    assert not torch.equal(whole, EmbeddingBags(big, seed=5).state_dict()["big"])


def test_nothing_is_updated_without_training() -> None:
    module, ids = EmbeddingBags(TABLES), keyed(random_bags(4))
    before = {name: w.clone() for name, w in module.state_dict().items()}
    with torch.no_grad():
        assert not module(ids)["user"].requires_grad
    module.eval()
    assert not module(ids)["user"].requires_grad
    module.train()
    (module(ids)["user"] * 0).sum().backward()
    for name, weight in module.state_dict().items():
        assert torch.equal(weight, before[name])


def test_two_forward_passes_before_their_backward_passes() -> None:
    at_once, in_turn = EmbeddingBags(NO_MAX), EmbeddingBags(NO_MAX)
    # Which row is the largest of a bag may change in between, so nothing is max-pooled.
    batches = [share(Case(TORCH, NO_MAX), step, 0, 1) for step in (5, 6)]
    losses = [sum(v.square().sum() for v in at_once(ids).values()) for ids in batches]
    frozen = [{k: v.detach() for k, v in at_once(ids).items()} for ids in batches]
    for loss in losses:
        loss.backward()
    for ids, values in zip(batches, frozen, strict=True):
        sum((v * 2 * values[k]).sum() for k, v in in_turn(ids).items()).backward()
    for name, weight in at_once.state_dict().items():
        torch.testing.assert_close(weight, in_turn.state_dict()[name])


def test_learning_rate_is_scaled() -> None:
    modules = [EmbeddingBags(TABLES, EmbeddingConfig(lr=lr)) for lr in (0.3, 0.1)]
    modules[1].scale_learning_rate(3.0)
    for module in modules:
        sum(v.square().sum() for v in module(keyed(random_bags(7))).values()).backward()
    for name, weight in modules[0].state_dict().items():
        torch.testing.assert_close(weight, modules[1].state_dict()[name])


def test_state_is_loaded_whole_and_in_pieces() -> None:
    trained = EmbeddingBags(TABLES, seed=8)
    sum(v.sum() for v in trained(keyed(random_bags(8))).values()).backward()
    parent = nn.ModuleDict({"tables": EmbeddingBags(TABLES, seed=9)})
    state = {f"tables.{name}": weight for name, weight in trained.state_dict().items()}
    assert not any(parent.load_state_dict(state))
    for name, weight in parent["tables"].state_dict().items():
        assert torch.equal(weight, trained.state_dict()[name])
    with pytest.raises(RuntimeError, match="users"):
        parent.load_state_dict({name: weight for name, weight in state.items() if "users" not in name})
    with pytest.raises(RuntimeError, match="more"):
        parent.load_state_dict(state | {"tables.more": torch.zeros(1)})
    with pytest.raises(RuntimeError, match=r"users: expected shape \[53, 8\], got \[2, 8\]"):
        parent.load_state_dict(state | {"tables.users": torch.zeros(2, 8)})


def test_pieces_are_filled_from_a_whole_tensor_or_the_same_pieces() -> None:
    whole = torch.arange(24.0).view(6, 4)
    sharded = Sharded(
        torch.Size((6, 4)), (Piece(torch.zeros(2, 2), (4, 1)), Piece(torch.zeros(1, 4), (0, 0)))
    )
    sharded.copy_(whole)
    assert sharded.pieces[0].tensor.tolist() == [[17, 18], [21, 22]]
    other = sharded.map(torch.zeros_like)
    other.copy_(sharded)
    assert other.pieces[1].tensor.tolist() == [[0, 1, 2, 3]]
    assert sharded.whole() is None
    with pytest.raises(ValueError, match="cut differently"):
        other.copy_(Sharded(torch.Size((6, 4)), sharded.pieces[:1]))


def with_one(bags: dict[str, list[list[int]]], feature: str, rows: list[list[int]]) -> KeyedJagged:
    return keyed({**bags, feature: rows})


BAGS = {feature: rows[:2] for feature, rows in random_bags(10).items()}
GOOD = keyed(BAGS)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (GOOD._replace(keys=("usr", *GOOD.keys[1:])), "no table for feature 'usr', did you mean 'user'"),
        (keyed({f: r for f, r in BAGS.items() if f != "tags"}), "ids of feature 'tags' are missing"),
        (GOOD._replace(keys=(*GOOD.keys, "user")), "comes twice"),
        (
            with_one(BAGS, "item", [[30], [31]]),
            "feature 'item' has id 31, but table 'items' has rows 0 to 30",
        ),
        (with_one(BAGS, "genres", [[], [0, -1]]), "feature 'genres' has id -1"),
        (GOOD._replace(values_N=GOOD.values_N[:-1]), "lengths_FB sums to"),
        (GOOD._replace(lengths_FB=GOOD.lengths_FB[:-1]), "expected values_N"),
        (GOOD._replace(lengths_FB=GOOD.lengths_FB - 1), "negative length -1"),
        (GOOD._replace(values_N=GOOD.values_N.float()), "values_N must be int64, got torch.float32"),
        (GOOD._replace(lengths_FB=GOOD.lengths_FB.int()), "lengths_FB must be int64, got torch.int32"),
    ],
)
def test_bad_input_is_refused_before_any_kernel(ids: KeyedJagged, message: str) -> None:
    with pytest.raises(DataError, match=message.replace("[", r"\[")):
        EmbeddingBags(TABLES)(ids)


def test_bad_weights_are_refused() -> None:
    ids = keyed({f: r for f, r in BAGS.items() if f != "tags"})
    module = EmbeddingBags(NO_MAX)
    for weights in (torch.ones(1), torch.ones(len(ids.values_N), dtype=torch.float64)):
        with pytest.raises(DataError, match="weights_N must be float32"):
            module(ids._replace(weights_N=weights))
    with pytest.raises(DataError, match="must not require a gradient"):
        module(ids._replace(weights_N=torch.ones(len(ids.values_N), requires_grad=True)))
    with pytest.raises(DataError, match="'tags' is max-pooled"):
        EmbeddingBags(TABLES)(with_weights(GOOD, 0))
    with pytest.raises(DataError, match="know no weights"):
        Embeddings(TABLES)(with_weights(GOOD, 0))


@pytest.mark.parametrize(
    ("tables", "config", "message"),
    [
        ((TABLES[0], TABLES[0]), TORCH, "table names must differ"),
        (
            (TABLES[0], EmbeddingTable(name="b", rows=1, dim=1, features=("user",))),
            TORCH,
            "'user' comes twice",
        ),
        ((EmbeddingTable(name="b", rows=0, dim=1, features=("a",)),), TORCH, "table 'b' must have"),
        (TABLES, EmbeddingConfig(sharding="column_wise", column_blocks=3), "column_blocks 3 must divide"),
    ],
)
def test_bad_tables_are_refused(
    tables: tuple[EmbeddingTable, ...], config: EmbeddingConfig, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        EmbeddingBags(tables, config)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="column_blocks"):
        EmbeddingConfig(column_blocks=0)
    with pytest.raises(ConfigError, match="must not be negative"):
        EmbeddingConfig(lr=-1.0)
    with pytest.raises(ConfigError, match="init_process_group first"):
        EmbeddingBags(TABLES, placement=Placement(0, 2))


def test_a_backend_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="make torchrec"):
        EmbeddingBags(TABLES, EmbeddingConfig(backend="torchrec"))


def equal_tables(count: int, rows: int = 2_000_000) -> list[EmbeddingTable]:
    return [EmbeddingTable(name=f"t{i}", rows=rows, dim=32, features=(f"f{i}",)) for i in range(count)]


@pytest.mark.parametrize("sharding", STRATEGIES)
@pytest.mark.parametrize("world_size", [2, 4])
def test_equal_tables_are_spread_evenly(sharding: Sharding, world_size: int) -> None:
    plan = plan_shards(equal_tables(8), EmbeddingConfig(sharding=sharding), world_size)
    load = bytes_per_rank(plan, world_size)
    assert max(load) / sum(load) <= 1.1 / world_size


def test_auto_cuts_only_what_is_too_large_to_balance() -> None:
    small = equal_tables(8, rows=1000)
    assert {s.strategy for s in plan_shards(small, TORCH, 2)} == {"table_wise"}
    plan = plan_shards([*small, *equal_tables(1, 50_000_000)[:1]][1:], TORCH, 2)
    assert {s.table: s.strategy for s in plan}["t0"] == "row_wise"
    assert sum(s.strategy == "row_wise" for s in plan) == 2
    load = bytes_per_rank(plan, 2)
    assert max(load) / sum(load) < 0.55


def test_small_tables_are_spread_by_their_traffic() -> None:
    tables = [
        *equal_tables(2),
        *(EmbeddingTable(name=f"s{i}", rows=3, dim=32, features=(f"s{i}",)) for i in range(10)),
    ]
    plan = plan_shards(tables, TORCH, 2)
    assert [sum(s.rank == r for s in plan) for r in (0, 1)] == [6, 6]


def test_the_plan_can_be_printed() -> None:
    text = EmbeddingBags(TABLES, EmbeddingConfig(sharding="column_wise")).describe()
    assert text.splitlines()[0] == "embedding tables: backend torch, sharding column_wise"
    cells = [line.split() for line in text.splitlines()]
    assert ["items", "0..30", "0..15", "2,232", "column_wise", "0"] in cells
    assert text.splitlines()[-1].endswith("1.000 of all")


def test_training_minimises() -> None:
    losses = train(Case(EmbeddingConfig(lr=0.1)), Placement())["losses"]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
