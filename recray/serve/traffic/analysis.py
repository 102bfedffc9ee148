"""One desk for all replicas: takes in what they noted, judges what runs, and does what follows from it."""

import contextlib
import json
import logging
import threading
import time
from typing import Any

from recray.event_log.records import Event
from recray.folders import write_whole
from recray.serve.traffic.cases import Case, open_case
from recray.serve.traffic.claims import Claims
from recray.serve.traffic.exposures import ArmAnswer, Batch, Noted
from recray.serve.traffic.judge import Verdict
from recray.store import Store, StoreError
from recray.store.experiments import Experiment, Running
from recray.store.ledger import TrafficLedger

log = logging.getLogger(__name__)

BY = "guardrails"
LOOK_EVERY_S = 1.0
SAVE_EVERY_S = 10.0
SETTLES_S = 2.0  # what happened so long ago has been reported by every replica
MOST_REPORTERS = 10_000  # that are remembered: each start of a replica is a new one
FOLDER = "evidence"


class Analysis:
    """Experiments of one application. Evidence outlives the process: it lies beside the journal."""

    def __init__(self, store: Store, application: str) -> None:
        self._store, self._application = store, application
        self._ledger = TrafficLedger(store, application)
        self._folder = store.root / application / FOLDER
        self._cases: dict[str, Case] = {}  # by salt
        self._running: tuple[Running, ...] = ()
        self._verdicts: dict[str, dict[str, Verdict]] = {}
        self._claims = Claims()
        self._dropped, self._has_looked = 0, False
        self._taken: dict[str, int] = {}  # the number of the last batch, by reporter
        self.problem: str | None = None
        self._saved = time.monotonic()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="judge-traffic", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def take(self, batch: Batch) -> None:
        with self._lock:
            if batch.number <= self._taken.pop(batch.reporter, 0):
                self._taken[batch.reporter] = batch.number
                return
            self._taken[batch.reporter] = batch.number  # the last one to report is the last one here
            if len(self._taken) > MOST_REPORTERS:
                del self._taken[next(iter(self._taken))]
            self._dropped += batch.dropped
            for one in batch.noted:
                try:
                    self._take(one)
                except Exception:  # of one: a batch that came half would come again as a whole
                    self._dropped += 1
                    log.debug("taking %s", one, exc_info=True)
            for claim in self._claims.waited():
                if case := self._cases.get(claim.exposure.experiment):
                    case.happened(claim)

    def _take(self, one: Noted) -> None:
        if isinstance(one, Event):
            claim = self._claims.claim(one)
            if claim and (case := self._cases.get(claim.exposure.experiment)):
                case.happened(claim)
            return
        case = self._cases.get(one.experiment) or self._opened(one.experiment)
        if case is None:  # it has ended
            return
        if isinstance(one, ArmAnswer):
            self._claims.shown(one)
            case.exposed(one)
        else:
            case.shadowed(one)

    def _opened(self, salt: str) -> Case | None:
        """Of an experiment that began a moment ago."""
        self._look_at_journal()
        return self._cases.get(salt)

    def _look_at_journal(self) -> None:
        self._running = self._ledger.now().running
        salts = {one.experiment.salt for one in self._running}
        self._cases = {salt: case for salt, case in self._cases.items() if salt in salts}
        for one in self._running:
            if one.experiment.salt not in self._cases:
                self._cases[one.experiment.salt] = self._open(one.experiment)
        self._has_looked = True

    def _open(self, experiment: Experiment) -> Case:
        """With what was written down of it; what is damaged of that is set aside, and it begins anew.

        Raises:
            StoreError: it cannot be read just now: it may be whole.
        """
        try:
            return open_case(experiment, self._read(experiment.salt))
        except OSError as error:
            raise StoreError(f"what is known of {experiment.name} cannot be read: {error}") from None
        except Exception as error:  # whatever the file holds, the other experiments must go on
            path = self._folder / f"{experiment.salt}.json"
            log.error("what is known of %s is damaged and set aside: %s", experiment.name, error)
            with contextlib.suppress(OSError):
                path.rename(path.with_suffix(".damaged"))
            return open_case(experiment)

    def _read(self, salt: str) -> dict[str, Any] | None:
        try:
            told: dict[str, Any] = json.loads((self._folder / f"{salt}.json").read_bytes())
        except FileNotFoundError:
            return None
        return told

    def look(self, now: float | None = None) -> None:
        """Judges what runs, and acts. Never raises.

        Args:
            now: unix seconds; None: those of the clock.
        """
        try:
            self.judge(time.time() if now is None else now)
            if time.monotonic() - self._saved > SAVE_EVERY_S:
                self.save()
            problems = [self._attempt(one) for one in self._running]
            self.problem = next((problem for problem in problems if problem), None)
        except (
            Exception
        ) as error:  # of the store, or of evidence that is damaged: the next look may see it whole
            problem = f"experiments are not judged: {type(error).__name__}: {error}"[:1000]
            if problem != self.problem:
                log.error("%s", problem)
                log.debug("looking at experiments", exc_info=True)
            self.problem = problem

    def judge(self, now: float) -> None:
        """Says what follows from what is known, and does nothing.

        Raises:
            StoreError, ValueError: the journal, or what was written down of an experiment, is damaged.
        """
        with self._lock:
            self._look_at_journal()
            self._verdicts = {
                one.experiment.salt: self._judged(one, now) for one in self._running if not one.paused
            }

    def _judged(self, one: Running, now: float) -> dict[str, Verdict]:
        case = self._cases[one.experiment.salt]
        return case.verdicts(now - SETTLES_S, ramped=one.has_ramped(now))

    def _attempt(self, one: Running) -> str | None:
        """Acts; why that cannot be done does not keep the others from it."""
        try:
            self._act(one, self._verdicts.get(one.experiment.salt, {}))
        except Exception as error:
            problem = f"the verdict on {one.experiment.name} cannot be carried out: {error}"[:1000]
            log.error("%s", problem)
            return problem
        return None

    def _act(self, one: Running, verdicts: dict[str, Verdict]) -> None:
        """Of one candidate: which of several is to be promoted is for people to say."""
        experiment = one.experiment
        verdict = verdicts.get(experiment.candidate.name)
        if verdict is None or not experiment.acts or verdict.action == "hold":
            return
        still = self._ledger.now().find(experiment.name)
        if still is None or still.experiment.salt != experiment.salt or still.paused is not None:
            return  # somebody, or the verdict before, was faster
        if verdict.action == "roll back":
            self._ledger.turn("refuse", experiment.name, by=BY, why=verdict.reason)
            log.warning("%s is rolled back: %s", experiment.candidate.reference, verdict.reason)
        elif verdict.action == "promote":
            version = experiment.candidate.reference.version
            self._store.promote(self._application, version, by=BY, why=verdict.reason)
            log.warning("%s is promoted: %s", experiment.candidate.reference, verdict.reason)

    def save(self) -> None:
        """Writes down what is known, each experiment in one step; what ended stands in the journal alone."""
        with self._lock:
            told = {salt: json.dumps(case.to_json()).encode() for salt, case in self._cases.items()}
        self._folder.mkdir(exist_ok=True)
        for salt, content in told.items():
            write_whole(self._folder / f"{salt}.json", content)
        running = {one.experiment.salt for one in self._running}
        for path in self._folder.glob("*.json") if self._has_looked else ():
            if path.stem not in running:
                path.unlink(missing_ok=True)
        self._saved = time.monotonic()

    def numbers(self) -> dict[str, Any]:
        """What is known, as JSON has it."""
        now = time.time()
        with self._lock:
            known = {
                one.experiment.name: {
                    "numbers": case.numbers(now - SETTLES_S),
                    "verdicts": {
                        arm: {"action": verdict.action, "reason": verdict.reason}
                        for arm, verdict in self._verdicts.get(one.experiment.salt, {}).items()
                    },
                }
                for one in self._running
                if (case := self._cases.get(one.experiment.salt))
            }
            outcomes = dict(self._claims.counts)
        return {"experiments": known, "outcomes": outcomes, "dropped": self._dropped, "problem": self.problem}

    def _look_on(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            self.look()
        self.save()
