"""What a run's folder says of it: as what it was started, what it reported, how it ended.

``run.json`` holds the settings by their dotted paths, ``metrics.jsonl`` the reports (``track.history``),
``outcome.json`` the end; a run without one goes on, or was cut off. Everybody who looks at a run reads these.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recray import storage
from recray.config import from_dict, to_dict
from recray.folders import write_whole
from recray.redaction import hidden_within
from recray.track import history
from recray.track.history import Report

RUN, OUTCOME, CURVES = "run.json", "outcome.json", "curves.png"
SEARCH = "search"  # among the settings of a trial: the search that it is of

State = Literal["finished", "failed", "stopped", "lost"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    state: State
    """stopped: by a person. lost: whoever started it was killed."""
    said: str = ""
    """The last lines of one that failed; of a trial that its search ended early, that."""
    metrics: dict[str, float] = field(default_factory=dict)
    """On the test part."""
    card: dict[str, Any] | None = None
    """What they were measured under."""
    reference: str = ""
    """Of the version that was published."""
    bundle: str = ""
    """Its folder."""


@dataclass(frozen=True)
class RunFolder:
    """One run, as it lies on disk."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def title(self) -> str:
        """The name, of a trial with that of its search."""
        return f"{search}-{self.name}" if (search := self.settings().get(SEARCH)) else self.name

    def has_checkpoints(self) -> bool:
        return any(name.startswith("checkpoint_") for name in storage.folders_in(self.folder))

    def settings(self) -> dict[str, object]:
        """What it was started with; none where it never was, or was cut off in noting that."""
        return _read(self.folder / RUN)

    def note_settings(self, settings: dict[str, object]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / RUN, json.dumps(settings, indent=1).encode())
        storage.send(self.folder / RUN)

    def reports(self) -> list[dict[str, float]]:
        return history.read(self.folder)

    def outcome(self) -> Outcome | None:
        """How it ended; None: not yet, or nobody was left to say so."""
        found = _read(self.folder / OUTCOME)
        return from_dict(Outcome, found) if found else None

    def begin(self) -> None:
        """Forgets how an earlier attempt ended."""
        storage.erase(self.folder / OUTCOME)

    def end(self, outcome: Outcome) -> None:
        values = hidden_within(to_dict(outcome))
        write_whole(self.folder / OUTCOME, json.dumps(values, indent=1).encode())
        storage.send(self.folder / OUTCOME)

    def picture(self) -> Path | None:
        """The learning curves, where they were drawn."""
        return path if (path := self.folder / CURVES).is_file() else None

    def metric(self) -> str:
        """What its best epoch goes by; empty where it has no epochs."""
        return str(self.settings().get("loop.metric", ""))

    def best(self) -> Report:
        """The report of the best evaluation, the last one where nothing is evaluated; empty: none yet."""
        reports, metric = self.reports(), self.metric()
        measured = [each for each in reports if not math.isnan(each.get(metric, math.nan))]
        if not measured:
            return reports[-1] if reports else {}
        goal = min if self.settings().get("loop.goal") == "min" else max
        return goal(measured, key=lambda each: each[metric])


def _read(path: Path) -> dict[str, Any]:
    storage.refresh(path)
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found
