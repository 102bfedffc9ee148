"""The tables of docs/baselines.md are those of their result files."""

import json

import pytest

from benchmarks.baselines import PAGE, TABLES, Table, with_table
from recray.pipelines.experiment import read_experiment


@pytest.mark.parametrize("one", TABLES.values(), ids=TABLES)
def test_a_table_is_of_its_result_file(one: Table) -> None:
    page, rows = PAGE.read_text(), json.loads(one.result.read_text())
    assert with_table(page, one, rows) == page
    experiment = read_experiment(one.experiment)
    assert {row["dataset"] for row in rows} <= set(experiment.datasets)
    assert {row["model"] for row in rows} <= {each.title or each.model for each in experiment.models}
