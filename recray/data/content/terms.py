"""What an item says of itself, as terms: words of its texts, and labels of its other columns."""

import datetime
import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from recray.features.columns import AVAILABILITY, KEYS, words

PLAIN_TEXTS = ("title", "text")  # of encoders that say nothing else
_YEARS_PER_BUCKET = 5
_SAY_NOTHING = (*KEYS, *AVAILABILITY)


def terms_of(row: Mapping[str, Any], *, bigrams: bool, texts: Collection[str] = PLAIN_TEXTS) -> Iterator[str]:
    """The terms of one item: words of its ``texts``, and a label per other value.

    Lists give a label per entry, ``year`` itself and one of five years, a date its year, ``price`` one of a
    factor of 1.41; other text, integers and truth values one per value; other floats none, nor does it matter
    whether the item can be had. Labels carry their column's name, so that they never meet words.
    """
    for name, value in row.items():
        if value is None or name in _SAY_NOTHING:
            continue
        if name in texts:
            found = words(value)
            yield from found
            if bigrams:
                yield from map(" ".join, itertools.pairwise(found))
        else:
            yield from (f"{name}={label}" for label in _labels(name, value))


def _labels(name: str, value: object) -> Iterator[str]:
    if name == "year" and isinstance(value, (int, float, str)):
        yield str(value)
        yield f"{int(value) // _YEARS_PER_BUCKET * _YEARS_PER_BUCKET}s"
    elif name == "price":
        if isinstance(value, (int, float)) and 0 < value < math.inf:
            yield str(round(2 * math.log2(value)))
    elif isinstance(value, list):
        yield from (str(entry) for entry in dict.fromkeys(value) if entry is not None)
    elif isinstance(value, datetime.date):
        yield str(value.year)
    elif not isinstance(value, float):
        yield str(value)
