"""The gates of the repository: what they hold is held, and a loss of three parts of a hundred is seen."""

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gates import FAST_MINUTES, GATES, chosen, said
from benchmarks.gates_planted import PLANTED, seen, those_who_have
from benchmarks.tables import with_ratios
from benchmarks.tables_readme import numbers
from benchmarks.tables_results import result
from recray.config import ConfigError
from recray.eval.evaluate import Evaluation
from recray.monitor.gates import read_gates
from recray.schema import ProtocolCard

ALL = read_gates(GATES)


def test_every_gate_was_reached_somewhere() -> None:
    for gate in ALL:
        assert gate.value > 0, gate.name
        assert gate.hardware, gate.name
        assert gate.runs == 1 or gate.spread > 0, gate.name


def test_a_gate_of_speed_is_what_its_result_says() -> None:
    """As the README's tables are: ``python -m benchmarks.tables`` renews both."""
    assert with_ratios(GATES.read_text()) == GATES.read_text()
    [training] = [gate for gate in ALL if gate.asks == ("training",)]
    assert training.value == pytest.approx(result("training")["ray_vs_local"])


def test_every_ratio_of_the_readme_has_its_gate() -> None:
    ratios = re.findall(r"([\d.]+) times|ratio ([\d.]+)|\(([\d.]+) (?:and [\d.]+ )?of it\)", numbers())
    assert len(ratios) >= 8
    held = [gate.value for gate in ALL if gate.kind == "speed"]
    for ratio in (next(filter(None, groups)) for groups in ratios):
        decimals = len(ratio.partition(".")[2])
        assert any(f"{value:.{decimals}f}" == ratio for value in held), ratio


def test_a_benchmark_that_breaks_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"^benchmarks\.nothing ended with status 1: .*No module named"):
        said(("nothing",), 0)


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
