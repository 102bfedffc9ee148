"""The gate of an application: what was reached is not lost unless somebody says so."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from recray.bundles.gate import FILE, gate_of, set_gate
from recray.bundles.promotion import promote
from recray.cli import main
from recray.config import ConfigError
from recray.schema import ProtocolCard
from recray.store import Store

NAME = "films-two_tower"
CARD = ProtocolCard(
    dataset="films", dataset_hash="ab12", split="leave-one-out", target="test", relevance="all", k_core=0
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Its first version, of NDCG 0.1, is in production, and no later one may have less than 0.098."""
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    store = Store()
    publish(store, 0.1)
    promote(store, NAME, 1)
    set_gate(store, NAME, "ndcg@10", 0.02)
    return store


def publish(store: Store, ndcg: float, card: ProtocolCard = CARD) -> None:
    def write(folder: Path) -> None:
        (folder / "weights").write_text("w")

    store.publish(
        NAME,
        write,
        model="two_tower",
        config={},
        card=card,
        metrics={"ndcg@10": ndcg},
    )


def test_less_than_was_reached_is_not_promoted(store: Store) -> None:
    publish(store, 0.0979)
    with pytest.raises(ConfigError, match=r"ndcg@10 0\.0979; version 1 reached 0\.1000, of which 2% may be"):
        promote(store, NAME, 2)
    assert store.names(NAME) == {"production": 1}
    promote(store, NAME, 2, force=True)
    publish(store, 0.0981)
    promote(store, NAME, 3)
    assert store.names(NAME) == {"production": 3}


def test_what_was_measured_otherwise_is_not_asked(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    publish(store, 0.05, replace(CARD, dataset_hash="cd34"))
    logging.getLogger("recray").propagate = True
    promote(store, NAME, 2)
    assert "measured otherwise than version 1 (dataset_hash): its gate, ndcg@10 0.1000" in caplog.text


def test_a_gate_is_set_from_what_was_measured(store: Store) -> None:
    with pytest.raises(ConfigError, match=r"was not measured by 'ndcg@5'"):
        set_gate(store, NAME, "ndcg@5", 0.02)
    with pytest.raises(ConfigError, match=r"'popularity_bias@10' is no gate: of ndcg, recall"):
        set_gate(store, NAME, "popularity_bias@10", 0.02)
    with pytest.raises(ConfigError, match="a share from 0 to 1, got 2"):
        set_gate(store, NAME, "ndcg@10", 2)
    (store.root / NAME / FILE).write_text("{")
    with pytest.raises(ConfigError, match="is damaged .*set the gate again"):
        gate_of(store, NAME)


def test_the_command(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    publish(store, 0.2)
    assert main(["gate", NAME, "ndcg@10", "--version", "2", "--tolerance", "0.1", "--json"]) == 0
    assert '"value": 0.2' in capsys.readouterr().out
    publish(store, 0.17)
    assert main(["promote", NAME, "3"]) == 2
    assert "version 2 reached 0.2000" in capsys.readouterr().err
