"""Clicks and graded queries, from files of a few hundred rows to a published model."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recray.bundles.clicks import open_scorer
from recray.pipelines import score
from recray.store import Store
from tests.bundles.click_world import frame
from tests.jobs.world import criteo_folder, ended, events_file, job, letor_folder, published, train

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


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_of_rows_is_scored_as_rows_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    frame().write_csv(tmp_path / "shop.csv")
    name = f"shop-{ending}"
    train("dlrm", f"{tmp_path / 'shop.csv'}?name={name}", *BRIEF)
    new = frame().with_columns(country=pl.Series(["FR", "DE", "AT"] * 200)).drop("click")
    source, target = tmp_path / f"new.{ending}", tmp_path / "scored.parquet"
    new.write_csv(source) if ending == "csv" else new.write_parquet(source)
    monkeypatch.setattr(score, "CHUNK_ROWS", 256)  # so that there are several
    said = job("score", f"{name}-dlrm", source, target)
    assert "country: 200 values that training did not have" in said
    assert f"600 rows scored by {name}-dlrm version 1" in said
    scored = pl.read_parquet(target)
    assert scored.columns == [*new.columns, "score"]
    assert scored["time"].cast(pl.Int64).to_list() == new["time"].to_list()
    rows = new.drop("time").to_dicts()
    asked_N = open_scorer(Store().open(f"{name}-dlrm", 1)).score(rows)
    np.testing.assert_allclose(scored["score"].to_numpy(), asked_N, rtol=1e-5)
    status, _, errors = ended("score", f"{name}-dlrm", target, tmp_path / "again.parquet")
    assert status == 2
    assert "it has a column 'score' already" in errors
    (tmp_path / "empty.csv").write_text("")
    assert ended("score", f"{name}-dlrm", tmp_path / "empty.csv", target)[0] == 2
    assert not list(tmp_path.glob(".score-*"))
