"""The one way in which live traffic changes: an entry in the journal of its application."""

import secrets
from dataclasses import replace

from recray.config import nearest
from recray.store.experiments import Experiment, Kind, Traffic
from recray.store.journal import Entry, Started, Turn, TurnAction, now, whoever
from recray.store.manifest import Reference, StoreError
from recray.store.names import PRODUCTION, stacks
from recray.store.store import Store
from recray.store.traffic import refused, room_for, traffic_of

AGAINST_PRODUCTION: tuple[Kind, ...] = ("canary", "interleaving")


class TrafficLedger:
    """Changes of one application's traffic. Each is one entry: made whole, or not at all."""

    def __init__(self, store: Store, application: str) -> None:
        self._store, self._application = store, application

    def now(self) -> Traffic:
        """
        Raises:
            DamagedError: the journal cannot be read.
        """
        return traffic_of(self._store.journal(self._application))

    def start(
        self, experiment: Experiment, *, by: str = "", why: str = "", force: bool = False
    ) -> Experiment:
        """Begins an experiment, its versions read in full before; returns it with a salt of its own.

        Args:
            force: also where a version was rolled back before.
        Raises:
            StoreError: it runs already, there are no users left for it in its group, or a version is
                damaged or was rolled back, or production is no longer what it is to be compared with.
        """
        experiment = replace(experiment, salt=experiment.salt or secrets.token_hex(8))
        for arm in experiment.arms:
            self._require_whole(arm.reference)

        def entry(entries: list[Entry]) -> list[Entry]:
            traffic = traffic_of(entries)
            if traffic.find(experiment.name):
                raise StoreError(f"experiment {experiment.name!r} runs already: stop it first")
            _require_production(experiment, entries)
            for arm in experiment.arms if experiment.is_shown and not force else ():
                if why_not := traffic.refused.get(arm.reference.digest):
                    raise refused(arm.reference, why_not)
            try:
                room_for(experiment, traffic.running)
            except ValueError as error:
                raise StoreError(f"{error}: stop one of them, or ask fewer users") from None
            return [Started(experiment=experiment, at=now(), by=by or whoever(), why=why)]

        self._store.change(self._application, entry)
        return experiment

    def turn(self, action: TurnAction, name: str, *, by: str = "", why: str = "") -> None:
        """Pauses, resumes, stops an experiment, or refuses its last arm for good.

        Raises:
            StoreError: no such experiment runs, or it is (not) paused already.
        """

        def entry(entries: list[Entry]) -> list[Entry]:
            traffic = traffic_of(entries)
            one = traffic.find(name)
            if one is None:
                names = [other.experiment.name for other in traffic.running]
                raise StoreError(f"no experiment {name!r} runs{nearest(name, names) if names else ''}")
            if action in ("pause", "resume") and (one.paused is None) == (action == "resume"):
                raise StoreError(
                    f"experiment {name!r} {'runs' if action == 'resume' else 'is paused already'}"
                )
            return [Turn(experiment=name, action=action, at=now(), by=by or whoever(), why=why)]

        self._store.change(self._application, entry)

    def _require_whole(self, reference: Reference) -> None:
        bundle = self._store.resolve(reference)
        for needed in (bundle, *map(self._store.resolve, bundle.manifest.requires.values())):
            needed.verify()


def _require_production(experiment: Experiment, entries: list[Entry]) -> None:
    """Production may have moved since somebody looked at it to make the first arm."""
    if experiment.kind not in AGAINST_PRODUCTION:
        return
    compared, stack = experiment.arms[0].reference, stacks(entries).get(PRODUCTION)
    if not stack or (stack[-1].version, stack[-1].digest or compared.digest) != (
        compared.version,
        compared.digest,
    ):
        at = f"version {stack[-1].version}" if stack else "nothing"
        raise StoreError(f"{compared} is to be compared with, but production is {at} now: begin again")
