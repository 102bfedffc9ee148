"""A run that changes its number of workers and its table backend goes on as if nothing had happened."""

import importlib.util
from pathlib import Path

import pytest

from tests.ops.embedding_world import Backend, Sharding
from tests.train.elastic_world import EPOCHS, NUM_ROWS, Slice, run_slices

OTHER: Backend = "torchrec" if importlib.util.find_spec("torchrec") else "torch"
STEPS = 300


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["auto", "row_wise"])
def test_two_workers_then_one_then_two_with_the_other_backend(tmp_path: Path, sharding: Sharding) -> None:
    for name in ("whole", "pieces"):
        (tmp_path / name).mkdir()
    whole = run_slices([Slice(STEPS, 2, sharding=sharding)], tmp_path / "whole")
    slices = [Slice(150, 2, sharding=sharding), Slice(225, 1, sharding=sharding), Slice(STEPS, 2, OTHER)]
    pieces = run_slices(slices, tmp_path / "pieces")
    assert sorted(whole) == sorted(pieces) == list(range(STEPS))
    for step in range(STEPS):
        assert pieces[step][0] == pytest.approx(whole[step][0], abs=1e-5), f"step {step}"
        assert pieces[step][1] == whole[step][1], f"step {step} had other rows"
    losses = [whole[step][0] for step in range(STEPS)]
    assert sum(losses[-20:]) < 0.97 * sum(losses[:20])  # it does learn: equal losses mean something


@pytest.mark.slow
def test_each_row_is_seen_once_an_epoch(tmp_path: Path) -> None:
    seen = run_slices([Slice(75, 2), Slice(STEPS, 1)], tmp_path)
    steps = STEPS // EPOCHS
    for epoch in range(EPOCHS):
        rows = [row for step in range(epoch * steps, (epoch + 1) * steps) for row in seen[step][1]]
        assert sorted(rows) == list(range(NUM_ROWS))
