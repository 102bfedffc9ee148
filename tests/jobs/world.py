"""Small data as a person has it, and every job called as a person calls it."""

import io
import logging
import re
import runpy
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import numpy as np

from tests.data.made_rows import click_line

REPO = Path(__file__).parents[2]
NUM_USERS, NUM_ITEMS, EVENTS_EACH = 60, 40, 8
GENRES = ("Crime", "Comedy", "Drama", "Western")
WHICH = ("Silent", "Golden", "Broken", "Hidden", "Final", "Crimson", "Lonely", "Endless")
WHAT = ("River", "Promise", "Harbour", "Witness", "Garden")


def job(name: str, *args: str | Path) -> str:
    """Runs ``jobs/<name>.py`` in this process and returns what it printed; it must end well."""
    status, out, err = ended(name, *args)
    assert status == 0, err
    return out


def ended(name: str, *args: str | Path) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a job run in this process."""
    out, err = io.StringIO(), io.StringIO()
    logger = logging.getLogger("recray")
    before = logger.level, logger.propagate, logger.handlers[:]
    command = [f"jobs/{name}.py", *map(str, args)]
    try:
        with mock.patch("sys.argv", command), redirect_stdout(out), redirect_stderr(err):
            runpy.run_path(str(REPO / "jobs" / f"{name}.py"), run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), err.getvalue()
    finally:  # other tests listen to the log
        logger.level, logger.propagate, logger.handlers[:] = before
    raise AssertionError(f"jobs/{name}.py ended without a status")


def train(model: str, dataset: Path | str, *options: str | Path) -> str:
    """``jobs/train_<model>.py`` on a file: the one place that knows how these jobs are called."""
    return job(f"train_{model}", dataset, *options)


def published(said: str) -> list[str]:
    """``name version n`` of every line that says that something was published."""
    return re.findall(r"^published (\S+ version \d+)", said, re.M)


def events_file(folder: Path, name: str = "films") -> str:
    """Users who mostly stay with one genre, as RecBole atomic files: events, and titles and genres beside.

    The data set is called ``name``, wherever the folder is.
    """
    rng = np.random.default_rng(0)
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(NUM_USERS):
        # Items of the user's own genre are four times as likely.
        weights = np.where(np.arange(NUM_ITEMS) % len(GENRES) == user % len(GENRES), 4.0, 1.0)
        chosen = rng.choice(NUM_ITEMS, EVENTS_EACH, replace=False, p=weights / weights.sum())
        for place, item in enumerate(chosen):
            seconds = 1_600_000_000 + 86_400 * place + 60 * user
            lines.append(f"u{user}\ti{item}\t{rng.integers(3, 6)}\t{seconds}")
    path = folder / f"{name}.inter"
    path.write_text("\n".join(lines))
    path.with_suffix(".item").write_text("\n".join([_HEAD, *map(film, range(NUM_ITEMS))]))
    return f"{path}?name={name}"


_HEAD = "item_id:token\ttitle:token_seq\tgenres:token_seq"


def film(item: int) -> str:
    """A line of the ``.item`` file; no two titles are equal."""
    title = f"{WHICH[item % len(WHICH)]} {WHAT[item % len(WHAT)]}"
    return f"i{item}\t{title}\t{GENRES[item % len(GENRES)]}"


def criteo_folder(folder: Path) -> Path:
    """Clicks in Criteo's format, in three files; the first number and the first category decide them."""
    rng = np.random.default_rng(0)
    log = folder / "clicks"
    log.mkdir()
    for name, rows in (("train", 400), ("dev", 80), ("test", 80)):
        lines = []
        for _ in range(rows):
            dense, kind = int(rng.integers(0, 9)), int(rng.integers(0, 4))
            label = int(rng.random() < (0.1 + 0.1 * dense if kind % 2 else 0.1))
            lines.append(click_line(str(label), I1=str(dense), C1=f"0000000{kind}"))
        (log / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return log


def letor_folder(folder: Path) -> Path:
    """Graded rows of queries, in LibSVM's format; the first feature tells the grade."""
    rng = np.random.default_rng(0)
    queries = folder / "letor"
    queries.mkdir()
    for part, count in (("train", 30), ("test", 12)):
        lines = []
        for query in range(count):
            for _ in range(8):
                grade = int(rng.integers(0, 3))
                noise = rng.normal(size=2)
                lines.append(f"{grade} qid:{query} 1:{grade + 0.3 * noise[0]:.3f} 2:{noise[1]:.3f}")
        (queries / f"rank.{part}").write_text("\n".join(lines) + "\n")
    return queries
