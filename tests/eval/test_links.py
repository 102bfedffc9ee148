"""Link AUC against a slow loop and scikit-learn, and what links are set against."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from recray.eval.links import Links, auc_sum, draw_links
from recray.schema import DataError


def pairs(count: int, users: int, items: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).choice(users * items, count, replace=False)
    return np.stack([drawn // items, drawn % items])


def scores_of(table_UI: torch.Tensor) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return lambda users, items: table_UI[users, items]


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    observed = pairs(300, 40, 30)
    links = draw_links(observed[:, :50], observed, 40, 30)
    table_UI = torch.from_numpy(np.random.default_rng(1).integers(0, 6, (40, 30))).float()  # with ties
    found = table_UI[links.user_ids_N, links.item_ids_N].tolist()
    others = table_UI[links.other_user_ids_N, links.other_item_ids_N].tolist()
    slow = np.mean([(a > b) + 0.5 * (a == b) for a in found for b in others])
    total, count = auc_sum(scores_of(table_UI), links)
    assert total / count == pytest.approx(slow)
    assert slow == pytest.approx(roc_auc_score([1] * 50 + [0] * 50, found + others))


def test_shares_of_workers_add_up() -> None:
    observed = pairs(300, 40, 30)
    links = draw_links(observed[:, :50], observed, 40, 30)
    score = scores_of(torch.rand(40, 30, generator=torch.Generator().manual_seed(0)))
    whole, parts = auc_sum(score, links), [auc_sum(score, links, rank, 3) for rank in range(3)]
    assert sum(part.total for part in parts) == pytest.approx(whole.total)
    assert sum(part.num_queries for part in parts) == whole.num_queries == 50


def test_as_many_other_pairs_none_of_them_observed() -> None:
    observed = pairs(900, 40, 30)  # three of four pairs are taken
    links = draw_links(observed[:, 100:300], observed, 40, 30)
    assert len(links.other_user_ids_N) == len(links.user_ids_N) == 200
    taken = set(map(tuple, observed.T.tolist()))
    others = zip(links.other_user_ids_N.tolist(), links.other_item_ids_N.tolist(), strict=True)
    assert not taken & set(others)
    again = draw_links(observed[:, 100:300], observed, 40, 30)
    assert all(torch.equal(a, b) for a, b in zip(links, again, strict=True))
    other = draw_links(observed[:, 100:300], observed, 40, 30, seed=1)
    assert not torch.equal(links.other_item_ids_N, other.other_item_ids_N)


def test_more_links_than_the_limit_are_sampled() -> None:
    observed = pairs(300, 40, 30)
    links: Links = draw_links(observed, observed, 40, 30, limit=20)
    drawn = set(zip(links.user_ids_N.tolist(), links.item_ids_N.tolist(), strict=True))
    assert len(drawn) == 20
    assert drawn <= set(map(tuple, observed.T.tolist()))


def test_no_pairs_are_not_measured() -> None:
    observed = pairs(300, 40, 30)
    with pytest.raises(DataError, match="no pairs to measure"):
        draw_links(observed[:, :0], observed, 40, 30)


def test_a_full_graph_has_nothing_to_set_against() -> None:
    everything = pairs(1200, 40, 30)
    with pytest.raises(DataError, match="1200 of 40 x 30 pairs are observed"):
        draw_links(everything[:, :50], everything, 40, 30)
