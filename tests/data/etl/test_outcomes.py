"""Over Ray Data a log is joined as in one process."""

import time
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from recray.data.etl.outcomes import outcomes_with_ray
from recray.data.logged.outcomes import outcomes
from recray.event_log.partitions import partitions, read_rows
from recray.event_log.reading import read
from recray.event_log.writer import LogWriter
from recray.schema import DataError
from tests.data.logged.test_outcomes import LATER, did
from tests.event_log.logged import AT, answer, event


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_rows_are_those_of_one_process(tmp_path: Path) -> None:
    twice = did("purchase", 1, 30.0, "r2")._replace(event_id="told at two nodes")
    for node in ("one", "two"):
        log = LogWriter(tmp_path, node)
        for number in range(40):
            n = 2 * number + (node == "two")
            log.expose([answer(n, features=number % 3 > 0)])
            log.record([did("click", n % 3, n + 5.0, f"r{n}"), did("cart", n % 2, n + 70.0, f"r{n - 1}")])
            log.record([did("click", n % 3, n + 6.0, f"r{n}"), did("purchase", n % 7, n + 5.0, None)])
            if number == 30:
                log.compact()  # the others stay live
        # Of what was told at two nodes what came first counts: it claims another answer, and another kind.
        if node == "one":
            log.record([twice._replace(kind="cart", received=AT + 40.0, request_id="r4")])
        else:
            log.record([twice])
        log.close()
    alone = outcomes(read(tmp_path), 60, LATER).sort("request_id", "rank")
    assert (alone["label"] > 0).sum() == 81
    assert alone.filter(request_id="r2")["label"].to_list() == [0.0, 3.0, 1.0]
    spread = outcomes_with_ray(tmp_path, 60, LATER, num_buckets=3)
    tables = [
        pl.DataFrame(pl.from_arrow(table))
        for table in spread.iter_batches(batch_size=None, batch_format="pyarrow")
    ]
    found = pl.concat(tables).sort("request_id", "rank")
    assert_frame_equal(found.select(alone.columns), alone)


def test_a_file_that_was_merged_meanwhile_is_read_from_the_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, now = LogWriter(tmp_path), time.time()
    for number in range(3):
        log.record([event(number)])
        log.compact()
    files = partitions(tmp_path, "events")
    monkeypatch.setattr("time.time", lambda: now + 3_600)
    log.compact()
    log.close()
    assert [file.path.exists() for file in files] == [False] * 3
    assert [read_rows(file.path)["event_id"].to_list() for file in files] == [["e0"], ["e1"], ["e2"]]


def test_a_log_without_anything_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no log in"):
        outcomes_with_ray(tmp_path, 60, LATER)
    LogWriter(tmp_path).close()
    with pytest.raises(DataError, match="nothing was shown or told yet"):
        outcomes_with_ray(tmp_path, 60, LATER)
