"""Beam search over a prefix trie: only real items come out, and it says whether they are the best ones.

Scores are log probabilities, so a longer prefix never scores higher than a shorter one. Hence the
result is certainly the exact top k where its last score is not below the best prefix that was ever cut.
Shapes: B queries, W beams, M children of a beam, C codes of a level, K results, N excluded items.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from recray.batch import Generated, Jagged
from recray.ops.prefix_trie import Level, PrefixTrie

NextCodes = Callable[[int, Tensor, Tensor], Tensor]
"""(level, parents_BW: beam that each beam continues, codes_BW: its last code) -> logits_BWC of ``level``."""


class _Beams(NamedTuple):
    nodes_BW: Tensor
    scores_BW: Tensor  # -inf: no beam
    parents_BW: Tensor
    codes_BW: Tensor
    cut_B: Tensor  # best score among all beams that were dropped so far


@torch.no_grad()
def beam_search(
    next_codes: NextCodes,
    trie: PrefixTrie,
    batch_size: int,
    *,
    k: int,
    beams: int,
    exclude: Jagged | None = None,
    among_children: bool = False,
) -> Generated:
    """The k items of highest probability as far as ``beams`` prefixes per level can see.

    At least ``min(k, allowed items)`` come out, since ``beams`` is raised to ``k`` where it is less.

    Args:
        exclude: items (ids) per query that must not come out; prefixes that lead to nothing else
            take no beam.
        among_children: codes are normalised over the children of a prefix, not over all codes.
    """
    device = trie.item_ids_I.device
    excluded_N = _excluded(trie, exclude)
    root = torch.zeros(batch_size, 1, dtype=torch.int64, device=device)
    cut_B = torch.full((batch_size,), float("-inf"), device=device)
    state = _Beams(root, torch.zeros(batch_size, 1, device=device), root, root, cut_B)
    for depth in range(len(trie.levels) - 1):
        if among_children and depth == len(trie.levels) - 2 and _only_children(state, trie.levels[depth]):
            num_codes = 1 + int(trie.levels[depth + 1].codes_N.max())
            logits_BWC = state.scores_BW.new_zeros(*state.scores_BW.shape, num_codes)
        else:
            logits_BWC = next_codes(depth, state.parents_BW, state.codes_BW).float()
        if not among_children:
            logits_BWC = logits_BWC.log_softmax(-1)
        state = _advance(state, trie, depth, logits_BWC, excluded_N, max(beams, k), among_children)
    return _items(state, trie, excluded_N, k)


def _only_children(state: _Beams, level: Level) -> bool:
    """Whether no beam has a choice left: its last code has probability 1 and need not be computed."""
    return bool((level.child_offsets_N.diff()[state.nodes_BW] == 1).all())


def _excluded(trie: PrefixTrie, exclude: Jagged | None) -> Tensor | None:
    """Keys row * I + position of the excluded items, sorted and distinct."""
    if exclude is None or len(exclude.values_N) == 0:
        return None
    keys_N: Tensor = exclude.rows_N() * len(trie.item_ids_I) + trie.positions_I[exclude.values_N]
    distinct_N: Tensor = torch.unique(keys_N)
    return distinct_N


def _advance(
    state: _Beams,
    trie: PrefixTrie,
    depth: int,
    logits_BWC: Tensor,
    excluded_N: Tensor | None,
    beams: int,
    among_children: bool,
) -> _Beams:
    """Every beam's children, and of those the best."""
    below = trie.levels[depth + 1]
    children_BWM, exists_BWM = _children(trie.levels[depth].child_offsets_N, state)
    codes_BWM = below.codes_N[children_BWM]
    step_BWM = logits_BWC.gather(-1, codes_BWM)
    if among_children:
        step_BWM = step_BWM.masked_fill(~exists_BWM, float("-inf")).log_softmax(-1)
    allowed_BWM = exists_BWM & _allowed(below, len(trie.item_ids_I), children_BWM, excluded_N)
    scores_BWM = (state.scores_BW[:, :, None] + step_BWM).masked_fill(~allowed_BWM, float("-inf"))
    kept, best, cut_B = _best(scores_BWM, beams)
    return _Beams(
        nodes_BW=children_BWM.flatten(1).gather(1, best),
        scores_BW=kept,
        parents_BW=best // scores_BWM.shape[2],
        codes_BW=codes_BWM.flatten(1).gather(1, best),
        cut_B=torch.maximum(state.cut_B, cut_B),
    )


