"""What a ranking feature is, and how a file defines its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import numpy.typing as npt

Value: TypeAlias = npt.NDArray[Any] | float  # one number for each of K candidates, or one for all of them
K = TypeVar("K", contravariant=True)  # what its definition looks at: ``Known``, or ``KnownOfQuery``
Define: TypeAlias = Callable[[K], Value]


@dataclass(frozen=True)
class RankingFeature(Generic[K]):
    """One column of a feature vector."""

    name: str
    group: str
    unit: str
    text: str
    define: Define[K]
    column: str = ""  # of the items that says something only where they have it; "": it needs none


class Group(Generic[K]):
    """The features of one file, in the order in which they are written there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.features: list[RankingFeature[K]] = []

    def feature(self, unit: str, column: str = "") -> Callable[[Define[K]], Define[K]]:
        """Decorates a definition: its name is the feature's, its docstring the meaning.

        Args:
            column: of the items, without which it is missing everywhere.
        """

        def add(define: Define[K]) -> Define[K]:
            text = (define.__doc__ or "").strip()
            self.features.append(RankingFeature(define.__name__, self.name, unit, text, define, column))
            return define

        return add
