"""New items on their way between deployments that do not know the same ones, or not in the same order."""

from dataclasses import replace

import numpy as np
import pytest

from recray.features.candidates import Candidates
from recray.serve.clock import StageClock
from recray.serve.place.crossing import Crossing
from recray.serve.query import History, Query
from recray.serve.state import Explanation, RequestState

PUBLISHED = 10
INGRESS, RETRIEVAL = Crossing(PUBLISHED, ["a", "b", "c"]), Crossing(PUBLISHED, ["c", "a"])  # c: 12 and 10
BEHIND = Crossing(PUBLISHED)


def query(history: list[int] | None, exclude: list[int], times: list[int] | None = None) -> Query:
    ids = [None if each is None else np.array(each, np.int64) for each in (history, exclude, times)]
    return Query(3, ids[0], ids[1], 100, 5, ids[2])  # type: ignore[arg-type]


def test_an_item_is_where_it_arrives_the_row_that_it_has_there() -> None:
    rows_N = np.array([0, 9, 10, 11, 12])
    assert RETRIEVAL.back(INGRESS.out(rows_N)).tolist() == [0, 9, 11, -1, 10]
    assert INGRESS.back(RETRIEVAL.out(np.array([10, 11]))).tolist() == [12, 10]
    assert BEHIND.back(INGRESS.out(rows_N)).tolist() == [0, 9, -1, -1, -1]
    known = np.array([3, 4])
    assert BEHIND.out(known) is known
    assert BEHIND.back(known) is known


def test_a_query_loses_what_is_not_known_where_it_arrives() -> None:
    sent = INGRESS.query_out(query([2, 11, 12], [10, 4], [1, 2, 3]))
    arrived = RETRIEVAL.query_back(sent)
    assert arrived.history_ids is not None
    assert arrived.history_times is not None
    assert arrived.history_ids.tolist() == [2, 10]
    assert arrived.history_times.tolist() == [1, 3]
    assert arrived.exclude_ids.tolist() == [11, 4]
    nothing = BEHIND.query_back(INGRESS.query_out(query([11], [12], [7])))
    assert nothing.history_ids is None  # as if the client had sent none
    assert nothing.history_times is None
    assert nothing.exclude_ids.tolist() == []
    assert RETRIEVAL.query_back(INGRESS.query_out(query(None, []))).history_ids is None
    told = History(np.array([2, 11, 12]), np.array([5, 6, 7]))
    arrived = RETRIEVAL.query_back(INGRESS.query_out(replace(query(None, []), told=told)))
    assert arrived.told is not None
    assert arrived.told.item_ids_H.tolist() == [2, 10]
    assert arrived.told.times_H.tolist() == [5, 7]


@pytest.mark.parametrize("explained", [False, True])
def test_a_list_loses_what_is_not_known_where_it_arrives(explained: bool) -> None:
    candidates = Candidates(
        np.array([4, 11, 10, 7, 2]),
        np.array([5, 4, 3, 2, 1], np.float32),
        np.array([1, 1, 2, 1, 2], np.uint8),
    )
    reasons = Explanation(("f",), np.array([[30.0], [50.0], [40.0]]), np.array([[3.0], [5.0], [4.0]]))
    state = RequestState(
        query([11], [10]),
        StageClock(),
        candidates,
        num_ranked=3,
        scores_K=np.array([0.5, 0.4, 0.3, np.nan, np.nan], np.float32),
        order_S=np.array([2, 0, 1, 3]),
        propensities_S=np.array([0.3, 0.5, 0.4, 0.2]),
        explanation=reasons if explained else None,
    )
    arrived = Crossing(PUBLISHED, ["x", "c"]).back_in(RETRIEVAL.out_of(state))  # c at 11, a not known
    assert arrived.candidates.item_ids_K.tolist() == [4, 11, 7, 2]
    assert arrived.candidates.scores_K.tolist() == [5, 3, 2, 1]
    assert arrived.candidates.sources_K.tolist() == [1, 2, 1, 2]
    assert arrived.num_ranked == 2
    assert arrived.item_ids_S.tolist() == [11, 4, 7]
    assert arrived.propensities_S is not None
    assert arrived.propensities_S.tolist() == [0.3, 0.5, 0.2]
    np.testing.assert_array_equal(arrived.scores_K, np.array([0.5, 0.3, np.nan, np.nan], np.float32))
    if explained:
        assert arrived.explanation is not None
        assert arrived.explanation.features_SF.tolist() == [[30.0], [50.0]]
        assert arrived.explanation.contributions_SF.tolist() == [[3.0], [5.0]]
    whole = RETRIEVAL.back_in(RETRIEVAL.out_of(state))
    assert whole.candidates.item_ids_K.tolist() == candidates.item_ids_K.tolist()
    assert whole.order_S is state.order_S
