"""What a search has done, as JSON in its folder: the one truth that it goes on from after whatever ended it.

    <runs>/<name>/search.json               what is searched; another search of this name is refused
    <runs>/<name>/trials/0007/proposal.json what trial 7 tries; written before it starts
    <runs>/<name>/trials/0007/metrics.jsonl its reports, epoch by epoch, beside its last checkpoint
    <runs>/<name>/trials/0007.json          how it ended, written whole by a rename

A proposal without an end is a trial that was cut off: it goes first again.
"""

import json
import logging
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recray import paths
from recray.config import ConfigError, from_dict, to_dict
from recray.folders import write_whole
from recray.launch.ray_tune import Proposal, proposal_of, trial_folder
from recray.pipelines.tune.spaces import Goal
from recray.redaction import hidden_within
from recray.track import history
from recray.track.record import SEARCH as SEARCH_OF
from recray.track.record import Outcome, RunFolder
from recray.typed_values import plain

log = logging.getLogger(__name__)
Status = Literal["finished", "stopped", "failed"]
SEARCH, PROPOSAL = "search.json", "proposal.json"


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """How a trial ended."""

    number: int
    changes: dict[str, Any]  # dotted path -> value, as ``config.override`` takes it
    status: Status
    score: float | None = None  # best of the goal's metric; None: it measured none
    best_epoch: int = 0
    epochs: int = 0  # that it trained
    scores: dict[str, float] = field(default_factory=dict)  # the metric by epoch
    seed: int = 0
    duration_s: float = 0.0  # that it trained; waiting for room is left out
    reason: str = ""  # why it failed


class SearchFolder:
    """The folder of one search, under ``<runs>``."""

    def __init__(self, name: str) -> None:
        """
        Raises:
            ConfigError: it cannot name a folder.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ConfigError(
                f"launch.run {name!r} cannot name a search: use letters, digits, '.', '_' and '-'"
            )
        self.name, self.folder = name, paths.runs_dir() / name

    def claim(self, search: Mapping[str, Any]) -> None:
        """Notes what is searched.

        Raises:
            ConfigError: another search, or a run, has this name.
        """
        path, current = self.folder / SEARCH, json.loads(json.dumps(hidden_within(plain(search))))
        if (self.folder / "run.json").exists():
            raise ConfigError(f"{self.name!r} is the name of a run: choose another --launch.run")
        if (earlier := _read(path)) is not None:
            was, now = _flat(earlier), _flat(current)
            if changed := [f"{k} was {was.get(k)}, now {now.get(k)}" for k in _differing(was, now)]:
                raise ConfigError(
                    f"search {self.name!r} was started otherwise ({'; '.join(changed)}): go on with its own "
                    "settings, or name this one with --launch.run"
                )
            return
        (self.folder / "trials").mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(current, indent=1).encode())

    def propose(self, proposal: Proposal) -> None:
        """Notes what a trial is about to try."""
        folder = trial_folder(self.name, proposal.number)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / PROPOSAL, json.dumps(plain(proposal._asdict()), indent=1).encode())

    def begin(self, proposal: Proposal, settings: Mapping[str, object]) -> None:
        """Notes that a trial goes on, as a run of its own, which trackers follow.

        Args:
            settings: by dotted path, of the run that the search started from.
        """
        trial = RunFolder(trial_folder(self.name, proposal.number))
        if not trial.has_checkpoints() or not trial.settings():  # a population changes them on the way
            changes = {path: plain(value) for path, value in proposal.changes.items()}
            of = {SEARCH_OF: self.name, "trial": proposal.number}
            trial.note_settings(hidden_within({**settings, **changes, **of}))
        trial.begin()

    def end(self, record: TrialRecord) -> None:
        """Notes how a trial ended; what it would have gone on from is of no more use."""
        RunFolder(trial_folder(self.name, record.number)).end(_outcome(record))
        write_whole(
            self._record(record.number), json.dumps(hidden_within(to_dict(record)), indent=1).encode()
        )
        for checkpoint in trial_folder(self.name, record.number).glob("checkpoint_*"):
            shutil.rmtree(checkpoint, ignore_errors=True)

    def records(self) -> list[TrialRecord]:
        """Trials that ended, in their order. A record that cannot be read is no end: its trial goes again."""
        found = []
        for path in sorted((self.folder / "trials").glob("*.json")):
            try:
                found.append(from_dict(TrialRecord, _read(path) or {}))
            except ConfigError as error:
                log.warning("%s is damaged (%s): its trial is done again", path, error)
        return found

    def unfinished(self) -> list[Proposal]:
        """Trials that were cut off."""
        ended = {record.number for record in self.records()}
        found = []
        for path in sorted((self.folder / "trials").glob(f"*/{PROPOSAL}")):
            said = _read(path)
            if said and int(said["number"]) not in ended:
                found.append(proposal_of(self.name, Proposal(**said)))
        return found

    def next_number(self) -> int:
        """The first that no trial has."""
        there = [int(path.name) for path in (self.folder / "trials").iterdir() if path.is_dir()]
        return max([*there, *(record.number for record in self.records())], default=-1) + 1

    def reports(self, number: int, goal: Goal) -> list[dict[str, float]]:
        """What a trial measured, one report an epoch."""
        found = history.by_epoch(history.read(trial_folder(self.name, number)), goal.metric)
        return [dict(report) for report in found]

    def _record(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}.json"


def best_first(records: list[TrialRecord], goal: Goal) -> list[TrialRecord]:
    """By score; the earlier of two alike; those without one last."""
    return sorted(records, key=lambda r: (math.inf if r.score is None else -goal.sign() * r.score, r.number))


def _outcome(record: TrialRecord) -> Outcome:
    """As trackers are told of it: that others were ahead is no failure."""
    if record.status == "failed":
        return Outcome(state="failed", said=record.reason)
    said = f"stopped after {record.epochs} epochs, as others were ahead" if record.status == "stopped" else ""
    return Outcome(state="finished", said=said)


def _read(path: Path) -> dict[str, Any] | None:
    """What a file says; None where it is not there or was cut off."""
    try:
        said = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
