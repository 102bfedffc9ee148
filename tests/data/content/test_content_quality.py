"""The report on item content: figures against slow loops, checks, and the page."""

import json

import numpy as np
import polars as pl
import pytest

from recray.data.content.quality import ContentQuality, measure_content, render_content

RNG = np.random.default_rng(7)


def measured(vectors: np.ndarray, titles: list[str] | None = None) -> ContentQuality:
    ids = [f"i{n}" for n in range(len(vectors))]
    items = pl.DataFrame({"raw_id": ids, "title": titles or ids})
    covered = np.asarray(vectors.any(axis=1))
    return measure_content("made", "tfidf", items, vectors.astype(np.float32), covered)


def test_figures_are_those_of_slow_loops() -> None:
    vectors = RNG.normal(size=(40, 5))
    vectors[3] = 0
    vectors[8] = 2 * vectors[7]  # the same direction
    vectors[9] = vectors[10] = vectors[11]
    quality = measured(vectors)
    rows = [v for v in vectors if v.any()]
    nearest = [
        max(a @ b / np.linalg.norm(a) / np.linalg.norm(b) for j, b in enumerate(rows) if j != i)
        for i, a in enumerate(rows)
    ]
    assert (quality.items, quality.covered, quality.sampled, quality.duplicates) == (40, 39, 39, 2)
    assert quality.near == {
        "0.9": pytest.approx(np.mean([c >= 0.9 for c in nearest])),
        "0.99": pytest.approx(np.mean([c >= 0.99 for c in nearest])),
    }
    assert sum(quality.nearest["counts"]) == 39
    variances = np.linalg.eigvalsh(np.cov(np.array(rows), rowvar=False, ddof=0))
    assert quality.effective_dim == pytest.approx(variances.sum() ** 2 / (variances**2).sum(), rel=1e-4)
    np.testing.assert_allclose(quality.spectrum, variances[::-1] / variances.sum(), rtol=1e-4)
    assert json.loads(json.dumps(quality.to_json()))["near"] == quality.near
    place = {f"i{n} i{n}": row for row, n in enumerate(n for n in range(40) if vectors[n].any())}
    assert len(quality.examples) == 12
    for item, other, cosine in quality.examples:
        assert cosine == pytest.approx(nearest[place[item]], abs=1e-5)
        a, b = rows[place[item]], rows[place[other]]
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) == pytest.approx(cosine, abs=1e-5)


def test_checks_name_what_is_wrong() -> None:
    vectors = RNG.normal(size=(20, 3))
    fine = render_content(measured(np.eye(20)))
    assert fine.count('class="level ok"') == 3
    vectors[:5] = 0
    vectors[5:10] = vectors[10]
    wrong = render_content(measured(vectors, ["<b>&"] * 20))
    assert "5 of 20 items have no content" in wrong
    assert "5 items have exactly the content of an earlier one" in wrong
    assert wrong.count('class="level warning"') == 3
    assert "<b>&" not in wrong


@pytest.mark.parametrize("vectors", [np.ones((1, 4)), np.ones((3, 1)), np.array([[1.0, 0], [0, 0]])])
def test_hardly_any_content_is_no_obstacle(vectors: np.ndarray) -> None:
    assert "<svg" in render_content(measured(vectors))
