"""The gates of the repository: what they hold is held, and a loss of three parts of a hundred is seen."""

from pathlib import Path

import pytest
from torch import Tensor

from benchmarks.gates import FAST_MINUTES, GATES, chosen, hardware, quality
from recray.batch import QueryBatch
from recray.models.item_knn import ItemKNN
from recray.monitor.gates import read_gates, verdict_of

ALL = read_gates(GATES)


def test_every_gate_was_reached_somewhere() -> None:
    for gate in ALL:
        assert gate.value > 0, gate.name
        assert gate.hardware, gate.name
        assert gate.runs == 1 or gate.spread > 0, gate.name


def test_those_that_are_fast_fit_their_minutes() -> None:
    fast = chosen(ALL, [], fast=True)
    assert sum(gate.minutes for gate in fast) <= FAST_MINUTES
    assert len(fast) >= 3
    assert chosen(ALL, [ALL[1].name], fast=False) == [ALL[1]]


@pytest.mark.slow
def test_a_planted_loss_is_seen_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One user of thirty-three is shown the list from its end."""
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    gate = next(gate for gate in ALL if gate.name == "item_knn, synthetic")
    assert verdict_of(gate, [quality(gate, 0)], hardware()).passed
    honest = ItemKNN.score_items

    def spoilt(self: ItemKNN, queries: QueryBatch) -> Tensor:
        scores_BI = honest(self, queries)
        is_chosen_B = queries.user_ids_B % 33 == 0
        scores_BI[is_chosen_B] *= -1
        return scores_BI

    monkeypatch.setattr(ItemKNN, "score_items", spoilt)
    lost = verdict_of(gate, [quality(gate, 0)], hardware())
    assert lost.passed is False, lost.text
    assert lost.text.startswith("ndcg@10 0.0")
