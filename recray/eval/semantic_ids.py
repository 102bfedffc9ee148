"""How well semantic ids tell items apart and use their codebooks, from the content codes alone.

Shapes: I items, L levels, C codes of a level.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from recray.arrays import Int64s
from recray.config import ConfigError
from recray.schema import ProtocolCard


@dataclass(frozen=True, kw_only=True)
class CodeQuality:
    """Of the codes before disambiguation."""

    num_items: int
    usage_L: tuple[float, ...]  # share of a level's codes that some item has
    perplexity_L: tuple[float, ...]  # exp(entropy) of a level's codes: codes in use, if all were used alike
    entropy: float  # bits, of whole semantic ids; log2(num_items) where no two items share one
    collision_rate: float  # share of items whose codes another item has too
    excess_rate: float  # 1 - distinct ids / items: the share that must move to leave no collision
    largest_collision: int  # items that share one id, at most; 1 where none do

    def metrics(self) -> dict[str, float]:
        """Flat, levels counted from 1, as they are logged."""
        levels = {
            f"{name}_{level}": value
            for name, values in (("usage", self.usage_L), ("perplexity", self.perplexity_L))
            for level, value in enumerate(values, start=1)
        }
        return levels | {
            "entropy": self.entropy,
            "collision_rate": self.collision_rate,
            "excess_rate": self.excess_rate,
            "largest_collision": float(self.largest_collision),
        }

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def code_quality(codes_IL: Int64s, sizes: Sequence[int]) -> CodeQuality:
    """Counts of codes and of whole ids.

    Args:
        codes_IL: without a disambiguation level.
        sizes: codes of each level.

    Raises:
        ConfigError: no items.
    """
    if len(codes_IL) == 0:
        raise ConfigError("codes of no items cannot be judged")
    counts = [np.bincount(column_I, minlength=size) for column_I, size in zip(codes_IL.T, sizes, strict=True)]
    _, shared = np.unique(codes_IL, axis=0, return_counts=True)
    return CodeQuality(
        num_items=len(codes_IL),
        usage_L=tuple(float((counts_C > 0).mean()) for counts_C in counts),
        perplexity_L=tuple(float(2 ** entropy_bits(counts_C)) for counts_C in counts),
        entropy=entropy_bits(shared),
        collision_rate=float(shared[shared > 1].sum() / len(codes_IL)),
        excess_rate=float(1 - len(shared) / len(codes_IL)),
        largest_collision=int(shared.max()),
    )


def entropy_bits(counts: Int64s) -> float:
    """``-sum p log2 p`` of the distribution that the counts give."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum()) + 0.0


def collision_sizes(codes_IL: Int64s) -> dict[int, int]:
    """Size of a group of items with equal codes -> number of such groups."""
    _, shared = np.unique(codes_IL, axis=0, return_counts=True)
    sizes, groups = np.unique(shared, return_counts=True)
    return dict(zip(sizes.tolist(), groups.tolist(), strict=True))


class MeasuredCodes(NamedTuple):
    """How well codes tell items apart, and how much of the content they keep."""

    quality: CodeQuality
    reconstruction: float
    card: ProtocolCard | None = None  # every item is counted: there is nothing to hold out

    def means(self) -> dict[str, float]:
        return {"reconstruction": self.reconstruction, **self.quality.metrics()}
