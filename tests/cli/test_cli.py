"""The ``recray`` command: tables, JSON, and errors that a person can act on."""

import json
from pathlib import Path
from typing import Any

import pytest

from recray.cli import main
from recray.store import Store


def rows(capsys: pytest.CaptureFixture[str], *args: str) -> list[dict[str, Any]]:
    assert main([*args, "--json"]) == 0
    listed: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return listed


def write(folder: Path) -> None:
    (folder / "weights.txt").write_text("1 2 3")


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    store = Store()
    for _ in range(2):
        store.publish("tiny", write, model="popularity", config={})
    return store


def test_doctor_knows_versions_backends_machine_ray_and_disk(capsys: pytest.CaptureFixture[str]) -> None:
    found = {row["check"]: row for row in rows(capsys, "doctor")}
    assert {"recray", "torch", "ray", "torchrec", "cores", "memory", "ray auth", "RECRAY_HOME"} <= set(found)
    assert found["torch"]["status"] == "ok"
    assert found["torch"]["detail"].startswith("2.13.0")
    assert all(row["status"] in ("ok", "missing", "warning") for row in found.values())


def test_datasets_and_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert {"synthetic", "ml-100k", "ml-1m", "ml-25m", "ml-32m"} <= {
        r["name"] for r in rows(capsys, "datasets")
    }
    presets = {r["name"]: r["presets"] for r in rows(capsys, "models")}
    assert "ml-100k" in presets["two_tower"]


def test_promote_and_rollback_move_names(published: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert rows(capsys, "promote", "tiny", "1") == [{"name": "tiny", "production": 1}]
    assert rows(capsys, "promote", "tiny", "2") == [{"name": "tiny", "production": 2}]
    assert rows(capsys, "promote", "tiny", "1", "--to", "shadow")[0]["shadow"] == 1
    assert rows(capsys, "rollback", "tiny")[0]["production"] == 1
    listed = {r["version"]: r["names"] for r in rows(capsys, "versions", "tiny")}
    assert listed == {2: [], 1: ["production", "shadow"]}


def test_tables_are_for_people(published: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["versions"]) == 0
    assert "tiny" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["rollback", "tiny"], "never promoted"),
        (["promote", "tiny", "9"], "no version 9"),
        (["promote", "tinny", "1"], "did you mean 'tiny'"),
        (["promote", "tiny", "1", "--to", "prod"], "production"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    published: Store, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    assert main(args) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["", "doctor", "datasets", "models", "versions", "promote", "rollback"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert "usage: recray" in capsys.readouterr().out
