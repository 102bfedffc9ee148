"""Ranking examples: labels, down-sampling, whole queries on workers, and files."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recray.batch import EvalExamples, Jagged, QueryBatch
from recray.features.candidates import Candidates
from recray.features.examples import (
    RankingExamples,
    deal,
    load_examples,
    quantized,
    ranking_examples,
    ranking_query,
    save_examples,
    share,
)
from recray.features.queries import day_queries
from recray.features.ranking import FEATURES, RankingQuery, compute
from recray.schema import DataError
from tests.features.worlds import DAYS, NUM_ITEMS, START, int64, make_world
from tests.features.worlds import World as LogWorld

DAY_S = 86_400
NAMES = tuple(FEATURES)


def make_batch(world: LogWorld, seed: int = 0) -> tuple[EvalExamples, list[Candidates]]:
    examples = day_queries(world.log, START, START + DAYS * DAY_S)
    rng = np.random.default_rng(seed)
    candidates = []
    for _ in examples.queries.user_ids_B:
        ids_K = rng.permutation(NUM_ITEMS)[: rng.integers(1, NUM_ITEMS)]
        scores_K = np.sort(rng.random(len(ids_K)).astype(np.float32))[::-1].copy()
        candidates.append(Candidates(ids_K, scores_K, rng.integers(1, 4, len(ids_K)).astype(np.uint8)))
    return examples, candidates


def test_rows_are_what_compute_gives_with_targets_labelled() -> None:
    world = make_world()
    (queries, targets), candidates = make_batch(world)
    rows = ranking_examples(world.log, queries, candidates, targets, NAMES, keep_unanswered=True)
    assert len(np.unique(rows.query_ids_N)) == len(candidates)
    for b, one in enumerate(candidates):
        mine = rows.query_ids_N == b
        query = RankingQuery(
            int(queries.user_ids_B[b]),
            int(queries.request_times_B[b]),
            one.item_ids_K,
            one.scores_K,
            one.sources_K,
        )
        assert rows.features_NF[mine].tobytes() == compute(world.log, query, NAMES).tobytes()
        assert rows.item_ids_N[mine].tolist() == one.item_ids_K.tolist()
        wanted = set(targets.row(b).tolist())
        assert rows.labels_N[mine].tolist() == [float(i in wanted) for i in one.item_ids_K.tolist()]


def test_a_query_s_rows_do_not_depend_on_the_batch() -> None:
    world = make_world()
    (queries, targets), candidates = make_batch(world)
    rows = ranking_examples(world.log, queries, candidates, targets, NAMES, negatives=2)
    alone = ranking_examples(
        world.log, queries.slice(0, 5), candidates[:5], targets.slice(0, 5), NAMES, negatives=2
    )
    first = rows.query_ids_N < 5
    for whole, part in zip(rows[1:], alone[1:], strict=True):
        assert whole[first].tobytes() == part.tobytes()


def test_sampling_keeps_all_positives_and_drops_queries_without_any() -> None:
    world = make_world()
    (queries, targets), candidates = make_batch(world)
    full = ranking_examples(world.log, queries, candidates, targets, NAMES)
    few = ranking_examples(world.log, queries, candidates, targets, NAMES, negatives=3, seed=1)
    again = ranking_examples(world.log, queries, candidates, targets, NAMES, negatives=3, seed=1)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(few[1:], again[1:], strict=True))
    assert set(few.query_ids_N) == set(full.query_ids_N) < set(range(len(candidates)))
    for query in np.unique(full.query_ids_N):
        kept, all_rows = few.query_ids_N == query, full.query_ids_N == query
        assert few.labels_N[kept].sum() == full.labels_N[all_rows].sum() > 0
        assert (few.labels_N[kept] == 0).sum() == min(3, (full.labels_N[all_rows] == 0).sum())
        # Vectors are those of the full list: sampling comes after.
        places = [full.item_ids_N[all_rows].tolist().index(i) for i in few.item_ids_N[kept].tolist()]
        assert few.features_NF[kept].tobytes() == full.features_NF[all_rows][places].tobytes()


def test_grades_become_labels() -> None:
    world = make_world()
    (queries, targets), candidates = make_batch(world)
    grades_N = (1.0 + targets.values_N.numpy() % 3).astype(np.float32)
    rows = ranking_examples(world.log, queries, candidates, targets, NAMES, grades_N=grades_N)
    hit = rows.labels_N > 0
    np.testing.assert_array_equal(rows.labels_N[hit], 1.0 + rows.item_ids_N[hit] % 3)


def test_unknown_users_bring_their_history() -> None:
    queries = QueryBatch(
        torch.tensor([-1, 2]),
        Jagged.from_rows([[3, 4], [5]]),
        torch.tensor([START, START + 1, START]),
        torch.tensor([START + 9, START + 9]),
    )
    candidates = Candidates(int64([1]), np.ones(1, np.float32), np.ones(1, np.uint8))
    unknown, known = (ranking_query(queries, b, candidates) for b in (0, 1))
    assert unknown.history_ids is not None
    assert unknown.history_times is not None
    assert unknown.history_ids.tolist() == [3, 4]
    assert unknown.history_times.tolist() == [START, START + 1]
    assert known.history_ids is None


def test_mistakes_are_named(tmp_path: Path) -> None:
    world = make_world()
    (queries, targets), candidates = make_batch(world)
    with pytest.raises(DataError, match="candidate lists"):
        ranking_examples(world.log, queries, candidates[1:], targets, NAMES)
    with pytest.raises(DataError, match="1 grades"):
        ranking_examples(world.log, queries, candidates, targets, NAMES, grades_N=np.ones(1, np.float32))
    nothing = Jagged.from_rows([[]] * len(candidates))
    with pytest.raises(DataError, match="no query has a target"):
        ranking_examples(world.log, queries, candidates, nothing, NAMES)
    with pytest.raises(DataError, match="2 queries cannot be dealt to 3 workers"):
        deal(int64([0, 0, 1]), 3)
    with pytest.raises(DataError, match="no such file"):
        load_examples(tmp_path / "none.parquet")


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 5))
@settings(deadline=None)
def test_queries_stay_whole_and_workers_get_about_equal_rows(lengths: list[int], world_size: int) -> None:
    if len(lengths) < world_size:
        return
    query_ids_N = np.repeat(np.arange(len(lengths)) * 7, lengths)
    worker_N = deal(query_ids_N, world_size)
    for query in np.unique(query_ids_N):
        assert len(set(worker_N[query_ids_N == query])) == 1
    loads = np.bincount(worker_N, minlength=world_size)
    assert loads.min() > 0
    assert loads.max() - loads.min() <= max(lengths)


def many_examples(num_queries: int, rows_per_query: int) -> RankingExamples:
    rng = np.random.default_rng(0)
    count = num_queries * rows_per_query
    features_NF = rng.random((count, len(NAMES)), dtype=np.float32)
    features_NF[rng.random(features_NF.shape) < 0.1] = np.nan
    labels_N = rng.integers(0, 2, count).astype(np.float32)
    query_ids_N = np.repeat(np.arange(num_queries), rows_per_query)
    return RankingExamples(NAMES, features_NF, labels_N, query_ids_N, rng.integers(0, 99, count))


def test_quantized_features_take_few_values_each_at_most_the_raw_one() -> None:
    examples = many_examples(20, 50)
    examples.features_NF[:, 0] = np.nan  # nothing known
    examples.features_NF[:, 1] = np.arange(1000) % 4  # few values: kept as they are
    examples.features_NF[:, 2] = np.float32(7.5)
    rounded = quantized(examples, bins=16)
    raw_NF, kept_NF = examples.features_NF, rounded.features_NF
    np.testing.assert_array_equal(np.isnan(raw_NF), np.isnan(kept_NF))
    np.testing.assert_array_equal(raw_NF[:, :3], kept_NF[:, :3])
    assert np.nanmax(kept_NF - raw_NF) <= 0
    for f in range(3, raw_NF.shape[1]):
        known_N = ~np.isnan(raw_NF[:, f])
        assert len(np.unique(kept_NF[known_N, f])) == 16
        assert np.bincount(np.searchsorted(np.unique(kept_NF[known_N, f]), kept_NF[known_N, f])).max() < 90
        order_N = np.argsort(raw_NF[known_N, f])
        assert (np.diff(kept_NF[known_N, f][order_N]) >= 0).all()
    assert quantized(rounded, bins=16).features_NF.tobytes() == kept_NF.tobytes()


def test_files_give_each_worker_its_own_whole_queries(tmp_path: Path) -> None:
    examples = many_examples(700, 150)  # more than one row group
    save_examples(examples, tmp_path / "rows.parquet")
    assert pq.ParquetFile(tmp_path / "rows.parquet").num_row_groups > 1
    whole = load_examples(tmp_path / "rows.parquet")
    assert whole.feature_names == NAMES
    for values, loaded in zip(examples[1:], whole[1:], strict=True):
        assert values.tobytes() == loaded.tobytes()
    seen: list[int] = []
    for rank in range(3):
        part = load_examples(tmp_path / "rows.parquet", rank, 3)
        for mine, loaded in zip(share(examples, rank, 3)[1:], part[1:], strict=True):
            assert mine.tobytes() == loaded.tobytes()
        seen += np.unique(part.query_ids_N).tolist()
    assert sorted(seen) == list(range(700))


def test_a_file_says_itself_which_features_it_holds(tmp_path: Path) -> None:
    """Also some that this code does not know: they were made, and can be learnt from."""
    whole = many_examples(2, 3)
    names = ("item_events", "yesterdays_feature")
    save_examples(whole._replace(feature_names=names, features_NF=whole.features_NF[:, :2]), tmp_path / "few")
    few = load_examples(tmp_path / "few")
    assert few.feature_names == names
    assert few.features_NF.tobytes() == whole.features_NF[:, :2].tobytes()


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": [1], "rating": [2.0]}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"begins with \['user_id', 'rating'\] .* no ranking examples"):
        load_examples(tmp_path / "rows.parquet")
