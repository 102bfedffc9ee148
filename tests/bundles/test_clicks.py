"""A published DLRM is given raw values: it says of them what it said of the prepared rows."""

from pathlib import Path

import numpy as np
import pytest

from recray.bundles.clicks import open_scorer
from recray.config import ConfigError
from recray.eval.clicks import ClickEvaluation
from recray.pipelines.train import train
from recray.recipes.dlrm import DLRM_RECIPE, DLRMRun, RowsConfig
from recray.schema import DataError
from recray.store import Store
from recray.store.manifest import StoreError
from recray.train.context import LaunchConfig
from recray.train.loop import LoopConfig
from tests.bundles.click_world import frame, trained
from tests.jobs.world import criteo_folder, letor_folder


def test_raw_values_are_scored_as_the_rows_that_were_made_of_them(tmp_path: Path) -> None:
    frame().write_csv(tmp_path / "shop.csv")
    found = trained(tmp_path / "shop.csv", tmp_path / "store")
    assert isinstance(found.measured, ClickEvaluation)
    assert found.measured.means()["auc"] > 0.75
    scorer = open_scorer(found.bundle)
    rows = frame()[-60:].drop("click", "time").to_dicts()
    probabilities_N = scorer.score(rows)
    expected_N = 1 / (1 + np.exp(-found.measured.logits_N))
    np.testing.assert_allclose(probabilities_N, expected_N, rtol=1e-5)
    as_text = [{key: str(value) for key, value in row.items() if value is not None} for row in rows]
    np.testing.assert_array_equal(scorer.score(as_text), probabilities_N)
    unknown, missing = scorer.score([{"country": "FR", "slot_id": 1}, {"slot_id": 1.0}])
    assert unknown == missing
    with pytest.raises(ConfigError, match="no column 'land'"):
        scorer.score([{"land": "DE"}])
    with pytest.raises(DataError, match="price is 'cheap', which is no number"):
        scorer.score([{"price": "cheap"}])


def test_criteos_lines_are_served_the_same_way(tmp_path: Path) -> None:
    found = trained(criteo_folder(tmp_path), tmp_path / "store")
    assert isinstance(found.measured, ClickEvaluation)
    rows = []
    for line in (tmp_path / "clicks" / "test.csv").read_text().splitlines():
        values = line.split("\t")[1:]
        names = [*(f"I{n}" for n in range(1, 14)), *(f"C{n}" for n in range(1, 27))]
        rows.append(dict(zip(names, values, strict=True)))
    expected_N = 1 / (1 + np.exp(-found.measured.logits_N))
    np.testing.assert_allclose(open_scorer(found.bundle).score(rows), expected_N, rtol=1e-5)


def test_rows_without_raw_values_say_so(tmp_path: Path) -> None:
    run = DLRMRun(
        data=RowsConfig(dataset=str(letor_folder(tmp_path))),
        loop=LoopConfig(metric="ndcg@10", epochs=1, batch_size=8),
    )
    found = train(DLRM_RECIPE, run, LaunchConfig(where="local"), Store(tmp_path / "store"))
    with pytest.raises(StoreError, match="takes no raw values"):
        open_scorer(found.bundle)
