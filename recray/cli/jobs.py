"""What every task shares: a typed command line in one language, readable errors, log lines.

The first word of whatever needs data is the data set (``--data.dataset``); a choice is called the same in
every task: ``--data.*`` says how data is split and what its events mean, ``--launch.*`` where it runs.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

import tyro

from recray.cli import guarded
from recray.config import ConfigError
from recray.track.console import setup_logging

T = TypeVar("T")
_DATA = ("split", "k-core", "weights", "target", "relevant", "repeats", "seen", "known")
MOVED = {
    "--dataset": "as the first word, or --data.dataset",
    "--protocol": "--data.split",
    "--workers": "--launch.workers",
    **{f"--{name}": f"--data.{name}" for name in _DATA},
}
"""Words that some jobs once had for what others called otherwise."""


def run_job(
    name: str, work: Callable[[T], None], config: type[T], description: str | None, args: Sequence[str]
) -> int:
    """Parses ``args`` into ``config`` and does the work of ``recray <name>``; returns the exit status."""
    setup_logging()
    text = re.sub("^recray ", "$ recray ", description or "", flags=re.MULTILINE)  # so that lines stay lines

    def parse_and_work() -> None:
        refuse_moved(args)
        work(tyro.cli(config, prog=f"recray {name}", description=text, args=args))

    return guarded(parse_and_work)


def run_on_data(
    name: str,
    work: Callable[[T], None],
    config: type[T],
    description: str | None,
    args: Sequence[str],
    short: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """The same of a task whose first word is a data set.

    Args:
        short: words that stand for longer ones, such as ``--name`` for ``--service.name``.
    """
    words = [_in_full(word, short) for word in args]
    if words and not words[0].startswith("-"):
        words = ["--data.dataset", *words]
    text = f"{description}\nThe first word is a data set (`recray datasets`) or a path: --data.dataset."
    text += "".join(f"\n{brief} is short for {full}." for brief, full in short.items())
    return run_job(name, work, config, text, words)


def _in_full(word: str, short: Mapping[str, str]) -> str:
    name, equals, value = word.partition("=")
    return f"{short.get(name, name)}{equals}{value}"


def refuse_moved(args: Sequence[str]) -> None:
    """
    Raises:
        ConfigError: a word of ``MOVED``; says what is written today.
    """
    for word in args:
        name = word.partition("=")[0].replace("_", "-")
        if name in MOVED:
            raise ConfigError(f"{name} is written {MOVED[name]} in every job")
