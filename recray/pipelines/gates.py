"""What stops a retraining: labels that are not what they were, a model that is worse than the one served."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np

from recray.config import ConfigError
from recray.data.logged.log_report import LogReport
from recray.eval.bootstrap import Interval, intervals
from recray.eval.evaluate import Evaluation
from recray.eval.metrics import LISTED
from recray.pipelines.exposed import ByExposure
from recray.pipelines.off_policy import CANNOT, Judged
from recray.pipelines.same_queries import paired_differences
from recray.schema import DataError

STANDARD_ERRORS = 2.0


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """How far things may move before a person has to look."""

    least_lists: int = 50
    """Lists with an outcome; fewer say nothing."""
    untrusted: float = 0.2
    """Share of events that are forged, late or replayed."""
    click_ratio: float = 2.0
    """So many times more, or fewer, items may be clicked than in the data before."""
    order_loss: float = 0.05
    """How much less often, beyond chance, an item that is clicked may stand above one that is not."""
    least_order: float = 0.5
    """In a first round, which has no past: how often, beyond chance, an item that is clicked must stand above
    one that is not. Clicks that were mixed up do in half of the pairs; so do honest ones where lists are
    shown in no order at all: 0 does not ask."""
    least_agreement: float = 0.01
    """How far from half must be how often, of two items at one rank, the one that is clicked had the higher
    score: clicks dealt to other lists at their ranks do in half of the pairs. Where the log is too small to
    be sure (some thousand lists), it passes; where scores say nothing, 0 does not ask."""
    by: Literal["queries", "lists"] = "queries"
    """What the new version is compared with production by. queries: the newest clicks, which speak for the
    version that chose what was shown, so that some better ones are held back. lists: those that were drawn,
    item by item, which let some worse ones through: a canary then has the last word (docs/loop.md)."""
    metric: str = "ndcg@10"
    """By which queries are answered better or worse."""
    tolerance: float = 0.05
    """Share of production's value that the new version may lack; more stops it where it is beyond chance."""

    def __post_init__(self) -> None:
        name, _, k = self.metric.partition("@")
        if name not in LISTED or not k.isdecimal():
            raise ConfigError(f"gates.metric must be one such as ndcg@10, got {self.metric!r}")
        if self.click_ratio < 1:
            raise ConfigError(f"gates.click_ratio must be at least 1, got {self.click_ratio}")
        for name in ("untrusted", "order_loss", "least_order", "least_agreement", "tolerance"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"gates.{name} must be from 0 to 1, got {getattr(self, name)}")


class GateResult(NamedTuple):
    name: str
    passed: bool
    text: str


def enough(now: LogReport, config: GateConfig) -> GateResult:
    """Whether the data says anything at all."""
    text = f"{now.answered_lists} lists with an outcome, {config.least_lists} needed"
    return GateResult("lists", now.answered_lists >= config.least_lists, text)


def label_gates(now: LogReport, before: LogReport | None, config: GateConfig) -> list[GateResult]:
    """
    Args:
        before: of the data that production was trained on; None: it was not made of a log, and what needs a
            past is not asked, but that what is clicked stands above what is not.
    """
    bad = sum(now.marks[mark] for mark in ("forged", "late", "replayed"))
    untrusted = bad / max(sum(now.marks.values()), 1)
    found = [
        GateResult(
            "marks", untrusted <= config.untrusted, f"{untrusted:.1%} of the events cannot be trusted"
        ),
        _each_day(now, before, config),
        _agreeing(now, config),
    ]
    if before is None:
        return [*found, _in_order(now, config)]
    ratio = now.clicked / before.clicked if before.clicked else math.inf
    lost, error = before.order - now.order, math.hypot(before.order_error, now.order_error)
    return [
        *found,
        GateResult(
            "clicks",
            1 / config.click_ratio <= ratio <= config.click_ratio,
            f"{now.clicked:.2%} of the items were clicked, {before.clicked:.2%} before",
        ),
        GateResult(
            "order",
            lost <= config.order_loss + STANDARD_ERRORS * error,
            f"what was clicked stood above what was not in {now.order:.1%} of pairs, "
            f"{before.order:.1%} before",
        ),
    ]


def _in_order(now: LogReport, config: GateConfig) -> GateResult:
    """Of a log without a past: what people look at first they click more, unless labels are mixed up."""
    if now.order_error >= 0.5:
        return GateResult("order", True, "no two lists had items that were clicked and others: none compared")
    surely = now.order - STANDARD_ERRORS * now.order_error
    passed = surely > config.least_order or not config.least_order
    text = (
        f"what was clicked stood above what was not in {now.order:.1%} of pairs, surely in "
        f"{max(surely, 0.0):.1%}: more than {config.least_order:.0%} is due"
    )
    way_out = "labels are mixed up, lists have no order, or the log is too small to tell"
    return GateResult(
        "order", passed, text if passed else f"{text} ({way_out}; --gates.least-order 0 goes on without)"
    )


