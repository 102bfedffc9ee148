"""Graded NDCG against scikit-learn, and its ties against every order."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from recray.config import ConfigError
from recray.eval.compare import compare
from recray.eval.sessions import evaluate_sessions, session_ndcg
from recray.schema import DataError, ProtocolCard

CARD = ProtocolCard(
    dataset="made", dataset_hash="0", split="queries", target="test", relevance="grade", k_core=0
)
OFFSETS = np.array([0, 5, 5, 8, 20])


def made(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    grades_N = rng.integers(0, 5, OFFSETS[-1]).astype(float)
    grades_N[5:8] = 0  # a session without anything relevant
    return rng.normal(size=OFFSETS[-1]), grades_N


@pytest.mark.parametrize("k", [1, 3, 10, 50])
def test_it_matches_scikit_learn_with_exponential_gain(k: int) -> None:
    scores_N, grades_N = made()
    found_S = session_ndcg(scores_N, grades_N, OFFSETS, (k,))[f"ndcg@{k}"]
    assert np.isnan(found_S[[1, 2]]).all()
    for s in (0, 3):
        part = slice(OFFSETS[s], OFFSETS[s + 1])
        expected = ndcg_score([2 ** grades_N[part] - 1], [scores_N[part]], k=k, ignore_ties=True)
        assert found_S[s] == pytest.approx(expected, abs=1e-12)


def test_ties_share_their_credit() -> None:
    scores_N, grades_N = np.array([1.0, 0.0, 0.0, 0.0, -1.0]), np.array([1.0, 3.0, 0.0, 1.0, 4.0])
    offsets_S = np.array([0, 5])
    found = session_ndcg(scores_N, grades_N, offsets_S, (2, 3))
    for k in (2, 3):
        values = []
        for order in permutations((0.3, 0.2, 0.1)):
            broken_N = np.array([1.0, *order, -1.0])
            values.append(session_ndcg(broken_N, grades_N, offsets_S, (k,))[f"ndcg@{k}"][0])
        assert found[f"ndcg@{k}"][0] == pytest.approx(np.mean(values), abs=1e-12)


def test_an_evaluation_keeps_sessions_with_something_to_find() -> None:
    scores_N, grades_N = made()
    a = evaluate_sessions(scores_N, grades_N, OFFSETS, CARD, (1, 10))
    b = evaluate_sessions(grades_N, grades_N, OFFSETS, CARD, (1, 10))
    assert a.user_ids_U.tolist() == [0, 3]
    assert b.means() == {"ndcg@1": 1.0, "ndcg@10": 1.0}
    assert compare(b, a, "ndcg@10").mean == pytest.approx(1 - a.means()["ndcg@10"])
    none = evaluate_sessions(scores_N[:0], grades_N[:0], np.array([0]), CARD)
    assert len(none.user_ids_U) == 0


def test_nonsense_is_refused() -> None:
    scores_N, grades_N = made()
    with pytest.raises(ConfigError, match="at least 1"):
        session_ndcg(scores_N, grades_N, OFFSETS, (0,))
    with pytest.raises(DataError, match="20 of 20 scores are NaN"):
        session_ndcg(scores_N * np.nan, grades_N, OFFSETS, (1,))
