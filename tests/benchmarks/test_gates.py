"""The gates of the repository: what they hold is held, and a loss of three parts of a hundred is seen."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.gates import FAST_MINUTES, GATES, chosen
from benchmarks.gates_planted import PLANTED, seen, those_who_have
from recray.eval.evaluate import Evaluation
from recray.monitor.gates import read_gates
from recray.schema import ProtocolCard

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


def test_a_loss_is_planted_where_there_is_something_to_lose() -> None:
    per_query = {"ndcg@10": np.array([0.0, 0.5, 0.1, 0.0, 0.2, 0.2])}
    card = ProtocolCard(
        dataset="films", dataset_hash="0", split="leave-one-out", target="test", relevance="all", k_core=0
    )
    found = Evaluation(card=card, per_query=per_query, scalars={}, user_ids_U=np.arange(10, 16))
    assert those_who_have(0.35, found, "ndcg@10").tolist() == [12, 14]  # 0.3 of 1.0; not 0.5
    assert those_who_have(0.05, found, "ndcg@10").tolist() == []


@pytest.mark.slow
def test_a_planted_loss_is_seen_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users who have 3 % of the metric are shown the list from its end."""
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    gate = next(gate for gate in ALL if gate.name == "item_knn, synthetic")
    found = seen(gate, times=1)
    assert (found.alarms, found.caught) == (0, True)
    assert -PLANTED <= found.change < -gate.tolerance
