"""Semantic ids: the invertible map between items and tuples of codes, one code per level.

Rajput et al., Recommender Systems with Generative Retrieval, NeurIPS 2023,
https://arxiv.org/abs/2305.05065, section 3.1: items whose content codes collide are told apart by one
more level, the disambiguation code. Shapes: I items, L levels.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recray.arrays import Int64s
from recray.schema import DataError, SemanticSchema


@dataclass(frozen=True, kw_only=True)
class SemanticIds:
    """The codes of every item.

    Raises:
        DataError: ``codes_IL`` has another shape than ``sizes`` says, or a code out of its range.
    """

    codes_IL: Int64s
    sizes: tuple[int, ...]  # codes that each of the L levels has
    disambiguated: bool  # the last level tells items with equal content codes apart

    def __post_init__(self) -> None:
        if self.codes_IL.ndim != 2 or self.codes_IL.shape[1] != len(self.sizes):
            raise DataError(f"codes of shape {self.codes_IL.shape} for {len(self.sizes)} levels")
        outside = (self.codes_IL < 0) | (self.codes_IL >= np.array(self.sizes))
        if outside.any():
            item, level = map(int, np.argwhere(outside)[0])
            raise DataError(
                f"item {item} has code {self.codes_IL[item, level]} in level {level}, "
                f"which has codes 0..{self.sizes[level] - 1}"
            )

    @property
    def num_items(self) -> int:
        return len(self.codes_IL)

    @cached_property
    def digest(self) -> str:
        """sha256 over codes and sizes: two maps with one digest mean the same items."""
        header = f"{self.sizes} {self.disambiguated} {self.codes_IL.shape}"
        codes = np.ascontiguousarray(self.codes_IL, dtype="<i8")
        return hashlib.sha256(header.encode() + codes.tobytes()).hexdigest()

    def schema(self, num_users: int) -> SemanticSchema:
        """What a generative retriever over this map is built for."""
        return SemanticSchema(
            num_users=num_users, num_items=self.num_items, code_sizes=self.sizes, codes_digest=self.digest
        )

    @cached_property
    def _items(self) -> dict[tuple[int, ...], list[int]]:
        found: dict[tuple[int, ...], list[int]] = {}
        for item, codes in enumerate(self.codes_IL.tolist()):
            found.setdefault(tuple(codes), []).append(item)
        return found

    def items(self, codes: Sequence[int]) -> list[int]:
        """The items of a complete semantic id, ascending; none where no item has it.

        Raises:
            DataError: not one code per level.
        """
        if len(codes) != len(self.sizes):
            raise DataError(f"a semantic id here has {len(self.sizes)} codes, got {len(codes)}: {codes}")
        return list(self._items.get(tuple(map(int, codes)), ()))

    def content_codes(self) -> Int64s:
        """The codes without the disambiguation level."""
        return self.codes_IL[:, :-1] if self.disambiguated else self.codes_IL


def disambiguate(codes_IL: Int64s, sizes: Sequence[int]) -> SemanticIds:
    """Adds the level that numbers the items of each collision group 0, 1, 2, ... in order of item id.

    The level has as many codes as the one before it, or as the largest group where that is more.
    """
    _, group_I = np.unique(codes_IL, axis=0, return_inverse=True)
    group_I = group_I.reshape(-1)
    order = np.argsort(group_I, kind="stable")
    starts = np.flatnonzero(np.diff(group_I[order], prepend=-1))
    sizes_G = np.diff(np.append(starts, len(order)))
    last_I = np.empty(len(order), np.int64)
    last_I[order] = np.arange(len(order)) - np.repeat(starts, sizes_G)
    largest = int(sizes_G.max(initial=0))
    return SemanticIds(
        codes_IL=np.column_stack([codes_IL, last_I]).astype(np.int64),
        sizes=(*sizes, max(sizes[-1], largest)),
        disambiguated=True,
    )
