"""What was logged becomes data, and that a new version: both jobs as they are called."""

import json
from pathlib import Path

import pytest

from recray.store import Store, run_record
from tests.jobs.world import ended, events_file, job, published, train
from tests.pipelines.days import by_taste, serve_a_day

NAME = "films-ranker"
LOCAL = ("--launch.where", "local")


@pytest.fixture(scope="module")
def events(home: Path) -> str:
    """With a ranker in production, and a day in its log."""
    events = events_file(home)
    train("item_knn", events, *LOCAL)
    said = train(
        "ranker", events, *LOCAL, "--retriever", "films-item_knn", "--model.rounds", "5", "--promote"
    )
    assert published(said) == [f"{NAME} version 1"]
    serve_a_day(NAME, 0, by_taste)
    return events


def test_data_is_made_of_what_was_logged(events: str) -> None:
    said = job("build_feedback", NAME, "--attribution", "1h", "--since", "2023-11-01")
    report = json.loads(said[: said.index("\n}") + 2])
    assert (report["lists"], report["shown"], report["marks"]["forged"]) == (180, 1080, 0)
    assert "?name=films&" in said
    again = job("build_feedback", NAME, "--base", events, "--since", "2023-11-01", "--until", "2023-11-20")
    assert json.loads(again[: again.index("\n}") + 2]) == report
    status, _, why = ended("build_feedback", NAME, "--since", "yesterday")
    assert (status, "'yesterday' is no day or moment" in why) == (2, True)


def test_the_log_is_replayed_and_its_lists_are_counted(events: str) -> None:
    said = job("replay", NAME, "--lists", "20")
    assert "scores: 180 of 180 answers scored again, 0 bit-equal" in said  # a log that was made up
    assert "in 20 lists, computed again" in said
    assert Path(job("drift", NAME).rpartition("page: ")[2].strip()).read_text().startswith("<!doctype html>")
    assert "180 lists of " in job("business", NAME, "--by", "day")


def test_a_round_ends_in_a_candidate(events: str) -> None:
    said = job("retrain", NAME, *LOCAL, "--gates.tolerance", "1")
    assert f"candidate: {NAME} version 2" in said
    assert Store().names(NAME) == {"production": 1, "candidate": 2}
    assert run_record(Store().open(NAME, 2)).feedback["interactions"] > 0
    status, _, why = ended("evaluate", "--logged", NAME)
    assert (status, "no list was drawn by chance" in why) == (2, True)
    status, _, why = ended("retrain", NAME, *LOCAL, "--gates.least-lists", "9999")
    assert (status, f"{NAME} stays as it is: lists: " in why) == (2, True)
