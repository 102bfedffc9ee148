"""What people do with live traffic, by command line and over HTTP: each is one entry of the journal."""

from collections.abc import Mapping, Sequence

from recray.bundles.promotion import check, promote
from recray.config import ConfigError
from recray.serve.traffic.guardrails import guardrails_of
from recray.serve.traffic.ramp import CANARY_RAMP, Ramp
from recray.store import Reference, Store
from recray.store.experiments import AT_ONCE, Arm, Experiment, Kind, RampStep
from recray.store.journal import TurnAction
from recray.store.ledger import TrafficLedger
from recray.store.names import PRODUCTION


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
        guardrails: Mapping[str, float | None] | None = None,
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
        guardrails: Mapping[str, float | None] | None = None,
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

    def turn(self, action: TurnAction, name: str, *, why: str = "") -> None:
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
        kind: Kind,
        arms: Sequence[Arm],
        ramp: tuple[RampStep, ...],
        guardrails: Mapping[str, float | None] | None,
        why: str,
        *,
        acts: bool,
        force: bool,
        name: str = "",
        group: str = "default",
    ) -> Experiment:
        guardrails_of(guardrails or {})  # says what is wrong with them
        number = arms[-1].reference.version if arms else 0
        experiment = Experiment(
            name=name or f"{kind}-{number}",
            kind=kind,
            arms=tuple(arms),
            salt="",
            ramp=ramp,
            group=group,
            acts=acts,
            guardrails=dict(guardrails or {}),
        )
        check(self._store, self._store.resolve(experiment.candidate.reference), force=force)
        return self._ledger.start(experiment, by=self._by, why=why, force=force)
