"""Clicks and graded queries, from files of a few hundred rows to a published model."""

from pathlib import Path

import pytest

from recray.store import Store
from tests.jobs.world import criteo_folder, events_file, job, letor_folder, published, train

BRIEF = ("--launch.where", "local", "--loop.epochs", "3")


@pytest.mark.usefixtures("home")
def test_rows_are_prepared_with_their_quality_report(tmp_path: Path) -> None:
    said = job("prepare", events_file(tmp_path), "--rows")
    assert " train, " in said
    assert "<html" in Path(said.split("quality report: ")[1].strip()).read_text()


@pytest.mark.usefixtures("home")
def test_dlrm_learns_clicks_and_is_published(tmp_path: Path) -> None:
    said = train("dlrm", f"{criteo_folder(tmp_path)}?name=clicks", *BRIEF, "--loop.batch-size", "50")
    assert "dlrm on clicks" in said
    for metric in ("auc", "logloss", "calibration"):
        assert metric in said
    assert published(said) == ["clicks-dlrm version 1"]
    [manifest] = Store().versions("clicks-dlrm")
    assert 0 <= manifest.metrics["auc"] <= 1


@pytest.mark.usefixtures("home")
def test_lambdarank_orders_queries_and_is_published(tmp_path: Path) -> None:
    said = train("lambdarank", letor_folder(tmp_path), *BRIEF)
    assert "lambdarank on letor" in said
    assert "ndcg@10" in said
    [version] = published(said)
    [manifest] = Store().versions(version.split()[0])
    assert 0 <= manifest.metrics["ndcg@10"] <= 1
