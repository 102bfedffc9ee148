"""What is known of one running experiment, by its kind."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

from cachetools import TTLCache

from recray.monitor.quantiles import LogHistogram
from recray.monitor.sequential import Preference
from recray.serve.traffic.claims import MOST_REMEMBERED, REMEMBERED_S, Claim
from recray.serve.traffic.exposures import ArmAnswer, LeftOut, Shadowed
from recray.serve.traffic.guardrails import guardrails_of
from recray.serve.traffic.judge import Judge, Verdict
from recray.store.experiments import Experiment


class Case(Protocol):
    """Belongs to one thread."""

    def exposed(self, exposure: ArmAnswer) -> None: ...

    def happened(self, claim: Claim) -> None: ...

    def shadowed(self, one: Shadowed | LeftOut) -> None: ...

    def verdicts(self, now: float, *, ramped: bool) -> dict[str, Verdict]:
        """By arm."""

    def numbers(self, now: float) -> dict[str, Any]: ...

    def to_json(self) -> dict[str, Any]: ...


class ComparedCase:
    """Users of arms: a canary, or versions against each other."""

    def __init__(self, experiment: Experiment, told: Mapping[str, Any] | None = None) -> None:
        rails = guardrails_of(experiment.guardrails)
        shares = {arm.name: arm.share for arm in experiment.arms}
        self._judge = Judge.from_json(told) if told else Judge(shares, rails)
        self._candidates = [arm.name for arm in experiment.arms[1:]]
        self._successes = rails.outcomes
        self._clicked: TTLCache[str, None] = TTLCache(MOST_REMEMBERED, REMEMBERED_S)  # answers, by request id

    def exposed(self, exposure: ArmAnswer) -> None:
        self._judge.exposed(
            exposure.arm,
            exposure.user,
            exposure.at,
            exposure.took_ms,
            failed=exposure.failed,
            empty=exposure.empty,
            fell_back=exposure.fell_back,
        )

    def happened(self, claim: Claim) -> None:
        """However much of an answer is clicked, it is one answer that was."""
        exposure, outcome = claim
        again = exposure.request_id in self._clicked
        if outcome.kind in self._successes:
            self._clicked[exposure.request_id] = None
        self._judge.outcome(exposure.user, outcome.kind, outcome.at, again=again)

    def shadowed(self, one: Shadowed | LeftOut) -> None:
        """Nobody shadows it."""

    def verdicts(self, now: float, *, ramped: bool) -> dict[str, Verdict]:
        return {arm: self._judge.verdict(now, arm=arm, ramped=ramped) for arm in self._candidates}

    def numbers(self, now: float) -> dict[str, Any]:
        return self._judge.numbers(now)

    def to_json(self) -> dict[str, Any]:
        return self._judge.to_json()


class InterleavedCase:
    """Lists that two arms draw from in turns: whose items are clicked more, list by list.

    A list is counted when clicks on it may no longer come, ``window_s`` after it was shown.
    """

    def __init__(self, experiment: Experiment, told: Mapping[str, Any] | None = None) -> None:
        told = told or {}
        self._rails = guardrails_of(experiment.guardrails)
        self._names = tuple(arm.name for arm in experiment.arms)
        self._counts = Counter[str](told.get("counts", {}))
        self._settled: TTLCache[str, None] = TTLCache(MOST_REMEMBERED, REMEMBERED_S)  # lists, by request id
        self._clicked: TTLCache[tuple[str, str], None] = TTLCache(MOST_REMEMBERED, REMEMBERED_S)  # and item
        self._preference = Preference.from_json(told["preference"]) if told else Preference()
        self._open: dict[str, tuple[float, int, int]] = {
            request: (closes_at, candidate, baseline)
            for request, closes_at, candidate, baseline in told.get("open", ())
        }

    def exposed(self, exposure: ArmAnswer) -> None:
        self._counts["requests"] += 1
        self._counts["failed"] += exposure.failed
        self._counts["empty"] += exposure.empty

    def happened(self, claim: Claim) -> None:
        """An item that was clicked and then bought is one that was, as in ``interleaving.credit``."""
        (exposure, outcome), rails = claim, self._rails
        closes_at = exposure.at + rails.window_s
        if outcome.kind not in rails.outcomes or not exposure.teams or outcome.at > closes_at:
            return
        item = exposure.request_id, outcome.item_id
        if exposure.request_id in self._settled or item in self._clicked:
            return
        self._clicked[item] = None
        team = exposure.teams[exposure.items.index(outcome.item_id)]
        _, candidate, baseline = self._open.get(exposure.request_id, (0.0, 0, 0))
        self._open[exposure.request_id] = (
            closes_at,
            candidate + (team == self._names[1]),
            baseline + (team == self._names[0]),
        )

    def shadowed(self, one: Shadowed | LeftOut) -> None:
        """Nobody shadows it."""

    def verdicts(self, now: float, *, ramped: bool) -> dict[str, Verdict]:
        self._settle(now)
        lower, upper = self._preference.bounds(self._rails.alpha)
        first, name = self._names
        if lower > 0.5:
            said = f"Users prefer {name}: of the lists that have a winner it wins at least {lower:.1%}."
            return {name: Verdict("promote", said, [])}
        if upper < 0.5:
            said = f"Users prefer {first}: of the lists that have a winner {name} wins at most {upper:.1%}."
            return {name: Verdict("roll back", said, [])}
        said = f"No preference yet: {self._preference.lists:,} lists have a winner."
        return {name: Verdict("hold", said, [])}

    def _settle(self, now: float) -> None:
        for request in [one for one, (closes_at, *_) in self._open.items() if closes_at <= now]:
            _, candidate, baseline = self._open.pop(request)
            self._settled[request] = None
            self._preference.add(candidate, baseline)

    def numbers(self, now: float) -> dict[str, Any]:
        self._settle(now)
        bounds = self._preference.bounds(self._rails.alpha)
        return {**self._counts, "lists_with_a_winner": self._preference.lists, "candidate_wins": list(bounds)}

    def to_json(self) -> dict[str, Any]:
        return {
            "counts": dict(self._counts),
            "preference": self._preference.to_json(),
            "open": [[request, *state] for request, state in self._open.items()],
        }


class ShadowCase:
    """How a version that is not shown agrees with the one that is."""

    def __init__(self, experiment: Experiment, told: Mapping[str, Any] | None = None) -> None:
        told = told or {}
        self._counts = Counter[str](told.get("counts", {}))
        self._sums: dict[str, float] = {"overlap": 0.0, "correlation": 0.0, **told.get("sums", {})}
        self._took = {
            name: LogHistogram.from_json(told[name]) if name in told else LogHistogram()
            for name in ("took_ms", "shown_ms")
        }

    def exposed(self, exposure: ArmAnswer) -> None:
        """Nobody sees it."""

    def happened(self, claim: Claim) -> None:
        """Nobody sees it."""

    def shadowed(self, one: Shadowed | LeftOut) -> None:
        if isinstance(one, LeftOut):
            self._counts["left_out"] += 1
            return
        self._counts["asked"] += 1
        if one.failed:
            self._counts["failed"] += 1
            return
        self._sums["overlap"] += one.overlap
        self._took["took_ms"].add(one.took_ms)
        self._took["shown_ms"].add(one.shown_ms)
        if not math.isnan(one.correlation):
            self._counts["correlated"] += 1
            self._sums["correlation"] += one.correlation

    def verdicts(self, now: float, *, ramped: bool) -> dict[str, Verdict]:
        return {}

    def numbers(self, now: float) -> dict[str, Any]:
        counts, answered = self._counts, self._counts["asked"] - self._counts["failed"]
        correlated = counts["correlated"]
        return {
            "asked": counts["asked"],
            "failed": counts["failed"],
            "left_out": counts["left_out"],
            "overlap": self._sums["overlap"] / answered if answered else None,
            "rank_correlation": self._sums["correlation"] / correlated if correlated else None,
            **{f"p95_{name}": took.quantile(0.95) for name, took in self._took.items()},
        }

    def to_json(self) -> dict[str, Any]:
        took = {name: histogram.to_json() for name, histogram in self._took.items()}
        return {"counts": dict(self._counts), "sums": self._sums, **took}


def open_case(experiment: Experiment, told: Mapping[str, Any] | None = None) -> Case:
    """
    Args:
        told: what ``to_json`` said of the same experiment before.
    Raises:
        ConfigError: a guardrail of its own is none, or cannot have that value.
    """
    if experiment.kind == "interleaving":
        return InterleavedCase(experiment, told)
    return ShadowCase(experiment, told) if experiment.kind == "shadow" else ComparedCase(experiment, told)
