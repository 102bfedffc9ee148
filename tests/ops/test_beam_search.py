"""Beam search against scoring every item by hand."""

import math

import pytest
import torch
from torch import Tensor

from recray.batch import Generated, Jagged
from recray.ops.beam_search import beam_search
from recray.ops.prefix_trie import build_trie

SIZES = (5, 4, 3)


class Chain:
    """A made-up language: the logits of a code depend on the query, the level and the code before."""

    def __init__(self, batch_size: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        previous = (1, *SIZES[:-1])
        self.tables = [
            3 * torch.randn(batch_size, before, size, generator=generator)
            for before, size in zip(previous, SIZES, strict=True)
        ]

    def __call__(self, level: int, parents_BW: Tensor, codes_BW: Tensor) -> Tensor:
        rows = torch.arange(len(codes_BW))[:, None]
        return self.tables[level][rows, codes_BW if level else torch.zeros_like(codes_BW)]

    def score(self, row: int, codes: list[int], children: list[set[int]] | None = None) -> float:
        """log p of a semantic id, code by code; ``children``: what each level is normalised over."""
        total, before = 0.0, 0
        for level, code in enumerate(codes):
            logits = self.tables[level][row, before].double().tolist()
            among = children[level] if children else range(len(logits))
            total += logits[code] - math.log(sum(math.exp(logits[c]) for c in among))
            before = code
        return total


def catalogue(num_items: int = 40, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(size, (num_items,), generator=generator) for size in SIZES], 1)


def brute_force(chain: Chain, codes_IL: Tensor, row: int, *, among_children: bool = False) -> list[float]:
    rows = [tuple(codes) for codes in codes_IL.tolist()]
    scores = []
    for codes in rows:
        families = [{other[d] for other in rows if other[:d] == codes[:d]} for d in range(len(codes))]
        scores.append(chain.score(row, list(codes), families if among_children else None))
    return scores


def expected(scores: list[float], codes_IL: Tensor, k: int, excluded: set[int]) -> list[int]:
    allowed = [i for i in range(len(scores)) if i not in excluded]
    return sorted(allowed, key=lambda i: (-round(scores[i], 9), codes_IL[i].tolist(), i))[:k]


def run(chain: Chain, codes_IL: Tensor, batch_size: int, **options: object) -> Generated:
    return beam_search(chain, build_trie(codes_IL), batch_size, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("among_children", [False, True])
def test_with_enough_beams_it_is_brute_force(among_children: bool) -> None:
    codes_IL, chain = catalogue(), Chain(4)
    found = run(chain, codes_IL, 4, k=40, beams=40, among_children=among_children)
    for row in range(4):
        scores = brute_force(chain, codes_IL, row, among_children=among_children)
        assert found.item_ids_BK[row].tolist() == expected(scores, codes_IL, 40, set())
        torch.testing.assert_close(
            found.scores_BK[row].double(),
            torch.tensor([scores[i] for i in found.item_ids_BK[row]], dtype=torch.float64),
            atol=1e-5,
            rtol=0,
        )
    assert found.exact_B.all()


def test_probabilities_over_the_catalogue_add_up_to_one() -> None:
    codes_IL = catalogue().unique(dim=0)
    found = run(Chain(3), codes_IL, 3, k=len(codes_IL), beams=len(codes_IL), among_children=True)
    torch.testing.assert_close(found.scores_BK.exp().sum(1), torch.ones(3))


@pytest.mark.parametrize("beams", [1, 2, 3, 5, 8])
def test_it_never_claims_to_be_exact_where_it_is_not(beams: int) -> None:
    codes_IL, chain = catalogue(), Chain(200, seed=beams)
    found = run(chain, codes_IL, 200, k=1, beams=beams)
    wrong = 0
    for row in range(200):
        best = expected(brute_force(chain, codes_IL, row), codes_IL, 1, set())
        right = found.item_ids_BK[row].tolist() == best
        wrong += not right
        assert right or not found.exact_B[row]
    assert found.exact_B.any()
    assert wrong > 0 or beams > 2  # one or two beams must have missed something for this to say anything


def test_excluded_items_take_no_beam() -> None:
    codes_IL, chain = catalogue(), Chain(4)
    exclude = Jagged.from_rows([[], list(range(39)), list(range(40)), [3, 3, 17]])
    found = run(chain, codes_IL, 4, k=5, beams=5, exclude=exclude)
    for row in range(4):
        excluded = set(exclude.row(row).tolist())
        ids = found.item_ids_BK[row].tolist()
        assert not excluded & set(ids)
        assert sum(i >= 0 for i in ids) == min(5, 40 - len(excluded))
    assert found.item_ids_BK[1].tolist() == [39, -1, -1, -1, -1]
    assert found.scores_BK[2].tolist() == [-math.inf] * 5


def test_exclusion_does_not_change_the_scores_of_the_others() -> None:
    codes_IL, chain = catalogue(), Chain(1)
    for among_children in (False, True):
        scores = brute_force(chain, codes_IL, 0, among_children=among_children)
        exclude = Jagged.from_rows([list(range(0, 40, 2))])
        found = run(chain, codes_IL, 1, k=20, beams=40, exclude=exclude, among_children=among_children)
        assert found.item_ids_BK[0].tolist() == expected(scores, codes_IL, 20, set(range(0, 40, 2)))
        wanted = torch.tensor([scores[i] for i in found.item_ids_BK[0]])
        torch.testing.assert_close(found.scores_BK[0], wanted, atol=1e-5, rtol=0)


def test_fewer_beams_than_results_are_raised() -> None:
    found = run(Chain(2), catalogue(), 2, k=30, beams=1)
    assert (found.item_ids_BK >= 0).all()
    assert all(len(set(row)) == 30 for row in found.item_ids_BK.tolist())


def test_items_that_share_an_id_share_its_score_and_stand_by_id() -> None:
    codes_IL = torch.tensor([[0, 0, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]])
    found = run(Chain(1), codes_IL, 1, k=4, beams=4)
    scores = dict(zip(found.item_ids_BK[0].tolist(), found.scores_BK[0].tolist(), strict=True))
    assert scores[1] == scores[2] == scores[3]
    places = [found.item_ids_BK[0].tolist().index(i) for i in (1, 2, 3)]
    assert places == sorted(places)
    some = run(Chain(1), codes_IL, 1, k=4, beams=4, exclude=Jagged.from_rows([[2]]))
    assert sorted(some.item_ids_BK[0].tolist()) == [-1, 0, 1, 3]


def test_only_items_come_out_of_ten_thousand_requests() -> None:
    codes_IL = catalogue(60)
    found = run(Chain(10_000), codes_IL, 10_000, k=10, beams=10)
    assert ((found.item_ids_BK >= 0) & (found.item_ids_BK < 60)).all()
    ordered = found.item_ids_BK.sort(1).values
    assert (ordered[:, 1:] > ordered[:, :-1]).all()
