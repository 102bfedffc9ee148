"""The ``recray`` command: tables, JSON, and errors that a person can act on."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from recray.cli import PIPE_CLOSED, TASKS, guarded, main
from recray.cli.commands import GROUPS, Command
from recray.schema import ProtocolCard
from recray.store import Store
from recray.store.ledger import TrafficLedger


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


CARD = ProtocolCard(
    dataset="my-shop-export",
    dataset_hash="0123456789abcdef" * 4,
    split="leave-one-out",
    target="test",
    relevance="purchase, of users with training history",
    k_core=0,
    num_users=4321,
    learnt="2024-01-01 to 2024-05-05",
)


def test_figures_of_two_cards_stand_under_two_headings(
    published: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = {"ndcg@10": 0.08421, "hit@10": 0.2}
    for name, card in [
        ("my-shop-export-two_tower", CARD),
        ("my-shop-export-sasrec", replace(CARD, learnt="2024-02-01 to 2024-05-05")),
        ("my-shop-export-sasrec", replace(CARD, known="training")),
    ]:
        published.publish(name, write, model="popularity", config={}, card=card, metrics=metrics)
    found = rows(capsys, "versions")
    asked = {row["protocol"] for row in found if row["name"].startswith("my-shop")}
    assert len(asked) == 2
    for learnt in ("measured_learnt", "served_learnt"):
        assert {row[learnt] for row in found} == {CARD.learnt, "2024-02-01 to 2024-05-05", ""}
    assert [row["card"].get("known") for row in found if row["card"]].count("training") == 1
    monkeypatch.setenv("COLUMNS", "80")  # a terminal's; a pipe or a job's log has more
    assert main(["versions"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "Figures under different headings are not comparable." in printed
    for part in (
        "leave-one-out",
        "purchase",
        "0123456789ab",
        "4,321 users",
        "2024-01-01",
        "0.08421",
        "│ my-shop-export-two_tower",
    ):
        assert part in printed
    assert main(["versions", "my-shop-export-two_tower"]) == 0
    assert "not comparable" not in capsys.readouterr().out


def test_what_was_measured_by_nothing_says_until_when_it_learnt(
    published: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run = {"learnt_until": "2024-05-09T10:00:00+00:00", "settings": {}}
    cards = (None, CARD, replace(CARD, learnt=""))
    for card in cards:
        published.publish("shop", write, model="popularity", config={}, card=card, run=run)
    found = {row["version"]: row["served_learnt"] for row in rows(capsys, "versions", "shop")}
    assert found == {1: "until 2024-05-09", 2: "2024-01-01 to 2024-05-09", 3: "until 2024-05-09"}
    said = {row["what"]: row["value"] for row in rows(capsys, "versions", "shop", "1")}
    assert said["served_learnt"] == "until 2024-05-09"


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


@pytest.mark.parametrize(
    "command", ["doctor", "datasets", "models", "versions", "promote", "serve", "prepare"]
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: recray {command}" in capsys.readouterr().out


@pytest.mark.parametrize("args", [[], ["--help"]])
def test_the_help_names_every_command_with_its_line(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 0
    said = capsys.readouterr().out
    tasks = [name for group in TASKS.values() for name in group]
    grouped = [kind for kinds in GROUPS.values() for kind in kinds]
    assert set(grouped) == set(get_args(Command))
    for name in (*tasks, *(kind.__name__.lower() for kind in grouped)):
        assert re.search(rf"^  {name}  +\S", said, re.M), name


def test_the_help_imports_nothing_heavy() -> None:
    program = "import sys; from recray.cli import main; main([]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "ray", "polars", "numpy"} & set(done.stdout.splitlines()[-1].split())


def test_a_misspelt_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian", "sasrec"]) == 2
    assert "no command 'trian', did you mean 'train'" in capsys.readouterr().err
    assert main(["train", "sas-recc", "ml-100k"]) == 2
    assert "did you mean 'sasrec'" in capsys.readouterr().err


@pytest.mark.parametrize("unbuffered", ["", "1"])  # who meets the end of the pipe: rich, or print
def test_a_reader_that_has_read_enough_is_no_error(unbuffered: str) -> None:
    program = "import sys; from recray.cli import main; sys.exit(main([]))"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == PIPE_CLOSED


def test_experiments_are_started_listed_and_ended(
    published: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    published.promote("tiny", 1, by="ada")
    asked = ["--guardrail", "clicks_margin", "None", "--guardrail", "alpha", "0.1"]
    started = rows(capsys, "canary", "tiny", "2", "--ramp", "5% 1h:20%", *asked)
    assert [row["arm"] for row in started] == [
        ["canary-2", "baseline, version 1", "5.0% of users"],
        ["canary-2", "canary, version 2", "5.0% of users"],
    ]
    limits = TrafficLedger(published, "tiny").now().running[0].experiment.guardrails
    assert limits == {"clicks_margin": None, "alpha": 0.1}
    assert rows(capsys, "shadow", "tiny", "2")[-1]["arm"][1] == "shadow, version 2"
    paused = rows(capsys, "pause", "tiny", "canary-2", "--why", "lunch")
    assert paused[0]["arm"][2] == "paused"
    assert rows(capsys, "resume", "tiny", "canary-2")[0]["arm"][2] == "5.0% of users"
    assert len(rows(capsys, "stop", "tiny", "shadow-2")) == 2
    rows(capsys, "refuse", "tiny", "canary-2", "--why", "slow")
    assert main(["promote", "tiny", "2"]) == 2
    assert "was rolled back at" in capsys.readouterr().err
    assert rows(capsys, "promote", "tiny", "2", "--force") == [{"name": "tiny", "production": 2}]
    written = rows(capsys, "traffic", "tiny", "--journal")
    assert [row["what"] for row in written] == [
        "promote production to version 2",
        "refuse canary-2",
        "stop shadow-2",
        "resume canary-2",
        "pause canary-2",
        "start shadow-2: shadow 2",
        "start canary-2: baseline 1, canary 2",
        "promote production to version 1",
    ]
    assert (written[-1]["by"], written[1]["why"]) == ("ada", "slow")
    assert rows(capsys, "traffic", "tiny") == []


def test_versions_are_compared_by_name(published: Store, capsys: pytest.CaptureFixture[str]) -> None:
    published.promote("tiny", 1)
    started = rows(capsys, "ab", "tiny", "old", "1", "new", "2", "--share", "0.5")
    assert [row["arm"][1:] for row in started] == [
        ["old, version 1", "25.0% of users"],
        ["new, version 2", "25.0% of users"],
    ]
    assert main(["interleave", "tiny", "2", "--share", "0.6"]) == 2
    assert "needs 0.6 of the users" in capsys.readouterr().err
    assert len(rows(capsys, "interleave", "tiny", "2", "--share", "0.4")) == 4


def test_ctrl_c_says_how_to_go_on_where_one_can(capsys: pytest.CaptureFixture[str]) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    assert guarded(stopped) == guarded(stopped, goes_on="the same command continues it") == 130
    assert capsys.readouterr().err == "stopped\nstopped; the same command continues it\n"
