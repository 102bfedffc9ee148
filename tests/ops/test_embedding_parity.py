"""Backends, ways of cutting tables and numbers of workers: the same vectors, gradients and weights.

Every run sees the same global batches; the second worker's share is smaller, and at times empty.
"""

import importlib.util
import shutil
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from recray import checkpoint
from recray.config import ConfigError
from recray.ops.embedding_bags import EmbeddingBags, EmbeddingConfig, Embeddings, EmbeddingTable, Placement
from tests.ops.embedding_world import (
    BIG,
    NO_MAX,
    TABLES,
    Backend,
    Case,
    Sharding,
    keyed,
    random_bags,
    run_workers,
    train,
    train_all,
    whole,
)

TORCHREC = importlib.util.find_spec("torchrec") is not None
STRATEGIES: dict[Backend, tuple[Sharding, ...]] = {
    "torch": ("auto", "table_wise", "column_wise", "row_wise"),
    "torchrec": ("auto", "table_wise", "column_wise"),
}
BACKENDS = ["torch", pytest.param("torchrec", marks=pytest.mark.skipif(not TORCHREC, reason="no torchrec"))]
KINDS = [
    pytest.param(
        backend, sharding, marks=pytest.mark.skipif(backend == "torchrec" and not TORCHREC, reason="")
    )
    for backend in STRATEGIES
    for sharding in STRATEGIES[backend]
]
needs_torchrec = pytest.mark.skipif(not TORCHREC, reason="torchrec is not installed: make torchrec")


def case(backend: Backend, sharding: Sharding, weighted: bool) -> Case:
    return Case(EmbeddingConfig(backend=backend, sharding=sharding), NO_MAX if weighted else TABLES, weighted)


CASES = {
    f"{backend} {sharding} {weighted}": case(backend, sharding, weighted)
    for backend in STRATEGIES
    if backend == "torch" or TORCHREC
    for sharding, weighted in product(STRATEGIES[backend], (False, True))
}

# The other worker holds no table at all.
ALONE = {b: Case(EmbeddingConfig(backend=b, sharding="table_wise"), TABLES[:1]) for b in STRATEGIES}
CASES |= {f"{b} alone": one for b, one in ALONE.items() if b == "torch" or TORCHREC}
CASES["torch auto big"] = Case(EmbeddingConfig(), (BIG, *TABLES[1:]))


