"""Workers look for a notice each few seconds, by steps that all of them count alike."""

from recray.train.context import Context
from recray.train.leaving import EVERY_S, FIRST, Notice


def test_it_is_looked_for_each_so_many_steps_and_heard_while_it_is_there() -> None:
    asked: list[bool] = []

    def is_leaving() -> bool:
        asked.append(len(asked) > 0)
        return asked[-1]

    notice = Notice(Context(is_leaving=is_leaving))
    assert not any(notice.is_there() for _ in range(FIRST))
    assert asked == [False]
    [(seconds, steps)] = notice.took().values()
    assert (seconds >= 0, steps) == (True, FIRST)
    notice.timed(EVERY_S / 3)  # from now on each third step
    assert [notice.is_there() for _ in range(6)] == [False, False, True] * 2
    notice.timed(float("nan"))  # no step since
    assert notice.took()["step_s"][1] == 0
