"""Over Ray Data a log is joined as in one process."""

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from recray.data.etl.outcomes import outcomes_with_ray
from recray.data.logged.outcomes import outcomes
from recray.event_log.reading import read
from recray.event_log.writer import LogWriter
from recray.schema import DataError
from tests.data.logged.test_outcomes import LATER, did
from tests.event_log.logged import answer

pytestmark = pytest.mark.ray


@pytest.mark.usefixtures("ray_cluster")
def test_the_rows_are_those_of_one_process(tmp_path: Path) -> None:
    for node in ("one", "two"):
        log = LogWriter(tmp_path, node)
        for number in range(40):
            n = 2 * number + (node == "two")
            log.expose([answer(n, features=number % 3 > 0)])
            log.record([did("click", n % 3, n + 5.0, f"r{n}"), did("cart", n % 2, n + 70.0, f"r{n - 1}")])
            log.record([did("click", n % 3, n + 6.0, f"r{n}"), did("purchase", n % 7, n + 5.0, None)])
        log.compact()
        log.close()
    alone = outcomes(read(tmp_path), 60, LATER).sort("request_id", "rank")
    assert (alone["label"] > 0).sum() == 80
    spread = outcomes_with_ray(tmp_path, 60, LATER, num_buckets=5)
    tables = [
        pl.DataFrame(pl.from_arrow(table))
        for table in spread.iter_batches(batch_size=None, batch_format="pyarrow")
    ]
    found = pl.concat(tables).sort("request_id", "rank")
    assert_frame_equal(found.select(alone.columns), alone)


def test_nothing_compacted_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing is compacted yet"):
        outcomes_with_ray(tmp_path, 60, LATER)
