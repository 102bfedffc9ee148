"""``recray cluster`` as it is typed, before a fake of RunPod without machines."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from recray.cli import TRY_AGAIN, main
from recray.cluster.api import UNTIL, RunPod
from recray.cluster.plan import Limits, machine
from recray.cluster.pods import KIND, Pods
from tests.cluster.fake.description import description
from tests.cluster.fake.service import KEY, PRICES, Service, served

CONFIG = Path(__file__).absolute().parents[2] / "cluster.yaml"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    made = Service(description())
    with served(made) as url:
        for name, value in {
            "RECRAY_HOME": str(tmp_path),
            "RUNPOD_API_URL": url,
            "RUNPOD_API_KEY": KEY,
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))  # where no SSH key is
        monkeypatch.setattr("recray.cluster.pods.SETTLE_S", 0.01)
        config = yaml.safe_load(CONFIG.read_text())
        for kind in config["available_node_types"].values():
            kind["node_config"]["gpu"] = list(PRICES)[:2]
        (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(config))
        yield made


@pytest.mark.parametrize("words", [["up"], ["run", "--", "python", "job.py"]])
def test_a_price_that_nobody_agrees_to_makes_nothing(
    words: list[str], service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cluster", *words]) == 2
    said = capsys.readouterr().err
    assert "recray: 0.43 $/h, at most 1.29; it ends after 8 h or 20.00 $, so it costs at most 10.32 $" in said
    assert "nobody is here to confirm this: add --yes" in said
    assert {call.method for call in service.calls} == {"GET"}


def test_what_is_there_is_told_and_ended(
    service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pods = Pods(RunPod(), "recray")
    asked = machine({"gpu": list(PRICES)[:1], "image": "x"})
    made = pods.make(asked, Limits(9, 9), "gpu", {KIND: "worker", UNTIL: "99999999999"})
    assert main(["cluster", "status", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["pod"], row["status"], row["dollars_per_hour"]) == (made.name, "RUNNING", 0.25)
    assert main(["cluster", "tunnel"]) == TRY_AGAIN
    assert "recray has no head that can be reached" in capsys.readouterr().err
    assert main(["cluster", "down", "--name", "recrya"]) == 2
    assert "there is no cluster recrya; there are: recray" in capsys.readouterr().err
    assert main(["cluster", "down"]) == 0
    assert service.there() == []
    assert main(["cluster", "up", "--dollars", "5", "--yes"]) == 2
    assert "options beside --file are for --instant" in capsys.readouterr().err
    assert main(["cluster", "reap", "--all"]) == 2
    assert "nobody is here to confirm this" in capsys.readouterr().err
    assert main(["cluster", "reap", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    monkeypatch.setenv("RUNPOD_API_KEY", "another")
    assert main(["cluster", "status"]) == 2
    assert "RUNPOD_API_KEY is not one of the account's keys" in capsys.readouterr().err
    monkeypatch.delenv("RUNPOD_API_KEY")
    assert main(["cluster", "status"]) == 2
    assert "RUNPOD_API_KEY is not set" in capsys.readouterr().err
