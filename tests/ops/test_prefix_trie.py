"""The arrays of the trie against a dictionary of prefixes."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recray.ops.prefix_trie import PrefixTrie, build_trie

Rows = st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=40)


def prefixes(rows: list[tuple[int, ...]], depth: int) -> list[tuple[int, ...]]:
    return sorted({row[:depth] for row in rows})


def path(trie: PrefixTrie, depth: int, node: int) -> tuple[int, ...]:
    """The prefix of a node, by climbing: its parent is the one whose children it is among."""
    codes: list[int] = []
    while depth > 0:
        codes.insert(0, int(trie.levels[depth].codes_N[node]))
        depth -= 1
        node = int(torch.searchsorted(trie.levels[depth].child_offsets_N, node, right=True)) - 1
    return tuple(codes)


@settings(max_examples=50, deadline=None)
@given(Rows)
def test_nodes_are_the_distinct_prefixes_in_order(rows: list[tuple[int, ...]]) -> None:
    trie = build_trie(torch.tensor(rows))
    for depth in range(4):
        wanted = prefixes(rows, depth)
        found = [path(trie, depth, node) for node in range(len(trie.levels[depth].codes_N))]
        assert found == wanted


@settings(max_examples=50, deadline=None)
@given(Rows)
def test_items_lie_under_their_prefixes(rows: list[tuple[int, ...]]) -> None:
    trie = build_trie(torch.tensor(rows))
    assert trie.item_ids_I[trie.positions_I].tolist() == list(range(len(rows)))
    for depth in range(4):
        wanted = prefixes(rows, depth)
        assert [wanted[n] for n in trie.node_of_items(depth).tolist()] == [row[:depth] for row in rows]
        offsets_N = trie.levels[depth].item_offsets_N
        under = [trie.item_ids_I[a:b].tolist() for a, b in itertools.pairwise(offsets_N.tolist())]
        assert [sorted(items) for items in under] == [
            [i for i, row in enumerate(rows) if row[:depth] == prefix] for prefix in wanted
        ]


@settings(max_examples=50, deadline=None)
@given(Rows)
def test_continuations_are_the_codes_that_follow_a_prefix(rows: list[tuple[int, ...]]) -> None:
    trie = build_trie(torch.tensor(rows))
    for depth in range(3):
        for prefix, table_C in zip(prefixes(rows, depth), trie.continuations(depth, 4), strict=True):
            wanted = {row[depth] for row in rows if row[:depth] == prefix}
            assert set(table_C.nonzero().flatten().tolist()) == wanted


def test_items_of_one_semantic_id_stand_in_order_of_their_ids() -> None:
    trie = build_trie(torch.tensor([[1, 0], [0, 1], [1, 0], [1, 0]]))
    assert trie.item_ids_I.tolist() == [1, 0, 2, 3]


@pytest.mark.parametrize("level", range(3))
def test_it_is_as_large_as_its_prefixes(level: int) -> None:
    codes_IL = torch.randint(256, (500, 3), generator=torch.Generator().manual_seed(0))
    trie = build_trie(codes_IL)
    assert len(trie.levels[level + 1].codes_N) == len(codes_IL[:, : level + 1].unique(dim=0))
