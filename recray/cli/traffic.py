"""Commands for live traffic: what runs, and how to change it. Applications follow within a second or two."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from recray.cli.listing import Listing

if TYPE_CHECKING:
    from recray.serve.traffic.operations import Operations
    from recray.store.journal import TurnAction

Json = Annotated[bool, tyro.conf.arg(help="Print JSON instead of a table.")]
Name = tyro.conf.Positional[str]
Limits = Annotated[dict[str, float | None], tyro.conf.UseAppendAction]  # one does not replace another


@dataclass(frozen=True)
class Traffic:
    """Experiments on live traffic: arms, shares, what they show so far; or all that was ever done to it."""

    name: Name
    """The application's bundle, as `recray versions` lists it."""
    journal: bool = False
    """Every promotion, rollback and experiment: when, who, why."""
    json: Json = False

    def __call__(self) -> Listing:
        rows = journal(self.name) if self.journal else arms(self.name)
        return Listing(f"{'journal' if self.journal else 'traffic'} of {self.name}", rows)


@dataclass(frozen=True)
class Started:
    """What every start of an experiment says."""

    why: str = ""
    """It stands in the journal, as does who did it."""
    force: bool = False
    """Also where a gate speaks against it, or it was rolled back."""
    json: Json = False


@dataclass(frozen=True)
class Canary(Started):
    """Show a version to a growing share of users, and production, loaded anew, to as many others."""

    name: Name = tyro.MISSING
    """The application's bundle."""
    version: Name = tyro.MISSING
    """A number, or a name such as candidate."""
    ramp: str = ""
    """Shares of users by time since the start, as in '1% 10m:10% 1h:50%'."""
    guardrail: Limits = field(default_factory=dict)
    """Limits that are not the default ones, as in `--guardrail slowdown 1.2 --guardrail least_users 500`."""
    report_only: bool = False
    """Say what follows, but neither promote nor roll back."""

    def __call__(self) -> Listing:
        from recray.serve.traffic.ramp import CANARY_RAMP

        _on(self.name).canary(
            self.version,
            ramp=self.ramp or CANARY_RAMP,
            guardrails=self.guardrail,
            acts=not self.report_only,
            why=self.why,
            force=self.force,
        )
        return Listing("started", arms(self.name))


@dataclass(frozen=True)
class AB(Started):
    """Compare versions, each shown to as many users: `recray ab shop-ranker old 3 new 4`."""

    name: Name = tyro.MISSING
    """The application's bundle."""
    versions: tyro.conf.Positional[dict[str, str]] = field(default_factory=dict)
    """Pairs of a name for the arm and its version; the others are compared with the first."""
    share: float = 1.0
    """Of all users."""
    group: str = "default"
    """Experiments of one group share no user."""
    guardrail: Limits = field(default_factory=dict)
    """Limits that are not the default ones."""

    def __call__(self) -> Listing:
        _on(self.name).ab(
            self.versions,
            share=self.share,
            group=self.group,
            guardrails=self.guardrail,
            why=self.why,
            force=self.force,
        )
        return Listing("started", arms(self.name))


@dataclass(frozen=True)
class Interleave(Started):
    """Draw lists from production and another version in turns: whose items are clicked more?"""

    name: Name = tyro.MISSING
    """The application's bundle."""
    version: Name = tyro.MISSING
    """A number, or a name such as candidate."""
    share: float = 0.1
    """Of all users."""

    def __call__(self) -> Listing:
        _on(self.name).interleave(self.version, share=self.share, why=self.why, force=self.force)
        return Listing("started", arms(self.name))


@dataclass(frozen=True)
class Shadow(Started):
    """Ask a version what users ask, and show nobody its answers."""

    name: Name = tyro.MISSING
    """The application's bundle."""
    version: Name = tyro.MISSING
    """A number, or a name such as candidate."""
    share: float = 1.0
    """Of all users."""

    def __call__(self) -> Listing:
        _on(self.name).shadow(self.version, share=self.share, why=self.why)
        return Listing("started", arms(self.name))


