"""Generated click logs: a pure function of the seed, and as learnable as planted."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from recray.data.rows.prepare import load_or_prepare_rows
from recray.data.sources.clicks.criteo import Criteo
from recray.data.sources.clicks.criteo_text import parse
from recray.data.sources.clicks.synthetic import BLOCK_ROWS, SyntheticClicks, draw


def test_lines_do_not_depend_on_where_the_parts_are_cut() -> None:
    source = SyntheticClicks(num_rows=BLOCK_ROWS + 100)
    whole = b"".join(block.data for block in source.text())
    cuts = [0, 5, BLOCK_ROWS - 1, BLOCK_ROWS, source.num_rows]
    assert b"".join(b.data for a, z in pairwise(cuts) for b in source.text(a, z)) == whole
    assert whole.count(b"\n") == source.num_rows
    assert next(iter(SyntheticClicks(seed=1).text())).data[:1000] != whole[:1000]


def test_text_says_what_was_drawn() -> None:
    source = SyntheticClicks(num_rows=BLOCK_ROWS)
    drawn = draw(source.truth(), 0, 0)
    (block,) = source.text()
    rows, _, bad = parse(block)
    assert not bad
    assert (rows.labels_N == drawn.labels_N).all()
    assert np.array_equal(rows.dense_NF, drawn.dense_NF, equal_nan=True)
    for c, category in enumerate(rows.categories):
        assert (category.missing_N == (drawn.values_NC[:, c] < 0)).all()
        pairs = set(
            zip(category.values_N[~category.missing_N], drawn.values_NC[~category.missing_N, c], strict=True)
        )
        assert len({text for text, _ in pairs}) == len({value for _, value in pairs}) == len(pairs)


def test_the_truth_predicts_best_and_a_linear_model_finds_a_part_of_it() -> None:
    table = load_or_prepare_rows("synthetic-clicks", num_rows=60_000, max_values=50)
    train, test = table.read("train"), table.read("test")
    assert 0.15 < train.labels_N.mean() < 0.35
    truth = SyntheticClicks(max_values=50).truth()
    log_odds_N = np.concatenate([draw(truth, 0, n).log_odds_N for n in range(2)])[54_000:60_000]
    best = roc_auc_score(test.labels_N, log_odds_N)
    sizes = [feature.size for feature in table.schema.sparse]

    def one_hot(rows: object) -> np.ndarray:
        columns = [np.eye(size, dtype=np.float32)[rows.ids[f"C{n + 1}"]] for n, size in enumerate(sizes)]  # type: ignore[attr-defined]
        return np.concatenate([np.log1p(np.nan_to_num(rows.dense_NF).clip(0)), *columns], axis=1)  # type: ignore[attr-defined]

    linear = LogisticRegression(max_iter=200, C=0.1).fit(one_hot(train), train.labels_N)
    found = roc_auc_score(test.labels_N, linear.predict_proba(one_hot(test))[:, 1])
    assert 0.6 < found < best - 0.02
    assert best > 0.78


def test_a_file_of_them_is_read_as_criteo_would_be(tmp_path: Path) -> None:
    SyntheticClicks(num_rows=7_000).write(tmp_path / "logs.txt")
    table = load_or_prepare_rows(str(tmp_path / "logs.txt"), ids="hashed", buckets=1000)
    made = load_or_prepare_rows("synthetic-clicks", num_rows=7_000, ids="hashed", buckets=1000)
    assert table.manifest.source == Criteo(name="x").reader
    assert [table.num_rows(p) for p in ("train", "test")] == [6000, 500]
    assert [made.num_rows(p) for p in ("train", "test")] == [5600, 700]
    assert np.array_equal(
        table.read("test").dense_NF[-500:], made.read("test").dense_NF[-500:], equal_nan=True
    )


@pytest.mark.parametrize("ids", ["vocabulary", "hashed"])
def test_preparing_twice_gives_the_same_hash(ids: str) -> None:
    first = load_or_prepare_rows("synthetic-clicks", num_rows=2000, ids=ids, seed=1)
    other = load_or_prepare_rows("synthetic-clicks", num_rows=2000, ids=ids, seed=1, max_malformed=0.5)
    assert other.folder != first.folder
    assert other.hash == first.hash
