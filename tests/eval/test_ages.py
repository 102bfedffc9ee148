"""How long a second stage helps, and what may be promoted."""

import pytest

from recray.config import ConfigError
from recray.eval.ages import AtAge, as_words, helps_until, require_help, seconds


def ages(*gains: float) -> tuple[AtAge, ...]:
    return tuple(
        AtAge(age, 0.1, 0.1 + gain, gain, gain)
        for age, gain in zip((3_600, 86_400, 604_800), gains, strict=True)
    )


def test_it_helps_until_the_first_age_at_which_it_does_not() -> None:
    assert helps_until(()) is None
    assert helps_until(ages(0.1, 0.0, 0.1)) is None
    assert helps_until(ages(0.1, 0.1, -0.1)) == 86_400
    assert helps_until(ages(0.1, -0.1, 0.1)) == 3_600
    assert helps_until(ages(-0.1, 0.1, 0.1)) == 0


def test_what_makes_old_lists_worse_is_not_promoted() -> None:
    require_help(ages(0.1, 0.0, 0.1), "x version 1")
    with pytest.raises(
        ConfigError, match=r"x version 1: served 7 d after its newest event .*0\.0900 for 0\.1000"
    ):
        require_help(ages(0.1, 0.1, -0.01), "x version 1")


def test_ages_in_words() -> None:
    assert [as_words(s) for s in (5, 90, 3_600, 86_400, 604_800, 31_536_000)] == [
        "5 s", "1.5 min", "1 h", "1 d", "7 d", "365 d",
    ]  # fmt: skip
    assert [seconds(age) for age in ("0s", "30min", "30m", "1h", "7d", "7 d", "1y")] == [
        0, 1_800, 1_800, 3_600, 604_800, 604_800, 31_536_000,
    ]  # fmt: skip
    for wrong in ("", "7", "d", "-1d", "1.5h", "1w", "1mi", "9999999d"):
        with pytest.raises(ConfigError, match="is no time"):
            seconds(wrong)
