"""What is wrong with a feature, in words."""

import numpy as np
import pytest

from recray.arrays import Float32s
from recray.pipelines.how_it_differs import in_words

RNG = np.random.default_rng(0)
RIGHT = RNG.gamma(2.0, 5.0, 200).astype(np.float32)
RIGHT[::9] = np.nan
LISTS = np.repeat(np.arange(20), 10)


def moved(values_N: Float32s) -> Float32s:
    return np.roll(values_N.reshape(20, 10), 3, axis=1).ravel()


@pytest.mark.parametrize(
    ("logged", "words"),
    [
        (RIGHT * 24, "24 times what it should be"),
        (RIGHT + 2, "+2 of what it should be"),
        (np.nan_to_num(RIGHT, nan=-1), "-1, where it is missing"),
        (np.where(RIGHT > 8, np.nan, RIGHT), "missing, where it has a value"),
        (np.full_like(RIGHT, 7), "always 7"),
        (RIGHT.astype(np.float16).astype(np.float32), "half precision"),
        (RIGHT.round(1), "rounded to 1 places"),
        (np.trunc(RIGHT), "cut to whole numbers"),
        (moved(RIGHT), "the right values, at other items of the list"),
        (RNG.permutation(RIGHT), ""),
        (RIGHT, ""),
    ],
)
def test_what_is_planted_is_said(logged: Float32s, words: str) -> None:
    assert in_words(logged.astype(np.float32), RIGHT, LISTS) == words


def test_two_items_say_nothing() -> None:
    logged = RIGHT.copy()
    logged[1:3] *= 24
    assert in_words(logged, RIGHT, LISTS) == ""
