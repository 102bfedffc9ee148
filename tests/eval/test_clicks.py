"""Click metrics against scikit-learn and slow loops; intervals against what they promise."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from recray.arrays import Float64s
from recray.config import ConfigError
from recray.eval.clicks import ClickEvaluation, ClickTally, difference, summary
from recray.schema import DataError, ProtocolCard

CARD = ProtocolCard(
    dataset="made", dataset_hash="0", split="global-time", target="test", relevance="click", k_core=0
)


def made(seed: int = 0, rows: int = 3_000, noise: float = 1.0, users: int = 300) -> ClickEvaluation:
    """Rows whose labels follow a planted logit; scores see it through noise and rounding (ties)."""
    rng = np.random.default_rng(0)
    truth_N = rng.normal(-1.0, 1.5, rows)
    labels_N = (rng.random(rows) < 1 / (1 + np.exp(-truth_N))).astype(np.float64)
    logits_N = np.round(truth_N + noise * np.random.default_rng(seed).normal(size=rows), 1)
    return ClickEvaluation(
        card=CARD, logits_N=logits_N, labels_N=labels_N, units_N=rng.integers(users, size=rows)
    )


def test_metrics_match_scikit_learn() -> None:
    clicks = made()
    found = clicks.means()
    p_N = 1 / (1 + np.exp(-clicks.logits_N))
    rate = clicks.labels_N.mean()
    entropy = log_loss(clicks.labels_N, np.full(len(p_N), rate))
    assert len(np.unique(clicks.logits_N)) < 200  # many ties
    assert found["auc"] == pytest.approx(roc_auc_score(clicks.labels_N, clicks.logits_N), abs=1e-12)
    assert found["logloss"] == pytest.approx(log_loss(clicks.labels_N, p_N), rel=1e-12)
    assert found["normalised_entropy"] == pytest.approx(log_loss(clicks.labels_N, p_N) / entropy, rel=1e-12)
    assert found["calibration"] == pytest.approx(p_N.mean() / rate, rel=1e-12)


def test_auc_is_the_share_of_pairs_in_order() -> None:
    clicks = made(rows=60)
    pairs = product(clicks.logits_N[clicks.labels_N == 1], clicks.logits_N[clicks.labels_N == 0])
    shares = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs]
    assert clicks.means()["auc"] == pytest.approx(np.mean(shares), abs=1e-12)


def test_the_rate_alone_has_a_normalised_entropy_of_one() -> None:
    clicks = made()
    rate = clicks.labels_N.mean()
    constant = ClickEvaluation(
        card=CARD,
        logits_N=np.full(len(clicks.labels_N), np.log(rate / (1 - rate))),
        labels_N=clicks.labels_N,
        units_N=clicks.units_N,
    )
    found = constant.means()
    assert found["normalised_entropy"] == pytest.approx(1.0)
    assert found["calibration"] == pytest.approx(1.0)
    assert found["auc"] == 0.5


def test_weights_are_repeated_rows() -> None:
    clicks = made(rows=200)
    times_N = np.random.default_rng(1).integers(0, 4, size=200)
    repeated = ClickEvaluation(
        card=CARD,
        logits_N=np.repeat(clicks.logits_N, times_N),
        labels_N=np.repeat(clicks.labels_N, times_N),
        units_N=np.arange(times_N.sum()),
    )
    np.testing.assert_allclose(clicks.weighted(times_N.astype(float)), list(repeated.means().values()))


def tallied(logits_N: Float64s, labels_N: Float64s, cuts: Sequence[int], **limits: int) -> list[ClickTally]:
    """The rows in as many tallies as there are cuts, in batches of 97."""
    tallies = []
    for rows in np.split(np.arange(len(logits_N)), cuts):
        tallies.append(ClickTally(**limits))
        for batch in np.split(rows, range(97, len(rows), 97)):
            tallies[-1].add(torch.from_numpy(logits_N[batch]), torch.from_numpy(labels_N[batch]))
    return tallies


def test_workers_together_have_the_metrics_of_all_rows() -> None:
    clicks = made()
    workers = tallied(clicks.logits_N, clicks.labels_N, (1000, 1000))  # one of them has no rows
    found = workers[0].metrics([each.points() for each in workers[1:]])
    assert found == pytest.approx(clicks.means(), abs=1e-12)
    assert ClickTally().metrics([each.points() for each in workers]) == found


@pytest.mark.parametrize("deviation", [1e-6, 1e-3, 1.0, 50.0, 1e3])
@pytest.mark.parametrize("mean", [0.0, -3.0])
@pytest.mark.parametrize("tied", [False, True])
def test_auc_does_not_depend_on_the_scale_of_the_logits(deviation: float, mean: float, tied: bool) -> None:
    rng = np.random.default_rng(0)
    labels_N = (rng.random(20_000) < 0.1).astype(np.float64)
    scores_N = rng.normal(size=20_000) + 0.9 * labels_N
    if tied:  # most rows share five scores
        scores_N = np.where(rng.random(20_000) < 0.8, np.round(scores_N), scores_N)
    logits_N = mean + deviation * scores_N
    exact = roc_auc_score(labels_N, logits_N)
    workers = tallied(logits_N, labels_N, (5_000, 12_000), hold=4_000, join=2_000)
    joined = ClickTally().metrics([each.points() for each in workers])
    assert joined["auc"] == pytest.approx(exact, abs=1e-3)
    evaluation = ClickEvaluation(card=CARD, logits_N=logits_N, labels_N=labels_N, units_N=np.arange(20_000))
    assert joined["logloss"] == pytest.approx(evaluation.means()["logloss"], rel=1e-12)
    whole = tallied(logits_N, labels_N, ())[0].metrics()
    assert whole["auc"] == pytest.approx(exact, abs=1e-12)


def test_rows_of_one_label_have_no_metrics() -> None:
    ones = ClickTally()
    ones.add(torch.tensor([0.1, 90.0, -90.0]), torch.ones(3))
    assert all(np.isnan(value) for value in ones.metrics().values())
    assert all(np.isnan(value) for value in ClickTally().metrics().values())
    other = ClickTally()
    other.add(torch.tensor([-90.0]), torch.zeros(1))
    assert ones.metrics([other.points()])["auc"] == pytest.approx((1 + 1 + 0.5) / 3)


def test_intervals_cover_and_users_widen_them() -> None:
    rng = np.random.default_rng(3)
    clicks = made(noise=0.5)
    rows = ClickEvaluation(
        card=CARD, logits_N=clicks.logits_N, labels_N=clicks.labels_N, units_N=np.arange(len(clicks.units_N))
    )
    by_row = summary([rows], num_resamples=200)["auc"]
    assert by_row.low < clicks.means()["auc"] < by_row.high
    # Users who always do the same: 60 of them know as much as 60 rows.
    user_N = np.repeat(np.arange(60), 50)
    label_U = rng.integers(2, size=60).astype(float)
    logit_U = label_U + rng.normal(size=60)
    same: dict[str, Any] = {"card": CARD, "logits_N": logit_U[user_N], "labels_N": label_U[user_N]}
    narrow = summary([ClickEvaluation(**same, units_N=np.arange(3000))], num_resamples=200)["auc"]
    wide = summary([ClickEvaluation(**same, units_N=user_N)], num_resamples=200)["auc"]
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_differences_are_paired() -> None:
    good, same, worse = made(noise=0.5), made(noise=0.5), made(noise=1.0, seed=1)
    assert difference([good], [same], "auc", num_resamples=50) == (0.0, 0.0, 0.0)
    gap = difference([good], [worse], "auc", num_resamples=200)
    assert gap.mean == pytest.approx(good.means()["auc"] - worse.means()["auc"])
    assert 0 < gap.low < gap.mean < gap.high
    alone = [summary([run], num_resamples=200)["auc"] for run in (good, worse)]
    assert gap.high - gap.low < sum(found.high - found.low for found in alone) / 2
    loss = difference([good], [worse], "logloss", num_resamples=200)
    assert loss.high < 0


def test_runs_with_several_seeds_are_averaged() -> None:
    runs = [made(seed=s) for s in range(3)]
    assert summary(runs, num_resamples=20)["auc"].mean == pytest.approx(
        np.mean([run.means()["auc"] for run in runs])
    )


def test_what_cannot_be_measured_is_refused() -> None:
    clicks = made(rows=50)
    with pytest.raises(DataError, match="a label is 2.0: binarise"):
        ClickTally().add(torch.zeros(2), torch.tensor([2.0, 0.0]))
    with pytest.raises(DataError, match="1 of 2 scores are NaN"):
        ClickTally().add(torch.tensor([float("nan"), 0.0]), torch.zeros(2))
    with pytest.raises(DataError, match="one label only"):
        ClickEvaluation(card=CARD, logits_N=np.zeros(3), labels_N=np.ones(3), units_N=np.arange(3))
    with pytest.raises(ConfigError, match="different rows"):
        difference([clicks], [made(rows=40)], "auc")
    with pytest.raises(ConfigError, match="no metric 'ne'"):
        difference([clicks], [clicks], "ne")
