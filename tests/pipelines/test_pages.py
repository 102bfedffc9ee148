"""Pages of drift and of runs: whole, without a network, and nothing in them is more than text."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from recray.pipelines import drift_page, run_page
from recray.track import history
from recray.track.record import Outcome, RunFolder
from tests.console.moved import SENTENCE, look

BAD = "<img src=x onerror=alert(1)>"


def whole(made: str) -> None:
    assert made.count("<html") == made.count("</html>") == 1
    assert made.count("<svg") == made.count("</svg>")
    assert "<img" not in made
    assert not re.search(r"""(?:src|href)=["']?https?:""", made)


def test_what_moved_is_on_the_page_of_drift() -> None:
    made = drift_page.render(look(moved=True))
    whole(made)
    assert SENTENCE in made
    assert made.count("<svg") == 2
    assert "nothing moved" not in made
    calm = drift_page.render(look(moved=False))
    assert "nothing moved by more than chance" in calm


def test_names_of_features_are_text() -> None:
    found = look(moved=True)
    named = replace(found, features=tuple(replace(one, name=BAD, sentence=BAD) for one in found.features))
    alarms = tuple(replace(one, name=BAD, sentence=BAD) for one in found.standing)
    whole(drift_page.render(replace(named, standing=alarms, version=BAD, sentences=(BAD,))))


def test_a_look_at_nothing_has_a_page() -> None:
    made = drift_page.render(replace(look(moved=False), features=(), against=None, version=""))
    whole(made)
    assert "there is nothing to compare with yet" in made


def run_of(folder: Path, epochs: int, **settings: object) -> RunFolder:
    run = RunFolder(folder / "shop-1")
    run.note_settings({"loop.metric": "ndcg@10", "name": BAD, **settings})
    for epoch in range(1, epochs + 1):
        report = {"epoch": epoch, "ndcg@10": 0.5 - 1 / (3 + epoch), "train_loss": 1 / epoch, "wall_s": 60.0}
        history.append(run.folder, report)
    return run


@pytest.mark.parametrize(("epochs", "plots"), [(0, 0), (1, 2), (7, 2)])
def test_a_run_is_a_page_at_any_time(tmp_path: Path, epochs: int, plots: int) -> None:
    run = run_of(tmp_path, epochs)
    made = run_page.render(run)
    whole(made)
    assert made.count("<svg") == plots
    assert "it goes on" in made
    run.end(Outcome(state="failed", said=BAD, metrics={"ndcg@10": 0.1234}, card={"split": "random"}))
    ended = run_page.render(run)
    whole(ended)
    assert "0.1234" in ended
    assert "random" in ended


def test_a_run_without_epochs_has_its_settings(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "counted")
    run.note_settings({"model.k": 20})
    made = run_page.render(run)
    whole(made)
    assert "model.k" in made