def _agreeing(now: LogReport, config: GateConfig) -> GateResult:
    """What a rank does not explain goes with scores, either way, unless clicks are of other lists."""
    at_most = abs(now.agreement - 0.5) + STANDARD_ERRORS * now.agreement_error
    passed = at_most >= config.least_agreement
    text = f"of two items at one rank the one that was clicked had the higher score in {now.agreement:.1%}"
    way_out = (
        f"surely within {at_most:.1%} of half: clicks belong to other lists, or scores say nothing; "
        "--gates.least-agreement 0 goes on without"
    )
    return GateResult("scores", passed, text if passed else f"{text} ({way_out})")


def _each_day(now: LogReport, before: LogReport | None, config: GateConfig) -> GateResult:
    """A day that was mislabelled among others that were not: each beside the data before, else beside the
    median day. However many days there are, about one round in forty is stopped by chance."""
    by_day = [order for order, _ in now.order_by_day.values()]
    usual = before.order if before else float(np.median(by_day or [now.order]))
    usual_error = before.order_error if before else 0.0
    errors = NormalDist().inv_cdf(1 - 0.025 / max(len(by_day), 1))
    wrong = [
        f"{day} in {order:.1%}"
        for day, (order, error) in now.order_by_day.items()
        if usual - order > config.order_loss + errors * math.hypot(error, usual_error)
    ]
    stood = f"what was clicked stood above what was not in {usual:.1%} of pairs"
    return GateResult("days", not wrong, f"{stood}, {', '.join(wrong) or 'on no day much less often'}")


def metric_gate(production: Evaluation, candidate: Evaluation, config: GateConfig) -> GateResult:
    """Both of ``ask_the_same``. What chance explains, by the paired interval, is left to the canary."""
    gain_U = paired_differences(production, candidate, config.metric)
    [difference] = intervals(gain_U[:, None])
    was, now = (float(np.mean(one.per_query[config.metric])) for one in (production, candidate))
    return GateResult(
        config.metric,
        not _is_worse(was, difference, config),
        f"{now:.4f}, production {was:.4f} on the same {len(gain_U)} queries "
        f"(difference {now - was:+.4f}, 95 % from {difference.low:+.4f} to {difference.high:+.4f})",
    )


def exposure_gate(found: ByExposure, config: GateConfig) -> GateResult:
    """As ``metric_gate``, by lists that were drawn."""
    served, other, gain, effective = found.earned
    return GateResult(
        "drawn lists",
        not _is_worse(served, gain, config),
        f"{other.mean:.4f} outcomes a list, production {served:.4f} in the same {found.lists} "
        f"(difference {gain.mean:+.4f}, 95 % from {gain.low:+.4f} to {gain.high:+.4f}; they say as much as "
        f"{effective:.0f} of its own)",
    )


def _is_worse(production: float, difference: Interval, config: GateConfig) -> bool:
    """By more than the tolerance, and beyond chance."""
    return difference.mean < -config.tolerance * production and difference.high < 0


def log_gate(judged: Sequence[Judged], config: GateConfig) -> GateResult:
    """As ``metric_gate``, at every length of which the log can tell.

    Of what the log cannot tell, the canary will.
    """
    told = [(one.depth, *one.both) for one in judged if one.both]
    worse = [one for one in told if _is_worse(one[1].reward.mean, one[3], config)]
    if not told:
        return GateResult("log", True, f"{CANNOT}: {judged[0].why_not}" if judged else CANNOT)
    depth, production, candidate, gain = (worse or told)[-1]
    return GateResult(
        "log",
        not worse,
        f"{candidate.reward.mean:.4f} outcomes in the first {depth} of a list, production "
        f"{production.reward.mean:.4f} by the same {candidate.lists} lists (difference {gain.mean:+.4f}, "
        f"95 % from {gain.low:+.4f} to {gain.high:+.4f})",
    )


def require(gates: Sequence[GateResult]) -> str:
    """All of them in words.

    Raises:
        DataError: one did not pass; says those that did not.
    """
    if failed := [f"{gate.name}: {gate.text}" for gate in gates if not gate.passed]:
        raise DataError("; ".join(failed))
    return "; ".join(f"{gate.name}: {gate.text}" for gate in gates)