def _children(offsets_N: Tensor, state: _Beams) -> tuple[Tensor, Tensor]:
    """(children_BWM, exists_BWM): as many columns as the largest family has."""
    start_BW = offsets_N[state.nodes_BW]
    count_BW = (offsets_N[state.nodes_BW + 1] - start_BW) * (state.scores_BW > float("-inf"))
    column_M = torch.arange(int(count_BW.max()) or 1, device=offsets_N.device)
    exists_BWM = column_M < count_BW[:, :, None]
    return torch.where(exists_BWM, start_BW[:, :, None] + column_M, 0), exists_BWM


def _allowed(level: Level, num_items: int, nodes_BWM: Tensor, excluded_N: Tensor | None) -> Tensor:
    """Whether a node leads to an item that is not excluded."""
    if excluded_N is None:
        return torch.ones_like(nodes_BWM, dtype=torch.bool)
    row_B = torch.arange(len(nodes_BWM), device=nodes_BWM.device)[:, None, None] * num_items
    first, end = level.item_offsets_N[nodes_BWM], level.item_offsets_N[nodes_BWM + 1]
    before = torch.searchsorted(excluded_N, row_B + first)
    return torch.searchsorted(excluded_N, row_B + end) - before < end - first


def _best(scores_BWM: Tensor, beams: int) -> tuple[Tensor, Tensor, Tensor]:
    """(scores, positions) of the best, and the score of the best that is not among them."""
    flat = scores_BWM.flatten(1)
    count = min(beams, flat.shape[1])
    top = flat.topk(min(count + 1, flat.shape[1]), sorted=True)
    cut_B = top.values[:, count] if count < flat.shape[1] else flat.new_full((len(flat),), float("-inf"))
    return top.values[:, :count], top.indices[:, :count], cut_B


def _items(state: _Beams, trie: PrefixTrie, excluded_N: Tensor | None, k: int) -> Generated:
    """The items of the complete ids; those that share one share its score."""
    num_items = len(trie.item_ids_I)
    positions_BWM, exists_BWM = _children(trie.levels[-1].item_offsets_N, state)
    if excluded_N is not None:
        keys = torch.arange(len(positions_BWM), device=excluded_N.device)[:, None, None] * num_items
        keys = keys + positions_BWM
        at = torch.searchsorted(excluded_N, keys).clamp(max=len(excluded_N) - 1)
        exists_BWM = exists_BWM & (excluded_N[at] != keys)
    scores_BWM = state.scores_BW[:, :, None].expand(positions_BWM.shape)
    scores_BN = scores_BWM.masked_fill(~exists_BWM, float("-inf")).flatten(1)
    by_code = positions_BWM.masked_fill(~exists_BWM, num_items).flatten(1).argsort(dim=1, stable=True)
    scores_BN = scores_BN.gather(1, by_code)
    ranked = scores_BN.sort(dim=1, descending=True, stable=True)
    positions_BN = positions_BWM.flatten(1).gather(1, by_code).gather(1, ranked.indices)
    # No item lies below a beam that was cut and above all that is kept unless its prefix scored higher.
    shown = ranked.values[:, :k]
    item_ids_BK = torch.where(shown > float("-inf"), trie.item_ids_I[positions_BN[:, :k]], -1)
    last_B = shown[:, -1] if shown.shape[1] == k else shown.new_full((len(shown),), float("-inf"))
    exact_B = last_B >= state.cut_B
    if shown.shape[1] < k:
        missing = k - shown.shape[1]
        item_ids_BK = torch.nn.functional.pad(item_ids_BK, (0, missing), value=-1)
        shown = torch.nn.functional.pad(shown, (0, missing), value=float("-inf"))
    return Generated(item_ids_BK, shown, exact_B)
