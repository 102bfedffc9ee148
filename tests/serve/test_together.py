"""Those who wait share a call, and each gets its own answer."""

import threading
from collections.abc import Sequence

import pytest

from recray.serve.together import Together


def test_who_comes_during_a_call_shares_the_next_one() -> None:
    calls, goes_on, begun = list[list[int]](), threading.Event(), threading.Event()

    def call(questions: Sequence[int]) -> list[int | Exception]:
        calls.append(list(questions))
        begun.set()
        goes_on.wait()
        return [ValueError(str(one)) if one == 3 else 10 * one for one in questions]

    together = Together(call, "asks")
    first = together.ask(0)
    begun.wait()
    others = [together.ask(number) for number in range(1, 5)]
    goes_on.set()
    assert first.result() == 0
    assert [others[n].result() for n in (0, 1, 3)] == [10, 20, 40]
    with pytest.raises(ValueError, match="3"):
        others[2].result()
    assert calls == [[0], [1, 2, 3, 4]]
    assert together.ask(5).result() == 50
    together.stop()


def test_a_call_that_fails_fails_for_all_who_shared_it_and_no_others() -> None:
    fails = [True]

    def call(questions: Sequence[int]) -> list[int | Exception]:
        if fails.pop():
            raise OSError("out of reach")
        return list(questions)

    together = Together(call, "asks")
    with pytest.raises(OSError, match="out of reach"):
        together.ask(1).result()
    fails.append(False)
    assert together.ask(2).result() == 2
    together.stop()


def test_whoever_gives_up_waiting_is_in_nobodys_way() -> None:
    goes_on, begun = threading.Event(), threading.Event()

    def call(questions: Sequence[int]) -> list[int | Exception]:
        begun.set()
        goes_on.wait()
        return list(questions)

    together = Together(call, "asks")
    first = together.ask(0)
    begun.wait()
    gone, neighbour = together.ask(1), together.ask(2)
    assert gone.cancel()
    goes_on.set()
    assert (first.result(5), neighbour.result(5)) == (0, 2)
    assert together.ask(3).result(5) == 3
    together.stop()
