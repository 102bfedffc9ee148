"""Gates as data: a loss of three parts of a hundred is seen, and what repeats raises nothing."""

from pathlib import Path

import numpy as np
import pytest

from recray.config import ConfigError
from recray.monitor.gates import Gate, read_gates, verdict_of, write_gates

HERE, ELSEWHERE = "x86_64 AVX512", "arm64"
GATE = Gate(
    name="two_tower, films",
    kind="quality",
    asks=("two_tower", "films"),
    metric="ndcg@10",
    value=0.1,
    runs=4,
    spread=0.004,
    hardware=HERE,
)


def test_a_share_of_the_value_may_be_lost() -> None:
    assert verdict_of(GATE, [0.0991] * 4, HERE).passed
    assert verdict_of(GATE, [0.2] * 4, HERE).passed
    lost = verdict_of(GATE, [0.0985, 0.0988, 0.0990, 0.0990], HERE)
    assert lost.passed is False
    assert lost.text == "ndcg@10 0.0988, 0.1000 was reached (-1.2%; tolerance 1.0%)"


def test_three_parts_of_a_hundred_are_seen_and_twenty_repetitions_are_none() -> None:
    assert verdict_of(GATE, [0.097] * 4, HERE).passed is False
    assert all(verdict_of(GATE, [0.095, 0.105, 0.1, 0.1], HERE).passed for _ in range(20))


def test_elsewhere_what_chance_explains_is_let_pass() -> None:
    """Of two means over four seeds each, what is known of their spread from the seeds alone."""
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(2000):
        reached, again = rng.normal(0.1, 0.004, (2, 4)).tolist()
        alarms += verdict_of(GATE.renewed(reached, HERE, 1.0), again, ELSEWHERE).passed is False
    assert alarms <= 6  # 1 is due, and the mean's tolerance of its own lets more pass
    assert verdict_of(GATE, [0.08] * 4, ELSEWHERE).passed is False


def test_what_is_reached_now_counts_from_now_on() -> None:
    renewed = GATE.renewed([0.11, 0.12, 0.13], ELSEWHERE, 0.5)
    assert (renewed.value, renewed.spread, renewed.hardware, renewed.minutes) == (0.12, 0.01, ELSEWHERE, 0.5)
    assert renewed.tolerance == GATE.tolerance


def test_a_file_of_gates(tmp_path: Path) -> None:
    path = tmp_path / "gates.json"
    write_gates(path, [GATE])
    assert read_gates(path) == [GATE]
    write_gates(path, [GATE, GATE])
    with pytest.raises(ConfigError, match="two gates are called two_tower, films"):
        read_gates(path)
    path.write_text("[")
    with pytest.raises(ConfigError, match="holds no gates"):
        read_gates(path)
    with pytest.raises(ConfigError, match="runs must be at least 1"):
        Gate(name="x", kind="speed", asks=("serving",), metric="a.b", runs=0)
    with pytest.raises(ConfigError, match="holds nothing yet"):
        verdict_of(Gate(name="x", kind="speed", asks=("serving",), metric="a.b"), [1.0], HERE)
