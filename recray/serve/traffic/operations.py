"""What people do with live traffic, by command line and over HTTP: each is one entry of the journal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recray.bundles.promotion import check, promote
from recray.config import ConfigError, override
from recray.serve.http.traffic_answers import ArmNow, ExperimentNow, Traffic
from recray.serve.traffic.guardrails import Guardrails
from recray.store import Reference, Store
from recray.store.experiments import AT_ONCE, Arm, Experiment, RampStep
from recray.store.ledger import TrafficLedger
from recray.store.names import PRODUCTION

DAY_S, HOUR_S, MINUTE_S = 86_400.0, 3_600.0, 60.0
# Shares of users that a canary is shown to, by the time since its start: as many get the baseline.
CANARY_RAMP = "1% 5m:5% 20m:10% 1h:25% 2h:50%"


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """Growing shares of all users, each from so long after the start on."""

    shares: tuple[tuple[float, float], ...]  # seconds, share

    @classmethod
    def read(cls, text: str) -> "Ramp":
        """``"1% 10m:10% 1h:50%"``: a per cent at once, ten after ten minutes, half after an hour.

        Raises:
            ConfigError: it cannot be read.
        """
        steps = []
        for word in text.replace(",", " ").split():
            after, colon, share = word.rpartition(":")
            steps.append((seconds(after) if colon else 0.0, _share(share)))
        if not steps:
            raise ConfigError(f"a ramp is shares such as {CANARY_RAMP!r}, got {text!r}")
        return cls(shares=tuple(steps))

    @property
    def end(self) -> float:
        """The share at the end."""
        return self.shares[-1][1]

    def steps(self) -> tuple[RampStep, ...]:
        return tuple(RampStep(after_s=after, part=share / self.end) for after, share in self.shares)


def seconds(text: str) -> float:
    """Of ``"90"``, ``"90s"``, ``"10m"``, ``"2h"``, ``"1d"``.

    Raises:
        ConfigError: it is no time.
    """
    units = {"s": 1.0, "m": MINUTE_S, "h": HOUR_S, "d": DAY_S}
    number, unit = (text[:-1], units[text[-1:]]) if text[-1:] in units else (text, 1.0)
    try:
        return float(number) * unit
    except ValueError:
        raise ConfigError(f"{text!r} is no time: write 90s, 10m, 2h or 1d") from None


def _share(text: str) -> float:
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no share: write 5% or 0.05") from None


class Operations:
    """One application's traffic, in the hands of somebody.

    Args:
        by: who; it stands in the journal. Empty: the user of this process.
    """

    def __init__(self, store: Store, application: str, by: str = "") -> None:
        self._store, self._application, self._by = store, application, by
        self._ledger = TrafficLedger(store, application)

    def promote(self, version: int, *, why: str = "", force: bool = False) -> None:
        """Raises ``ConfigError`` as ``bundles.promotion.promote``."""
        promote(self._store, self._application, version, force=force, by=self._by, why=why)

    def rollback(self, *, why: str = "") -> int:
        """Raises ``StoreError``: there is nothing to go back to."""
        return self._store.rollback(self._application, by=self._by, why=why)

    def canary(
        self,
        version: int | str,
        *,
        ramp: str = CANARY_RAMP,
        guardrails: Mapping[str, float] | None = None,
        acts: bool = True,
        why: str = "",
        force: bool = False,
    ) -> Experiment:
        """A version is shown to a growing share of users, and production, loaded anew, to as many.

        Args:
            ramp: at most 50 % for each.
            acts: its verdict promotes it or rolls it back.
        Raises:
            ConfigError: there is no such version, it is production already, or its gates speak against it.
        """
        read = Ramp.read(ramp)
        new, now = self._arm("canary", version, read.end), self._arm("baseline", PRODUCTION, read.end)
        if new.reference == now.reference:
            raise ConfigError(f"{new.reference} is what production serves: there is nothing to try")
        return self._start("canary", (now, new), read.steps(), guardrails, why, acts=acts, force=force)

    def ab(
        self,
        versions: Mapping[str, int | str],
        *,
        share: float = 1.0,
        name: str = "",
        group: str = "default",
        guardrails: Mapping[str, float] | None = None,
        why: str = "",
        force: bool = False,
    ) -> Experiment:
        """Versions against each other, each for as many users; what they show is said, and nothing is done.

        Args:
            versions: by the name of the arm; the first is what the others are compared with.
            share: of all users, shared out among the arms.
            group: experiments of one group share no user.
        """
        arms = tuple(self._arm(arm, version, share / len(versions)) for arm, version in versions.items())
        return self._start(
            "ab", arms, AT_ONCE, guardrails, why, acts=False, force=force, name=name, group=group
        )

    def interleave(
        self, version: int | str, *, share: float = 0.1, why: str = "", force: bool = False
    ) -> Experiment:
        """A share of users gets lists that production and another version draw from in turns."""
        arms = (self._arm("production", PRODUCTION, share / 2), self._arm("candidate", version, share / 2))
        return self._start("interleaving", arms, AT_ONCE, None, why, acts=False, force=force)

    def shadow(self, version: int | str, *, share: float = 1.0, why: str = "") -> Experiment:
        """A version is asked what a share of users ask, and nobody sees its answers."""
        arms = (self._arm("shadow", version, share),)
        return self._start("shadow", arms, AT_ONCE, None, why, acts=False, force=True)

    def turn(self, action: str, name: str, *, why: str = "") -> None:
        """Pauses, resumes or stops an experiment; ``refuse``: its last arm does not come back.

        Raises:
            StoreError: as ``TrafficLedger.turn``.
        """
        self._ledger.turn(action, name, by=self._by, why=why)

    def _arm(self, name: str, version: int | str, share: float) -> Arm:
        return Arm(name=name, reference=self._reference(version), share=share)

    def _reference(self, version: int | str) -> Reference:
        return self._store.open(self._application, version).reference

    def _start(
        self,
        kind: str,
        arms: Sequence[Arm],
        ramp: tuple[RampStep, ...],
        guardrails: Mapping[str, float] | None,
        why: str,
        *,
        acts: bool,
        force: bool,
        name: str = "",
        group: str = "default",
    ) -> Experiment:
        override(Guardrails(), guardrails or {})  # says what is wrong with them
        number = arms[-1].reference.version if arms else 0
        experiment = Experiment(
            name=name or f"{kind}-{number}",
            kind=kind,  # type: ignore[arg-type]  # of the methods above
            arms=tuple(arms),
            salt="",
            ramp=ramp,
            group=group,
            acts=acts,
            guardrails=dict(guardrails or {}),
        )
        check(self._store.resolve(experiment.candidate.reference), force=force)
        return self._ledger.start(experiment, by=self._by, why=why, force=force)


def described(store: Store, application: str, now: float, numbers: Mapping[str, Any]) -> Traffic:
    """What runs, as the journal says, with what is known of it.

    Args:
        numbers: of the desk.
    """
    traffic = TrafficLedger(store, application).now()
    known: Mapping[str, Any] = numbers.get("experiments", {})
    experiments: list[ExperimentNow] = []
    for one in traffic.running:
        experiment, part = one.experiment, one.part(now)
        arms: list[ArmNow] = [
            {
                "name": arm.name,
                "version": arm.reference.version,
                "digest": arm.reference.digest,
                "share": round(arm.share * part, 6),
                "share_at_the_end": arm.share,
            }
            for arm in experiment.arms
        ]
        experiments.append(
            {
                "name": experiment.name,
                "kind": experiment.kind,
                "group": experiment.group,
                "arms": arms,
                "paused": one.paused is not None,
                "running_s": round(one.ran_s(now), 1),
                "ramped": one.has_ramped(now),
                "acts": experiment.acts,
                "by": one.by,
                "guardrails": {**vars(override(Guardrails(), experiment.guardrails))},
                "numbers": known.get(experiment.name, {}).get("numbers"),
                "verdicts": known.get(experiment.name, {}).get("verdicts", {}),
            }
        )
    return {
        "application": application,
        "experiments": experiments,
        "refused": [{"digest": digest, "why": why} for digest, why in traffic.refused.items()],
        "outcomes": numbers.get("outcomes", {}),
        "dropped": numbers.get("dropped", 0),
        "problem": numbers.get("problem"),
    }
