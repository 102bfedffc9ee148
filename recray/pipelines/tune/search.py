"""The life of a search: checked, run on Ray, gone on with after whatever ended it, and its best kept."""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from recray.config import Config, ConfigError, override, settings, to_dict, value_at
from recray.folders import locked
from recray.launch import local_tune
from recray.launch.ray_tune import BASELINE, SCORE, Plan, Proposal, run_trials
from recray.pipelines.tune.records import SearchFolder, Status, TrialRecord, best_first
from recray.pipelines.tune.run_files import write_run
from recray.pipelines.tune.spaces import Method, Space
from recray.pipelines.tune.study import Study, study_of
from recray.pipelines.tune.subject import Subject
from recray.redaction import hidden
from recray.track.recording import following_trials
from recray.train.context import LaunchConfig
from recray.train.run import Run
from recray.typed_values import plain

log = logging.getLogger(__name__)
MOST_GRACE = 4  # a space's grace is at most one in so many epochs: else little is saved


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How long to search, and how; what is 0 or empty is as the space has it."""

    trials: int = 0
    """Settings to try, the preset's own among them; more of them later go on with the same search."""
    method: Literal["", "tpe", "random", "pbt"] = ""
    """tpe: Optuna's estimator of promising settings. random. pbt: population based training."""
    asha: bool = True
    """Stop trials that are behind after a few epochs (ASHA); of no use to what has no epochs."""
    grace: int = 0
    """Epochs that every trial gets before; 0: as the space has it, but a quarter of all at most."""
    concurrent: int = 0
    """Trials at a time, at most; 0: as many as the cluster has room for. Not of a population."""

    def __post_init__(self) -> None:
        for name in ("trials", "grace", "concurrent"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")


class Live(NamedTuple):
    """A trial that is going on."""

    proposal: Proposal
    epoch: int
    score: float | None


class Progress(NamedTuple):
    """Where a search is."""

    records: list[TrialRecord]
    running: list[Live]
    trials: int  # in all


class Found(NamedTuple):
    """A search that is done."""

    name: str
    folder: Path
    model: str
    space: Space
    run: Run  # that it started from
    records: list[TrialRecord]  # best first
    best: TrialRecord
    study: Study
    curves: dict[int, list[dict[str, float]]]  # trial -> its reports, one an epoch

    @property
    def best_run(self) -> Run:
        return override(self.run, self.best.changes)

    @property
    def best_file(self) -> Path:
        """The best as a run file, which every training job takes as its first word."""
        return self.folder / "best.json"


def search(
    subject: Subject[Any],
    run: Run,
    space: Space,
    config: SearchConfig,
    launch: LaunchConfig,
    *,
    watch: Callable[[Progress], None] = lambda _: None,
) -> Found:
    """Searches, or goes on with the search of this name; the same command twice is one search.

    Trial 0 is the run as it is given, so that the best is never worse than that on validation.

    Args:
        run: complete; trials change what the space says and nothing else.
        launch: ``run`` names the search; several workers train each trial. Where it is ``local``, trials run
            in this process, one after the other, each to its end.

    Raises:
        ConfigError: the space does not fit the run, the name is another search's, the cluster has no room,
            or no trial measured anything.
    """
    space.require_fits(run)
    subject.open(override(run, space.fixed()))
    folder, method = SearchFolder(launch.run), config.method or space.budget.method
    mutable = _mutable(space, method)
    if mutable and launch.workers > 1:
        raise ConfigError("population based training has one worker a trial: set launch.workers to 1")
    if mutable and config.concurrent:
        raise ConfigError(
            "population based training needs its whole population under way, which takes turns where there "
            "is little room: leave concurrent out; launch.cpus_per_worker says what each takes"
        )
    with locked(folder.folder / ".lock", f"search {launch.run} is under way in another process"):
        grace = _grace(subject, run, space, config)
        folder.claim(_identity(subject.name, run, space, config, method, grace))
        trials = config.trials or space.budget.trials
        life = _Life(folder, run, space, method, trials, watch)
        left = max(trials - len(life.records), len(folder.unfinished()))
        if left > 0:
            plan = Plan(
                metric=space.goal.metric,
                mode=space.goal.mode,
                trials=left,
                epochs=subject.epochs(run),
                grace=grace,
                asha=config.asha,
                mutations=mutable,
                concurrent=config.concurrent,
                communicator=subject.communicator,
            )
            start = local_tune.run_trials if launch.where == "local" else run_trials
            with following_trials(folder.folder, launch.track, launch.track_wait_s):
                start(subject.task(space.goal), run, life, plan, launch, launch.run)
        return _found(folder, subject.name, run, space, life)


def _grace(subject: Subject[Any], run: Run, space: Space, config: SearchConfig) -> int:
    """Epochs before a trial may be stopped: those asked for, else the space's, a part of all at most."""
    return config.grace or min(space.budget.grace, max(1, subject.epochs(run) // MOST_GRACE))


def _identity(
    model: str, run: Config, space: Space, config: SearchConfig, method: Method, grace: int
) -> dict[str, Any]:
    """What makes two searches the same; how many trials there are may grow."""
    return {
        "model": model,
        "run": to_dict(run),
        "space": space.words(),
        "goal": space.goal._asdict(),
        "method": method,
        "asha": config.asha,
        "grace": grace,
    }


def _mutable(space: Space, method: Method) -> dict[str, Any]:
    if method != "pbt":
        return {}
    if not space.budget.mutable:
        raise ConfigError(
            "population based training changes settings while a trial goes on, and this space names none "
            "that may: search by tpe or random, or add BUDGET.mutable"
        )
    return {path: space.settings[path] for path in space.budget.mutable}


class _Life:
    """A ``launch.ray_tune.Search``: proposes, and takes down what came of it."""

    def __init__(
        self,
        folder: SearchFolder,
        run: Run,
        space: Space,
        method: Method,
        trials: int,
        watch: Callable[[Progress], None],
    ) -> None:
        self.folder, self.run, self.space, self.trials, self.watch = folder, run, space, trials, watch
        self.records = folder.records()
        self.study = study_of(self.records, space.ranges(), space.goal, method, run.seed)
        self._again = deque(folder.unfinished())
        self._next = folder.next_number()
        self._live: dict[int, Live] = {}
        if self.records or self._again:
            log.info("going on: %d trials ended, %d were cut off", len(self.records), len(self._again))

    def propose(self) -> Proposal | None:
        if self._again:
            proposal = self._again.popleft()
        elif len(self.records) + len(self._live) < self.trials:
            proposal = Proposal(self._next, self._changes(self._next))
            self._next += 1
            self.folder.propose(proposal)
        else:
            return None
        self.folder.begin(proposal, settings(self.run))
        self._live[proposal.number] = Live(proposal, 0, None)
        return proposal

    def reported(self, number: int, metrics: Mapping[str, Any]) -> None:
        if live := self._live.get(number):
            self._live[number] = live._replace(epoch=int(metrics["epoch"]), score=metrics[SCORE])
            self._tell()

    def ended(self, proposal: Proposal, status: Status, why: str) -> None:
        number, goal = proposal.number, self.space.goal
        if number not in self._live:  # a population takes trials up again that had ended: the record stands
            return
        reports = self.folder.reports(number, goal)
        best = max(reports, key=lambda report: goal.sign() * report[goal.metric], default=None)
        record = TrialRecord(
            number=number,
            changes=plain(proposal.changes),  # type: ignore[arg-type]  # a mapping stays one
            status=status,
            score=None if best is None or status == "failed" else best[goal.metric],
            best_epoch=int(best["epoch"]) if best else 0,
            epochs=int(reports[-1]["epoch"]) if reports else 0,
            scores={f"{report['epoch']:g}": report[goal.metric] for report in reports},
            seed=self.run.seed,
            duration_s=round(reports[-1].get("wall_s", 0.0), 1) if reports else 0.0,
            reason=hidden(why),
        )
        self.folder.end(record)
        self.records.append(record)
        del self._live[number]
        self.study.tell(record)
        self._tell()

    def _changes(self, number: int) -> dict[str, Any]:
        if number == BASELINE:
            values = {path: value_at(self.run, path) for path in self.space.domains()}
            return {**values, **self.space.fixed()}
        return {**self.study.ask(number), **self.space.fixed()}

    def _tell(self) -> None:
        self.watch(Progress(self.records, list(self._live.values()), self.trials))


def _found(folder: SearchFolder, model: str, run: Run, space: Space, life: _Life) -> Found:
    """
    Raises:
        ConfigError: trials were cut off, or none measured anything.
    """
    if cut := folder.unfinished():
        raise ConfigError(
            f"{len(cut)} trials of {folder.name!r} were cut off: the same command goes on with them"
        )
    records = best_first(life.records, space.goal)
    if not records or records[0].score is None:
        reasons = sorted({record.reason for record in records})
        raise ConfigError(f"no trial of {folder.name!r} measured {space.goal.metric}: {'; '.join(reasons)}")
    curves = {record.number: folder.reports(record.number, space.goal) for record in records}
    found = Found(folder.name, folder.folder, model, space, run, records, records[0], life.study, curves)
    best = found.best
    how = {
        "search": found.name,
        "trial": best.number,
        "changes": best.changes,
        str(space.goal): best.score,
        "trials": len(records),
    }
    write_run(found.best_file, model, found.best_run, how)
    return found
