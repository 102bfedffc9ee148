"""The table of docs/baselines.md is that of its result file."""

import json

from benchmarks.baselines import EXPERIMENT, PAGE, RESULT, with_table
from recray.pipelines.experiment import read_experiment


def test_the_table_is_of_the_result_file() -> None:
    page, rows = PAGE.read_text(), json.loads(RESULT.read_text())
    assert with_table(page, rows) == page
    assert {row["dataset"] for row in rows} <= set(read_experiment(EXPERIMENT).datasets)
