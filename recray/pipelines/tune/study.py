"""Who proposes: Optuna's samplers over a study that is rebuilt from records, never from a pickle.

A proposal is a function of the seed, its number and the trials that are known: a search that was cut off
does not propose again what it had proposed before.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from recray.launch.tune_domains import Choice, Range, label
from recray.pipelines.tune.records import TrialRecord
from recray.pipelines.tune.spaces import Goal, Method

DRAWN = 5  # trials before TPE takes over: a search of a recommender has tens of them, not hundreds

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Study:
    """What was tried and what came of it, to be asked what to try next."""

    def __init__(self, ranges: Mapping[str, Range], goal: Goal, method: Method, seed: int) -> None:
        self.ranges, self.method, self.seed = ranges, method, seed
        self.distributions = {path: _distribution(found) for path, found in ranges.items()}
        self.study = optuna.create_study(direction="maximize" if goal.mode == "max" else "minimize")
        self._asked: dict[int, Trial] = {}

    def ask(self, number: int) -> dict[str, Any]:
        """Values for the domains."""
        self.study.sampler = self._sampler(number)
        asked = self._asked[number] = self.study.ask(self.distributions)
        return {path: self._value(path, found) for path, found in asked.params.items()}

    def tell(self, record: TrialRecord) -> bool:
        """Takes in how a trial ended; whether it could be: what lies outside the space teaches nothing."""
        frozen = self.frozen(record)
        asked = self._asked.pop(record.number, None)
        if asked is not None:
            state = frozen.state if frozen else TrialState.FAIL
            # Optuna takes no value of what failed.
            self.study.tell(asked, record.score if state == TrialState.COMPLETE else None, state=state)
        elif frozen is not None:
            self.study.add_trial(frozen)
        return frozen is not None

    def frozen(self, record: TrialRecord) -> FrozenTrial | None:
        """A trial as Optuna keeps it; None where its changes lie outside the space."""
        params = {path: label(record.changes.get(path)) for path in self.ranges}
        if not all(self._contains(path, value) for path, value in params.items()):
            return None
        failed = record.score is None or not math.isfinite(record.score)
        return create_trial(
            params=params,
            distributions=self.distributions,
            value=None if failed else record.score,
            state=TrialState.FAIL if failed else TrialState.COMPLETE,
            intermediate_values={int(float(e)): value for e, value in record.scores.items()},
        )

    def importances(self) -> dict[str, float]:
        """Share of the scores' spread that each path explains (fANOVA), largest first; none where the trials
        are too few or all alike to tell."""
        ended = [t for t in self.study.trials if t.state == TrialState.COMPLETE]
        if len(ended) < 4 or len({t.value for t in ended}) < 2:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self.seed)
        found = optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        return {path: float(share) for path, share in found.items() if math.isfinite(share)}

    def _sampler(self, number: int) -> BaseSampler:
        # A new one for each trial: a sampler's generator would start over after a restart.
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        if self.method != "tpe":
            return RandomSampler(seed=seed)
        return TPESampler(seed=seed, n_startup_trials=DRAWN, multivariate=True, constant_liar=True)

    def _contains(self, path: str, value: object) -> bool:
        distribution = self.distributions[path]
        if isinstance(distribution, CategoricalDistribution):
            return value in distribution.choices
        return isinstance(value, int | float) and distribution._contains(value)

    def _value(self, path: str, found: object) -> object:
        domain = self.ranges[path]
        if isinstance(domain, Choice):
            by_label = dict(zip(domain.labels(), domain.values, strict=True))
            return by_label[found]  # type: ignore[index]  # Optuna gives back one of the labels
        return found


def study_of(
    records: Iterable[TrialRecord], ranges: Mapping[str, Range], goal: Goal, method: Method, seed: int
) -> Study:
    """The study of trials that ended."""
    study = Study(ranges, goal, method, seed)
    for record in records:
        study.tell(record)
    return study


def _distribution(domain: Range) -> BaseDistribution:
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.labels())
    if domain.whole:
        step = 1 if domain.log else int(domain.step or 1)
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=step)
    return FloatDistribution(
        domain.low, domain.high, log=domain.log, step=None if domain.log else domain.step
    )