@dataclass(frozen=True)
class _Turn:
    name: Name
    """The application's bundle."""
    experiment: Name
    """As `recray traffic` lists it."""
    why: str = ""
    """It stands in the journal, as does who did it."""
    json: Json = False

    def _take(self, action: "TurnAction") -> Listing:
        _on(self.name).turn(action, self.experiment, why=self.why)
        return Listing(f"traffic of {self.name}", arms(self.name))


@dataclass(frozen=True)
class Pause(_Turn):
    """Stop an experiment for a while: production answers its users."""

    def __call__(self) -> Listing:
        return self._take("pause")


@dataclass(frozen=True)
class Resume(_Turn):
    """Go on with a paused experiment: each user gets the arm of before."""

    def __call__(self) -> Listing:
        return self._take("resume")


@dataclass(frozen=True)
class Stop(_Turn):
    """End an experiment."""

    def __call__(self) -> Listing:
        return self._take("stop")


@dataclass(frozen=True)
class Refuse(_Turn):
    """End an experiment; its last arm does not come back but by force."""

    def __call__(self) -> Listing:
        return self._take("refuse")


def _on(name: str) -> "Operations":
    from recray.serve.traffic.operations import Operations
    from recray.store import Store

    return Operations(Store(), name)


def arms(name: str) -> list[dict[str, Any]]:
    """A row for each arm of each running experiment, by the evidence that was written down last."""
    from recray.serve.traffic.analysis import Analysis
    from recray.serve.traffic.described import described
    from recray.store import Store

    store, now = Store(), time.time()
    desk = Analysis(store, name)
    desk.judge(now)
    return [row for one in described(store, name, now, desk.numbers())["experiments"] for row in _rows(one)]


def _rows(experiment: Mapping[str, Any]) -> list[dict[str, Any]]:
    numbers, name = experiment["numbers"] or {}, experiment["name"]
    rows = []
    for arm in experiment["arms"]:
        asked = "paused" if experiment["paused"] else f"{arm['share']:.1%} of users"
        known = numbers.get("arms", {}).get(arm["name"], {})
        rates, verdict = known.get("rates", {}), experiment["verdicts"].get(arm["name"])
        said = [f"{verdict['action']}: {verdict['reason']}"] if verdict else []
        rows.append(
            {
                "arm": [name, f"{arm['name']}, version {arm['version']}", asked],
                "users": known.get("users", ""),
                "clicked": _share(rates.get("clicks")),
                "failed": _share(rates.get("errors")),
                "p95_ms": known.get("p95_ms", ""),
                "shows": said if "arms" in numbers else [*said, *_of_whole(numbers)],
            }
        )
    return rows


def _share(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.2%}"


def _of_whole(numbers: dict[str, Any]) -> list[str]:
    """What is known of an experiment whose arms have no users of their own."""
    shown = {key: f"{value:.4g}" for key, value in numbers.items() if isinstance(value, int | float)}
    return [f"{key.replace('_', ' ')} {value}" for key, value in shown.items()]


def journal(name: str) -> list[dict[str, Any]]:
    """A row for each entry, newest first."""
    from recray.store import Store
    from recray.store.journal import Move
    from recray.store.journal import Started as Begun

    rows = []
    for entry in reversed(Store().journal(name)):
        if isinstance(entry, Move):
            what = f"{entry.action} {entry.name} to version {entry.version}"
        elif isinstance(entry, Begun):
            versions = ", ".join(f"{arm.name} {arm.reference.version}" for arm in entry.experiment.arms)
            what = f"start {entry.experiment.name}: {versions}"
        else:
            what = f"{entry.action} {entry.experiment}"
        rows.append({"at": entry.at[:19], "by": entry.by, "what": what, "why": entry.why})
    return rows
