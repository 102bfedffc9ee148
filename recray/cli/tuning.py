"""The command of a search: a model and a preset from the command line, trials on Ray, and the best.

The table of progress fits the terminal: a line for each trial that is going on, and the best of the others.
"""

import logging
import math
import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from recray.cli.jobs import refuse_moved
from recray.cli.terminal import Terminal
from recray.config import ConfigError
from recray.eval.bootstrap import Interval
from recray.launch.ray_tune import BASELINE
from recray.launch.tune_domains import label
from recray.pipelines.tune.application import ApplicationSubject, TwoStageRun
from recray.pipelines.tune.judged import Judged, judge, seeded
from recray.pipelines.tune.pictures import draw
from recray.pipelines.tune.records import TrialRecord, best_first
from recray.pipelines.tune.search import Found, Progress, SearchConfig, search
from recray.pipelines.tune.spaces import Goal, Space, open_space, spaces
from recray.pipelines.tune.subject import RecipeSubject, Subject
from recray.pipelines.tune.trials import write_trials
from recray.recipes import RECIPES
from recray.store import Store
from recray.train.context import LaunchConfig
from recray.train.run import Run

log = logging.getLogger(__name__)
HELP = {"-h", "--help"}
LINE_EVERY_S, STILL_EVERY_S = 15.0, 60.0  # between two tables: when a trial ended, when none did
LISTED = ("ndcg", "hit", "mrr", "auc", "logloss", "normalised_entropy")  # of many, where there are any
SHOWN = 8  # trials that a table of progress has room for
USAGE = """usage: recray tune MODEL PRESET [OPTIONS]

PRESET is a preset, a data set, a file, or a run file, as `recray train MODEL` takes it."""


@dataclass(frozen=True)
class Tune:
    """What is searched, where, and what becomes of the best."""

    run: Run
    search: SearchConfig = field(default_factory=SearchConfig)
    launch: LaunchConfig = field(default_factory=lambda: LaunchConfig(workers=1))
    """launch.run names the search (default: model and preset), launch.workers train each trial together.
    launch.where local: one trial after the other in this process, without Ray."""
    seeds: int = 3
    """After the search's own: the best and what it started from are measured on the test part; 0: neither."""
    publish: bool = True
    """Put the best into the store, with the search's record."""
    space: Path | None = None
    """A file with SPACE, GOAL and BUDGET, to be searched in the place of the model's own."""

    def __post_init__(self) -> None:
        if self.seeds < 0:
            raise ConfigError(f"seeds must not be negative, got {self.seeds}")


def work(args: list[str], description: str | None) -> None:
    """Searches what a command line asks for.

    Raises:
        ConfigError, DataError: it asks for what cannot be.
    """
    model, first = (*args, "", "")[:2]
    if model in HELP or not model:
        print(f"{description}\n{USAGE}\nmodels with a space: {', '.join(spaces())}")
        return
    subject = _subject(model)
    if first in HELP or (first and HELP & set(args)):
        run = subject.run(first if first in subject.presets else subject.presets[0])
        _parse(run, "", ["--help"], f"{description}\n{USAGE}\n\n{_told(open_space(model))}")
    if not first or first.startswith("-"):
        raise ConfigError(f"after {model} a preset ({', '.join(subject.presets)}), a data set or a run file")
    name = f"tune-{model}-{re.sub('[^A-Za-z0-9._-]+', '-', Path(first).stem)}"
    job = _parse(subject.run(first), name, args[2:], description)
    tune_and_judge(subject, open_space(model, job.space), job)


def _parse(run: Run, name: str, args: Sequence[str], description: str | None) -> Tune:
    """The run's settings stand without a prefix, as in `recray train`."""
    refuse_moved(args)
    flat: Any = tyro.conf.arg(name="")
    typed = (("run", Annotated[type(run), flat]), ("search", Annotated[SearchConfig, flat], SearchConfig()))
    kind: Any = make_dataclass("Tune", typed, bases=(Tune,), frozen=True)
    kind.__doc__ = Tune.__doc__
    default = kind(run, launch=LaunchConfig(workers=1, run=name))
    found: Tune = tyro.cli(kind, prog="recray tune", default=default, description=description, args=args)
    return found


def tune_and_judge(subject: Subject[Any], space: Space, job: Tune) -> None:
    print(_told(space))
    found = search(subject, job.run, space, job.search, job.launch, watch=Watch(space.goal))
    table = write_trials(found.folder / "trials.parquet", found)
    show_trials(found)
    pictures = draw(found)
    print(f"drawn: {', '.join(path.name for path in [table, *pictures])} in {found.folder}")
    best = found.best
    told = f"{space.goal} {best.score:.4f} in epoch {best.best_epoch}{_baseline(found)}"
    print(f"best: trial {best.number}, {told}; {best.changes}")
    if found.best_run == found.run:
        print("no trial was better than what the search started from: it stands")
    if job.seeds or job.publish:
        outcome = judge(subject, found, job.launch, job.seeds, Store() if job.publish else None)
        if outcome.judged:
            show_judged(outcome.judged, found.name)
        for reference in outcome.published:
            print(f"published {reference}")
    print(_advice(subject.name, found))


