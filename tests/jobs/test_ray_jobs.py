"""What needs Ray: the search, the demo, the server, and RecBole in its environment."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from recray.config import ConfigError
from recray.peers.recbole import environment
from recray.store import Store, run_record
from tests.jobs.world import NUM_USERS, REPO, events_file, job, published

# Workers see the session's home, in which the shared Ray was started; hence names that no other test uses.
pytestmark = pytest.mark.ray


def test_the_best_of_a_search_can_be_trained_as_it_says(ray_cluster: None, tmp_path: Path) -> None:
    films = events_file(tmp_path, "searched")
    options = ("--trials", "2", "--loop.epochs", "2", "--seeds", "2", "--launch.where", "local")
    said = job("tune", "two_tower", films, *options, "--launch.run", "films")
    assert "2 trials of films, best first" in said
    assert "films on the test part, 2 seeds" in said
    assert published(said) == ["searched-two_tower version 1"]
    bundle = Store().open("searched-two_tower", 1)
    assert len(json.loads(bundle.path("search.json").read_text())["trials"]) == 2
    again = job("tune", "two_tower", films, *options, "--launch.run", "films")  # nothing is left to be done
    assert published(again) == published(said)
    [command] = re.findall(r"train the best with: recray train (.*)", said)
    said = job("train", *shlex.split(command), "--launch.where", "local")
    assert published(said) == ["searched-two_tower version 2"]
    first, second = (Store().open("searched-two_tower", number) for number in (1, 2))
    assert run_record(first).settings == run_record(second).settings
    assert first.manifest.metrics == second.manifest.metrics


@pytest.fixture(scope="module")
def _recbole(ray_cluster: None) -> None:
    """RecBole pins libraries that recray cannot live with: pip builds it a folder of its own, once."""
    try:
        environment()
    except ConfigError as error:
        pytest.skip(f"jobs/run_recbole.py is not run here: {error}")


@pytest.mark.slow
@pytest.mark.usefixtures("_recbole")
def test_recbole_stands_beside_our_models_in_one_table(tmp_path: Path) -> None:
    films, row, both = events_file(tmp_path, "beside"), tmp_path / "bpr.json", tmp_path / "both.json"
    said = job("run_recbole", films, "--model", "BPR", "--epochs", "2", "--json", row)
    assert f"beside, leave-one-out, test, {NUM_USERS} users" in said
    assert re.search(r"best epoch \d of 2; RecBole's own: ", said)
    plot = ("--plot", tmp_path / "both.png", "--json", both)
    job("evaluate", films, "--models", "popularity", "--beside", row, *plot)
    assert [r["model"] for r in json.loads(both.read_text())["rows"]] == ["popularity", "recbole:BPR"]


def process(name: str, *options: str, home: Path) -> subprocess.Popen[str]:
    """A job that starts and stops a Ray of its own, which is why it is a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(REPO / "jobs" / f"{name}.py"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=home,
        env={**os.environ, "RECRAY_HOME": str(home), "PYTHONUNBUFFERED": "1"},
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A home in which the demo has run, and what it said."""
    home = tmp_path_factory.mktemp("shop")
    events_file(home, "shop")
    demo = process("demo", "shop.inter?name=shop", "--port", "0", "--launch.workers", "1", home=home)
    said, errors = demo.communicate(timeout=300)
    assert demo.returncode == 0, errors
    return home, said


@pytest.mark.slow
def test_the_demo_recommends_measures_and_publishes(shop: tuple[Path, str]) -> None:
    _, said = shop
    assert said.count("in the replica)") == 4  # three users with events, and one that nobody has heard of
    assert "user somebody-new, fallback: " in said
    for model in ("popularity", "item_knn", "two_tower", "two_tower + xgboost"):
        assert re.search(rf"^\W*{re.escape(model)}\s", said, re.M), model
    assert "two_tower + xgboost - two_tower, ndcg@10: " in said
    assert "published shop-two_tower version 1" in said
    assert "and shop-ranker version 1" in said


@pytest.mark.slow
def test_the_server_answers_until_it_is_told_to_stop(shop: tuple[Path, str]) -> None:
    home, _ = shop
    server = process("serve", "shop", "--port", "0", home=home)
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if found := re.match(r"serving at (\S+);", line):
                break
        else:
            pytest.fail(f"it ended without serving: {server.communicate()[1]}")
        answer = httpx.post(f"{found[1]}/recommend", json={"user_id": "u3", "k": 5}, timeout=30)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["items"]) == 5
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=60)
        assert server.returncode == 0, errors
    finally:
        server.kill()
        server.wait()