@pytest.fixture(scope="module", autouse=True)
def _no_group_is_left_behind() -> Iterator[None]:
    """The torchrec backend makes a process group of one where there is none."""
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All cases, trained by two workers that are started once."""
    return run_workers(train_all, 2, tmp_path_factory.mktemp("two"), CASES)


def assert_equal(results: list[dict[str, Any]], plain: dict[str, Any], features: Iterable[str]) -> None:
    for feature in features:
        found = torch.cat([result["forward"][feature] for result in results])
        torch.testing.assert_close(found, plain["forward"][feature], atol=1e-6, rtol=0)
    torch.testing.assert_close(results[0]["gradient"], plain["gradient"], atol=1e-6, rtol=0)
    for what in ("first_sums", "weights", "sums"):
        tables, expected = whole(results, what), whole([plain], what)
        assert tables.keys() == expected.keys()
        for table in tables:
            torch.testing.assert_close(tables[table], expected[table], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(results[0]["losses"], plain["losses"], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("backend", "sharding"), KINDS)
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_equal_to_plain_torch_in_one_process(
    backend: Backend, sharding: Sharding, weighted: bool, workers: int, request: pytest.FixtureRequest
) -> None:
    one = case(backend, sharding, weighted)
    plain = train(
        case("torch", "column_wise" if sharding == "column_wise" else "table_wise", weighted), Placement()
    )
    if workers == 2:
        results = [r[f"{backend} {sharding} {weighted}"] for r in request.getfixturevalue("two_workers")]
    else:
        results = [train(one, Placement())]
    assert_equal(results, plain, one.features)


@pytest.mark.slow
def test_a_table_too_large_to_balance_is_cut_by_rows(two_workers: list[dict[str, Any]]) -> None:
    results = [result["torch auto big"] for result in two_workers]
    assert [offsets for result in results for _, offsets, _ in result["weights"]["users"]] == [
        (0, 0),
        (300_000, 0),
    ]
    assert_equal(results, train(CASES["torch auto big"], Placement()), CASES["torch auto big"].features)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_worker_may_hold_no_table(backend: str, two_workers: list[dict[str, Any]]) -> None:
    results = [result[f"{backend} alone"] for result in two_workers]
    assert sorted(len(result["weights"]["users"]) for result in results) == [0, 1]
    assert_equal(results, train(ALONE["torch"], Placement()), ["user"])


def half_weighted(placement: Placement) -> torch.Tensor:
    ids = keyed({f: rows for f, rows in random_bags(13).items() if f != "tags"})
    if placement.rank == 1:
        ids = ids._replace(weights_N=torch.full((len(ids.values_N),), 2.0))
    config = EmbeddingConfig(sharding="row_wise")
    pooled: Tensor = EmbeddingBags(NO_MAX, config, placement)(ids)["last_item"]
    return pooled.detach()


@pytest.mark.slow
def test_one_worker_alone_may_give_weights(tmp_path: Path) -> None:
    plain, weighted = run_workers(half_weighted, 2, tmp_path)
    torch.testing.assert_close(2 * plain, weighted)


def plans(
    placement: Placement, tables: list[EmbeddingTable], backend: Backend
) -> dict[Sharding, tuple[int, int]]:
    """How the plan spreads what is held, by strategy."""
    found = {}
    for sharding in STRATEGIES[backend]:
        module = EmbeddingBags(tables, EmbeddingConfig(backend=backend, sharding=sharding), placement)
        held = 0
        for state in (module.state_dict(), module.optimizer_state()):
            for value in state.values():
                pieces = [value] if isinstance(value, torch.Tensor) else [p.tensor for p in value.pieces]
                held += sum(piece.numel() * 4 for piece in pieces)
        planned = sum(shard.size_bytes for shard in module.plan if shard.rank == placement.rank)
        found[sharding] = (held, planned)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_worker_holds_more_than_its_share(backend: Backend, tmp_path: Path) -> None:
    tables = [EmbeddingTable(name=f"t{i}", rows=1000, dim=32, features=(f"f{i}",)) for i in range(8)]
    results = run_workers(plans, 2, tmp_path, tables, backend)
    for sharding in STRATEGIES[backend]:
        held = [result[sharding][0] for result in results]
        assert held == [result[sharding][1] for result in results], "the plan says what is held"
        assert max(held) <= 0.55 * sum(held)


@needs_torchrec
def test_unpooled_rows_are_the_same() -> None:
    ids, found = keyed(random_bags(11)), []
    for backend in ("torch", "torchrec"):
        module = Embeddings(TABLES, EmbeddingConfig(backend=backend))
        rows = module(ids)
        sum(jagged.values_N.square().sum() for jagged in rows.values()).backward()
        found.append((rows, module.state_dict()))
    for feature, jagged in found[0][0].items():
        assert torch.equal(jagged.values_N, found[1][0][feature].values_N)
        assert torch.equal(jagged.offsets_B, found[1][0][feature].offsets_B)
    for table, weight in found[0][1].items():
        torch.testing.assert_close(weight, found[1][1][table], atol=1e-6, rtol=0)


@needs_torchrec
def test_torchrec_does_as_the_door_promises() -> None:
    module, ids = EmbeddingBags(TABLES, EmbeddingConfig(backend="torchrec")), keyed(random_bags(12))
    assert not list(module.parameters())
    assert not list(module.buffers())
    before = {table: weight.clone() for table, weight in module.state_dict().items()}
    module.eval()
    assert not module(ids)["user"].requires_grad
    module.train()
    module.scale_learning_rate(0.0)
    sum(v.sum() for v in module(ids).values()).backward()
    for table, weight in module.state_dict().items():
        assert torch.equal(weight, before[table])
    assert not any(module.load_state_dict({table: torch.ones_like(w) for table, w in before.items()}))
    assert torch.equal(module(ids)["user"], torch.ones(12, 8))
    assert "backend torchrec" in module.describe()


@needs_torchrec
def test_torchrec_refuses_what_it_has_not() -> None:
    with pytest.raises(ConfigError, match="no row_wise sharding on CPUs: set embedding.backend to torch"):
        EmbeddingBags(TABLES, EmbeddingConfig(backend="torchrec", sharding="row_wise"))
    odd = (EmbeddingTable(name="odd", rows=5, dim=6, features=("a",)),)
    with pytest.raises(ConfigError, match="table 'odd' of dim 6"):
        EmbeddingBags(odd, EmbeddingConfig(backend="torchrec"))


class Model(nn.Module):
    def __init__(self, config: EmbeddingConfig, placement: Placement, seed: int) -> None:
        super().__init__()
        self.bags = EmbeddingBags(TABLES, config, placement, seed=seed)
        self.dense = nn.Linear(2, 2)


def resume(
    placement: Placement, config: EmbeddingConfig, source: Path | None, target: Path, first: int
) -> dict[str, Any]:
    """Continues ``source``, trains ten steps, and saves to ``target`` what all workers have."""
    model = Model(config, placement, seed=first)
    optimizer = torch.optim.AdamW(model.parameters())
    if source is not None:
        checkpoint.load(source, model, optimizer)
    found = train(Case(config, steps=10), placement, model.bags, first)
    saver = checkpoint.Saver(placement.rank)
    saver.start(model, optimizer, {})
    with saver.take() as folder:
        shutil.copytree(folder, target, dirs_exist_ok=True)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("blocks", ["auto", "column_wise"])
def test_a_checkpoint_goes_from_two_workers_to_one_and_back_and_to_the_other_backend(
    blocks: str, tmp_path: Path
) -> None:
    def config(backend: Backend, sharding: Sharding) -> EmbeddingConfig:
        return EmbeddingConfig(
            backend=backend if TORCHREC else "torch",
            sharding="column_wise" if blocks == "column_wise" else sharding,
        )

    folders = [tmp_path / name for name in "abcd"]
    parts = [
        run_workers(resume, 2, tmp_path / "1", config("torch", "row_wise"), None, folders[0], 0),
        [resume(Placement(), config("torchrec", "auto"), folders[0], folders[1], 10)],
        run_workers(resume, 2, tmp_path / "3", config("torchrec", "table_wise"), folders[1], folders[2], 20),
        [resume(Placement(), config("torch", "auto"), folders[2], folders[3], 30)],
    ]
    plain = train(
        Case(config("torch", "table_wise"), steps=40),
        Placement(),
        Model(config("torch", "auto"), Placement(), 0).bags,
    )
    losses = [loss for results in parts for loss in results[0]["losses"]]
    torch.testing.assert_close(losses, plain["losses"], atol=1e-6, rtol=1e-5)
    for what in ("weights", "sums"):
        found, expected = whole(parts[-1], what), whole([plain], what)
        for table in found:
            torch.testing.assert_close(found[table], expected[table], atol=1e-6, rtol=1e-5)
