"""Jobs as a person runs them: help, readable failures, and one job from end to end."""

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from recray.cli import evaluate
from recray.config import ConfigError
from recray.eval.compare import Row
from recray.eval.evaluate import Evaluation
from recray.schema import ProtocolCard

REPO = Path(__file__).parent.parent
JOBS = sorted(p.name for p in (REPO / "jobs").glob("*.py"))


def run(job: str, *args: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RECRAY_HOME": str(home), "NO_PROXY": "*", **env}
    command = [sys.executable, str(REPO / "jobs" / job), *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=home, env=environment, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_every_job_explains_itself(job: str, tmp_path: Path) -> None:
    done = run(job, "--help", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_missing_raw_files_fail_at_once_and_say_where_to_put_them(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    # A proxy that nobody answers: no download can succeed, whatever the network of this machine.
    blocked = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "NO_PROXY": ""}
    done = run("train_two_tower.py", "ml-25m", home=tmp_path, RECRAY_RAW_DIR=str(raw), **blocked)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "ml-25m.zip" in last
    assert str(raw) in last


def test_a_misspelt_option_names_the_nearest(tmp_path: Path) -> None:
    done = run("train_two_tower.py", "synthetic", "--optim.lrr", "0.1", home=tmp_path)
    assert done.returncode == 2
    assert "--optim.lr" in done.stderr


@pytest.mark.parametrize(
    ("job", "word", "new"),
    [
        ("train_two_tower", "--weights=rating", "--data.weights"),
        ("evaluate", "--dataset", "as the first word"),
        ("evaluate", "--protocol", "--data.split"),
        ("prepare", "--k_core", "--data.k-core"),
        ("demo", "--workers", "--launch.workers"),
    ],
)
def test_words_of_former_editions_name_those_of_today(tmp_path: Path, job: str, word: str, new: str) -> None:
    done = run(f"{job}.py", "ml-100k", word, home=tmp_path)
    assert done.returncode == 2
    name = word.partition("=")[0].replace("_", "-")
    assert done.stderr.strip().startswith(f"error: {name} is written {new}")


def test_the_help_of_a_training_shows_its_presets_and_its_options(tmp_path: Path) -> None:
    said = run("train_two_tower.py", "--help", home=tmp_path).stdout
    assert "ml-100k: MovieLens 100K" in said
    assert "--data.weights" in said
    assert "--optim.lr" in said


def test_a_value_that_no_run_can_have_is_one_line(tmp_path: Path) -> None:
    done = run("run_recbole.py", "--data.split", "random", home=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == "error: RecBole is measured on leave-one-out only, got split 'random'"


def test_evaluate_writes_table_plot_and_json(tmp_path: Path) -> None:
    lines = ["user,item,rating,timestamp"]
    lines += [f"u{u},i{(u + 2 * n) % 20},5,{1_600_000_000 + 60 * u + n}" for u in range(40) for n in range(6)]
    (tmp_path / "events.csv").write_text("\n".join(lines))
    models = ("--models", "popularity", "item_knn")
    done = run("evaluate.py", "events.csv", *models, "--json", "out.json", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "item_knn" in done.stdout
    assert "leave-one-out" in done.stdout
    assert (tmp_path / "evaluation.png").read_bytes().startswith(b"\x89PNG")
    assert "Differences of ndcg@10" in (tmp_path / "evaluation.html").read_text()
    document = json.loads((tmp_path / "out.json").read_text())
    assert [row["model"] for row in document["rows"]] == ["popularity", "item_knn"]
    assert document["rows"][0]["ndcg@10"].keys() == {"mean", "low", "high"}


def test_evaluate_reads_what_stands_beside_before_it_trains(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained = mock.Mock()
    monkeypatch.setattr(evaluate, "compare_models", trained)
    with pytest.raises(ConfigError, match=r"none\.json is not what"):
        evaluate.evaluate(evaluate.Evaluate(beside=(tmp_path / "none.json",)))
    trained.assert_not_called()


def test_evaluate_writes_its_json_before_it_shows_anything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    card = ProtocolCard(
        dataset="made", dataset_hash="", split="random", target="test", relevance="all", k_core=0
    )
    evaluation = Evaluation(card=card, per_query={"ndcg@10": np.ones(2)}, scalars={}, user_ids_U=np.arange(2))
    row = Row("popularity", 0, evaluation)
    monkeypatch.setattr(evaluate, "compare_models", lambda *_, **__: [row])
    path = tmp_path / "out.json"
    with pytest.raises(ConfigError, match="no metric"):  # the table wants more than NDCG
        evaluate.evaluate(evaluate.Evaluate(json=path, plot=tmp_path / "out.png"))
    assert json.loads(path.read_text())["rows"][0]["model"] == "popularity"