def _baseline(found: Found) -> str:
    scores = [record.score for record in found.records if record.number == BASELINE]
    return f" (preset {scores[0]:.4f})" if scores and scores[0] is not None else ""


def _subject(model: str) -> Subject[Any]:
    if model == ApplicationSubject.name:
        return ApplicationSubject()
    return RecipeSubject(RECIPES[model])


def _advice(model: str, found: Found) -> str:
    """How the best is trained again."""
    run, file = found.best_run, str(found.best_file)
    if isinstance(run, TwoStageRun):
        rules = " ".join(f"--service.{name} {value}" for name, value in run.stages.changed().items())
        lines = [f"serve the best with: {rules}"] if rules else []
        again = shlex.join(["recray", "tune", model, file, "--trials", "1"])
        return "\n".join([*lines, f"train the best with: {again}"])
    seed = str(seeded(run).seed)  # as what is published was trained
    return f"train the best with: {shlex.join(['recray', 'train', model, file, '--seed', seed])}"


def _told(space: Space) -> str:
    lines = [f"searched, by {space.goal} ({space.goal.mode}):"]
    lines += [f"  {path}: {words}" for path, words in space.words().items()]
    if space.ignored:
        lines += ["left as they are:", *(f"  {path}: {why}" for path, why in space.ignored.items())]
    return "\n".join(lines)


class Watch:
    """Prints where a search is: a table every while, sooner where a trial ended."""

    def __init__(self, goal: Goal) -> None:
        self.goal, self._ended, self._last_s = goal, 0, time.monotonic()

    def __call__(self, progress: Progress) -> None:
        ended = len(progress.records)
        waited_s = time.monotonic() - self._last_s
        is_news = ended != self._ended and (waited_s > LINE_EVERY_S or ended == progress.trials)
        if is_news or waited_s > STILL_EVERY_S:
            self._ended, self._last_s = ended, time.monotonic()
            Terminal().print(progress_table(progress, self.goal))


def progress_table(progress: Progress, goal: Goal) -> Table:
    """What is going on, then the best that ended; as wide as it is allowed to be and no wider."""
    grid = _grid(f"{len(progress.records)} of {progress.trials} trials ended", goal)
    for live in sorted(progress.running, key=lambda one: one.proposal.number):
        score = "" if live.score is None else f"{live.score:.4f}"
        grid.add_row(
            str(live.proposal.number), "running", str(live.epoch), score, _cut(_words(live.proposal.changes))
        )
    for record in best_first(progress.records, goal)[: max(1, SHOWN - len(progress.running))]:
        *others, told = _cells(record)
        grid.add_row(*others, _cut(told))
    return grid


def _cut(told: str) -> Text:
    """On one line, as much of it as there is room for."""
    return Text(told, no_wrap=True, overflow="ellipsis")


def show_trials(found: Found) -> None:
    """All trials, best first."""
    grid = _grid(f"{len(found.records)} trials of {found.name}, best first", found.space.goal)
    for record in found.records:
        grid.add_row(*map(escape, _cells(record)))
    Terminal().print(grid)


def _grid(title: str, goal: Goal) -> Table:
    grid = Table(title=title, title_justify="left")
    for column in ("trial", "status", "epochs", goal.metric):
        grid.add_column(
            column, no_wrap=True, min_width=len(column) if column != "status" else len("finished")
        )
    grid.add_column("settings, reason", overflow="fold")
    return grid


def _cells(record: TrialRecord) -> list[str]:
    score = "" if record.score is None else f"{record.score:.4f}"
    told = record.reason or _words(record.changes)
    return [str(record.number), record.status, str(record.epochs), score, told]


def _words(changes: dict[str, Any]) -> str:
    """Settings by the last part of their path where that is enough to tell them apart."""
    short = {path: path.rpartition(".")[2] for path in changes}
    names = [path if list(short.values()).count(last) > 1 else last for path, last in short.items()]
    values = [f"{value:.3g}" if isinstance(value, float) else str(label(value)) for value in changes.values()]
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


def show_judged(judged: Judged, name: str) -> None:
    """The winner and what it started from, on the test part, in one table."""
    grid = Table(
        title=f"{name} on the test part, {judged.seeds} seeds",
        caption="mean [95 % interval] ± standard deviation over seeds; users are paired in the difference",
        title_justify="left",
    )
    for column in ("metric", "best", "preset", "best - preset"):
        grid.add_column(column)
    for metric in [m for m in judged.gain if m.partition("@")[0] in LISTED] or list(judged.gain):
        sides = [
            _interval(side.metrics[metric], side.seed_std[metric]) for side in (judged.best, judged.preset)
        ]
        grid.add_row(metric, *sides, _interval(judged.gain[metric], math.nan, sign="+"))
    Terminal().print(grid)


def _interval(found: Interval, std: float, sign: str = "") -> str:
    bounds = "" if math.isnan(found.low) else f" [{found.low:{sign}.4f}, {found.high:{sign}.4f}]"
    return escape(f"{found.mean:{sign}.4f}{bounds}" + ("" if math.isnan(std) else f" ± {std:.4f}"))
