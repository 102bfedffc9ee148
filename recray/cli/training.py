"""Train anything that `recray models` lists, measure it on the test part, and publish it.

recray train sasrec ml-100k                     # a preset
recray train sasrec events.csv --optim.lr 1e-3  # any data: the model's defaults at its size
recray train sasrec --from events-sasrec:3      # a published version's run again
recray train sasrec best.json                   # the run that a search found best
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from recray.bundles.promotion import promote
from recray.cli import guarded
from recray.cli.jobs import refuse_moved
from recray.cli.outputs import output
from recray.cli.show import document, show
from recray.config import ConfigError
from recray.folders import write_whole
from recray.pipelines.train import train
from recray.pipelines.tune.run_files import named_run
from recray.recipes import RECIPES, run_again
from recray.store import Bundle, Store, run_record
from recray.store.drafts import Drafts
from recray.track.console import setup_logging
from recray.train.context import LaunchConfig
from recray.train.run import AnyRecipe, Run

log = logging.getLogger(__name__)
HELP = {"-h", "--help"}
FIRST = """

The first word is a preset, a data set (`recray datasets`), the path of a file, a run file such as a search's
best.json, or --from NAME:NUMBER, a published version whose run is done again; options that differ come after
it."""


@dataclass(frozen=True)
class Job:
    """A run, where it happens, and whether its result is put into production."""

    run: Run
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    strict: bool = False
    """Refuse data with a leak, before anything is trained."""
    publish: bool = True
    """Make a version of it; without, it is measured alone, and its run is kept."""
    promote: bool = False
    """Point `production` at the new version."""
    json: Path | None = None
    """Also write card and metrics to this file."""

    def __post_init__(self) -> None:
        if self.promote and not self.publish:
            raise ConfigError("--promote needs a version: leave out --no-publish")
        if self.json:
            object.__setattr__(self, "json", output(self.json))
        if self.json and (self.json.is_dir() or not self.json.parent.is_dir()):
            raise ConfigError(f"json {self.json}: give a file in a folder that exists")


GOES_ON = "a training with a name (--launch.run) continues from there"


def main(args: Sequence[str]) -> int:
    setup_logging()
    name, *rest = args or ["--help"]
    if name in HELP:
        print(f"{__doc__}\nusage: recray train MODEL [PRESET | DATASET | FILE | --from NAME:N] [OPTIONS]")
        print(f"models: {', '.join(RECIPES)}")
        return 0
    return guarded(lambda: _work(name.replace("-", "_"), rest), goes_on=GOES_ON)


def _work(name: str, args: list[str]) -> None:
    if args and args[0].startswith("--from="):
        args = ["--from", args[0].removeprefix("--from="), *args[1:]]
    job = parse(RECIPES[name], args)
    store = Store() if job.publish else Drafts()
    trained = train(RECIPES[name], job.run, job.launch, store, strict=job.strict)
    manifest = trained.bundle.manifest
    if job.json:
        write_whole(job.json, json.dumps(document(trained.measured, name, job.run.seed), indent=1).encode())
    show(trained.measured, name, job.run.seed)
    recall = {key: value for key, value in manifest.metrics.items() if key.startswith("index_recall")}
    said = f"published {trained.bundle.reference}" if job.publish else "nothing is published, as asked"
    print(said + "".join(f"; {k} {v:.4f}" for k, v in recall.items()))
    if args[:1] == ["--from"]:
        _compare_data(args[1], trained.bundle)
    if job.promote:
        promote(store, manifest.name, manifest.version)
        print(f"production of {manifest.name} is now version {manifest.version}")


def parse(recipe: AnyRecipe, args: Sequence[str]) -> Job:
    """The job that a command line asks for: a preset, a data set or a version first, then what differs.

    Raises:
        ConfigError: none of the three stands first, or an option is called otherwise.
    """
    refuse_moved(args)
    first, *rest = args or [""]
    if HELP & set(args):  # needs neither data nor a store
        text = f"{recipe.summary}{FIRST}\n\n{_presets(recipe)}"
        run = recipe.presets[first][1] if first in recipe.presets else _some(recipe)
        return _with(recipe, run, ["--help"] if first in HELP else rest, text)
    if first == "--from":
        return _with(recipe, _again(recipe, rest[0] if rest else ""), rest[1:])
    if not first or first.startswith("-"):
        raise ConfigError(
            f"first a preset ({', '.join(recipe.presets)}), a data set, a file, a run file, or --from "
            f"NAME:NUMBER; then what differs. Got {first or 'nothing'}"
        )
    return _with(recipe, named_run(recipe, first), rest)


def _presets(recipe: AnyRecipe) -> str:
    lines = [f"  {name}: {text}" for name, (text, _) in recipe.presets.items()]
    return "\n".join([f"presets ({next(iter(recipe.presets))}'s values stand below as defaults):", *lines])


def _some(recipe: AnyRecipe) -> Run:
    """One of its runs, to know their kind by."""
    run: Run = next(iter(recipe.presets.values()))[1]
    return run


def _again(recipe: AnyRecipe, reference: str) -> Run:
    """The run of a published version.

    Raises:
        ConfigError: no version is named, or another recipe made it.
    """
    name, _, version = reference.rpartition(":")
    if not name:
        raise ConfigError(
            f"--from {reference!r}: name a version as NAME:NUMBER, as `recray versions` lists them"
        )
    made_by, run = run_again(Store().open(name, version))
    if made_by.name != recipe.name:
        raise ConfigError(
            f"{reference} was made by {made_by.name!r}: repeat it with `recray train {made_by.name}`"
        )
    return run


def _compare_data(reference: str, again: Bundle) -> None:
    """Says so where a run that was to be repeated met other data."""
    name, _, version = reference.rpartition(":")
    then, now = run_record(Store().open(name, version)), run_record(again)
    if now.data_hash != then.data_hash:
        log.warning(
            "%s was trained on other data (%s, %s) than %s (%s, %s): it is not the same run again",
            *(reference, then.data, then.data_hash[:8], again.reference, now.data, now.data_hash[:8]),
        )


def _with(recipe: AnyRecipe, run: Run, args: Sequence[str], text: str = "") -> Job:
    job = _job(run)
    prog = f"recray train {recipe.name}"
    changed: Job = tyro.cli(type(job), prog=prog, default=job, description=text or recipe.summary, args=args)
    return changed


def _job(run: Run) -> Job:
    """A job for this kind of run: its settings stand on the command line without a prefix."""
    typed = (("run", Annotated[type(run), tyro.conf.arg(name="")]),)
    kind: Any = make_dataclass(type(run).__name__, typed, bases=(Job,), frozen=True)
    kind.__doc__ = Job.__doc__
    job: Job = kind(run)
    return job
