"""Comparisons: what is refused, what is paired, and the exact shapes of the outputs."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from recray.arrays import Float64s, Int64s
from recray.config import ConfigError
from recray.eval.compare import Row, aggregate, compare, plot, table, to_json
from recray.eval.evaluate import Evaluation
from recray.schema import ProtocolCard

CARD = ProtocolCard(
    dataset="planted", dataset_hash="0", split="leave-one-out", target="test", relevance="all", k_core=0
)
NUM_USERS = 300


def evaluation(values: Float64s, *, users: Int64s | None = None) -> Evaluation:
    users = np.arange(len(values)) if users is None else users
    per_query = {"ndcg@10": values, "hit@10": np.ceil(values)}
    return Evaluation(card=CARD, per_query=per_query, scalars={"coverage@10": 0.25}, user_ids_U=users)


@pytest.fixture(scope="module")
def pair() -> tuple[Evaluation, Evaluation]:
    """Two systems whose users are alike: unpaired intervals overlap, the paired difference is clear."""
    rng = np.random.default_rng(0)
    base = rng.random(NUM_USERS)
    return evaluation(base + rng.normal(0.02, 0.05, NUM_USERS)), evaluation(base)


def rendered(rows: list[Row], **options: list[str]) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(rows, **options))
    return console.export_text()


def test_differences_are_paired(pair: tuple[Evaluation, Evaluation]) -> None:
    better, base = pair
    found = compare(better, base, "ndcg@10")
    differences = better.per_query["ndcg@10"] - base.per_query["ndcg@10"]
    assert found.mean == pytest.approx(differences.mean())
    assert 0 < found.low < found.mean < found.high
    assert found.p_value < 0.001
    width = 2 * 1.96 * differences.std() / np.sqrt(NUM_USERS)
    assert found.high - found.low == pytest.approx(width, rel=0.15)
    wide = better.summary()["ndcg@10"]
    assert wide.low < base.per_query["ndcg@10"].mean() < wide.high  # unpaired, nothing would be seen


def test_swapping_the_systems_swaps_the_sign(pair: tuple[Evaluation, Evaluation]) -> None:
    there, back = compare(*pair, "ndcg@10"), compare(pair[1], pair[0], "ndcg@10")
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))
    assert there.p_value == back.p_value


def test_users_in_another_order_are_matched(pair: tuple[Evaluation, Evaluation]) -> None:
    better, base = pair
    order = np.random.default_rng(1).permutation(NUM_USERS)
    moved = Evaluation(
        card=CARD,
        per_query={name: values[order] for name, values in base.per_query.items()},
        scalars=base.scalars,
        user_ids_U=base.user_ids_U[order],
    )
    assert compare(better, moved, "ndcg@10") == compare(better, base, "ndcg@10")


def test_p_value_is_that_of_a_paired_test() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random(NUM_USERS) + 0.03, rng.random(NUM_USERS)
    found = compare(evaluation(a), evaluation(b), "ndcg@10")
    assert found.p_value == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.02)


def test_different_cards_are_refused_by_name_and_value(pair: tuple[Evaluation, Evaluation]) -> None:
    other = dataclasses.replace(pair[1], card=dataclasses.replace(CARD, split="random", seen="kept"))
    with pytest.raises(ConfigError, match="split: 'leave-one-out' and 'random'; seen: 'filtered' and 'kept'"):
        compare(pair[0], other, "ndcg@10")
    rows = [Row("a", 0, pair[0]), Row("b", 0, other)]
    for show in (aggregate, table, to_json):
        with pytest.raises(ConfigError, match="different protocols"):
            show(rows)


def test_different_users_are_refused() -> None:
    a = evaluation(np.zeros(4))
    with pytest.raises(ConfigError, match=r"4 and 3 queries; only in the first: 1 \(3\)"):
        compare(a, evaluation(np.zeros(3)), "ndcg@10")
    with pytest.raises(ConfigError, match=r"only in the second: 1 \(9\)"):
        compare(a, evaluation(np.zeros(4), users=np.array([0, 1, 2, 9])), "ndcg@10")


def test_an_unknown_metric_names_the_nearest(pair: tuple[Evaluation, Evaluation]) -> None:
    with pytest.raises(ConfigError, match=r"no metric 'ncdg@10' .*'ndcg@10'"):
        compare(*pair, "ncdg@10")
    with pytest.raises(ConfigError, match="no metric 'auc'"):
        table([Row("a", 0, pair[0])], ["auc"])


def test_json_has_exactly_the_promised_shape(pair: tuple[Evaluation, Evaluation]) -> None:
    made = to_json([Row("two_tower", 0, pair[0]), Row("two_tower", 1, pair[1])])
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert set(made) == {"card", "rows"}
    assert ProtocolCard.from_json(made["card"]) == CARD
    assert [(row["model"], row["seed"]) for row in made["rows"]] == [("two_tower", 0), ("two_tower", 1)]
    first = made["rows"][0]
    assert set(first) == {"model", "seed", "ndcg@10", "hit@10", "coverage@10"}
    assert first["ndcg@10"] == pair[0].summary()["ndcg@10"]._asdict()
    assert first["coverage@10"] == {"mean": 0.25, "low": None, "high": None}


def test_seeds_of_a_model_become_one_row() -> None:
    rng = np.random.default_rng(3)
    runs = [evaluation(rng.random(50)) for _ in range(3)]
    rows = [Row("two_tower", seed, run) for seed, run in enumerate(runs)]
    first, second = aggregate([Row("popularity", 0, runs[0]), *rows])
    assert (first.model, first.num_seeds, second.model, second.num_seeds) == ("popularity", 1, "two_tower", 3)
    means = [run.per_query["ndcg@10"].mean() for run in runs]
    assert second.metrics["ndcg@10"].mean == pytest.approx(np.mean(means))
    assert second.seed_std["ndcg@10"] == pytest.approx(np.std(means, ddof=1))
    assert np.isnan(first.seed_std["ndcg@10"])


def test_the_table_shows_means_intervals_and_seeds(pair: tuple[Evaluation, Evaluation]) -> None:
    rows = [Row("item_knn", 0, pair[1]), Row("two_tower", 0, pair[0]), Row("two_tower", 1, pair[1])]
    text = rendered(rows, metrics=["ndcg@10", "coverage@10"])
    found = pair[1].summary()["ndcg@10"]
    assert f"{found.mean:.4f} [{found.low:.4f}, {found.high:.4f}]" in text
    assert "±" in text
    assert "hit@10" not in text
    assert "planted, leave-one-out, test, 300 users" in text


def test_the_plot_is_a_picture(pair: tuple[Evaluation, Evaluation], tmp_path: Path) -> None:
    rows = [Row("item_knn", 0, pair[1]), Row("two_tower", 0, pair[0]), Row("two_tower", 1, pair[1])]
    plot(rows, tmp_path / "models.png")
    content = (tmp_path / "models.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 5000
    with pytest.raises(ConfigError, match="no evaluations"):
        plot([], tmp_path / "none.png")


def test_a_metric_that_says_the_same_of_every_user_has_no_panel_of_its_own(
    pair: tuple[Evaluation, Evaluation], tmp_path: Path
) -> None:
    [one, other] = [
        replace(each, per_query=each.per_query | {"recall@10": each.per_query["hit@10"]}) for each in pair
    ]
    rows = [Row("item_knn", 0, one), Row("two_tower", 0, other)]
    for name, metrics in (("once", ["hit@10"]), ("twice", ["hit@10", "recall@10"])):
        plot(rows, tmp_path / f"{name}.png", metrics)
    assert (tmp_path / "once.png").read_bytes() == (tmp_path / "twice.png").read_bytes()
