"""Whether a candidate may go on: promote, hold or roll back, from what happened to its users.

**Why this is exact.** Users keep their arm, so chance enters once for each of them: when a user is first
seen, the arm is drawn by the shares that then hold, whatever else is known. So each user may speak once in
each check, and what is said must not depend on the arm but through what the arm does:

* *clicks*: a number from 0 to 1, the share of the answers in the user's first ``window_s`` seconds that were
  clicked, scored when that window has closed, in the order of first answers. Let G_u be all that belongs to
  the first u users. The shares that user u + 1 is drawn by are known from G_u; if the arms are equally good,
  the outcome is independent of the arm given G_u; so the e-process of ``RateRatio`` is a martingale in u. It
  does not matter how eager single users are, when in the window they click, or that they come back: that
  counts in one number of one user. Scored at the time of the click instead, an arm whose users take seconds
  longer would look worse.
* *p75, p95*: the same, with the share of those answers that were slower than the baseline's quantile. That is
  known before the user's first answer; the candidate's times are divided by ``slowdown`` before. Bursts meet
  users of both arms, and that times of one user, or one moment, are alike does not matter.
* *errors, empty, fallbacks*: the first failure of each kind that a user meets, at any time, scored at once:
  later faults are seen through all who have not met one yet. If a candidate never fails a user sooner than
  the baseline would have, E is at most what it is between equal arms, for E grows with the candidate's count
  and shrinks with the other; there it is a martingale in the order of those failures, given that shares do
  not move by the arms of single users (by the clock, or by verdicts, they may).
* *sample ratio*: each user once, against the shares that then held.

Ville's inequality bounds the chance that E ever is too great, so verdicts may be asked for at any time.
Counting a user's successes again in each window, as fresh draws, is not exact (``docs/LOG.md``). What this
costs: a candidate that turns worse in clicks or time only later is seen by users who are new then. A fault
that hits one arm's machine alone counts against that arm: it did happen there.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from recray.config import ConfigError, from_dict, nearest, to_dict
from recray.monitor.sequential import Bounds, SampleRatio
from recray.serve.traffic.enrolled import Enrolled, User, Window, key_of
from recray.serve.traffic.evidence import ArmCounts, Check, Evidence
from recray.serve.traffic.guardrails import FAILURES, QUANTILES, Guardrails
from recray.serve.traffic.sentences import mismatched, shown, still_missing, worse

Action = Literal["promote", "hold", "roll back"]
LEAST_TIMES = 100  # answers of the baseline before its quantiles are thresholds
NEVER_MS = 1e12  # a threshold until then; JSON has no infinity
RENEWAL = 1.05  # growth of their number after which the thresholds are read anew


class Verdict(NamedTuple):
    """What to do with a candidate, why, in one sentence, and every check."""

    action: Action
    reason: str
    checks: list[Check]
    final: bool = False  # nothing that is still to come will change it: to roll back, or a wrong sample ratio


class Judge:
    """One experiment. Arms are named by ``shares``, the first is the baseline, each other a candidate.

    Times are the caller's, in seconds. Where a clock goes back, or one of several is ahead, windows that
    began by it close within two ``window_s`` of the next verdict. Calls cost microseconds, a verdict some
    milliseconds. Belongs to one thread.

    Args:
        shares: of each arm: its share of the traffic; what they add up to does not matter. At least two.
        guardrails: what is not allowed.
    """

    def __init__(self, shares: Mapping[str, float], guardrails: Guardrails | None = None) -> None:
        if len(shares) < 2:
            raise ConfigError(f"an experiment has a baseline and a candidate, got {list(shares)}")
        self.guardrails = guardrails or Guardrails()
        self.arms = tuple(shares)
        self._shares: list[tuple[float, ...]] = []
        self._counts = [ArmCounts() for _ in self.arms]
        self._evidence = [Evidence() for _ in self.arms[1:]]
        self._sample_ratio = SampleRatio()
        self._users = Enrolled(self.guardrails.most_users)
        self._moved = 0  # requests of users in another arm than their first
        self._left_out = 0  # requests of users who are not enrolled
        self._slow_ms = [NEVER_MS] * len(QUANTILES)
        self._renew_at = LEAST_TIMES
        self._began: float | None = None
        self._ended: dict[str, tuple[Action, str]] = {}  # of each candidate: what has been decided for good
        self.ramp(shares)

    def ramp(self, shares: Mapping[str, float]) -> None:
        """Shares for users who are new from now on.

        Raises:
            ConfigError: other arms, or a share that is not above 0.
        """
        if tuple(shares) != self.arms:
            raise ConfigError(f"an experiment keeps its arms {list(self.arms)}, got shares of {list(shares)}")
        if not all(math.isfinite(share) and share > 0 for share in shares.values()):
            raise ConfigError(f"shares must be above 0, got {dict(shares)}")
        whole = sum(shares.values())
        self._shares.append(tuple(share / whole for share in shares.values()))

    def exposed(
        self,
        arm: str,
        user: str,
        at: float,
        took_ms: float,
        *,
        failed: bool = False,
        empty: bool = False,
        fell_back: bool = False,
    ) -> None:
        """One request, when it has been answered or has failed.

        Args:
            arm: which was to answer, by the user's assignment, not by who stood in.
            user: whom the arm was drawn for.
            at: seconds.
            took_ms: until the answer, also where it failed.

        Raises:
            ConfigError: there is no such arm.
        """
        place, met = self._place(arm), (failed, empty, fell_back)
        counts, slow_ms = self._counts[place], self._thresholds_ms()  # by the answers before this one
        counts.requests += 1
        counts.took_ms.add(took_ms)
        for name, happened in zip(FAILURES, met, strict=True):
            counts.failures[name] += happened
        key = key_of(user)
        known = self._users.get(key)
        if known is None:
            if self._users.full:
                self._left_out += 1
                return
            known = self._enrol(key, place, at, slow_ms)
            counts.first_ms.add(took_ms)
        elif known.arm != place:
            self._moved += 1
            return
        if window := self._users.window(key, at):
            window.answered(took_ms / self.guardrails.slowdown if place else took_ms)
        self._failed(key, known, met)

    def outcome(self, user: str, kind: str, at: float, *, again: bool = False) -> None:
        """A click or a purchase. It counts in the arm that the user was first seen in.

        Args:
            user: as in ``exposed``; whoever was never exposed counts for nothing.
            kind: ``Guardrails.outcomes`` says which are clicks.
            at: seconds; when it happened.
            again: of an answer that was clicked before: it is shown among the counts alone.
        """
        key = key_of(user)
        known = self._users.get(key)
        if known is None:
            return
        told = self._counts[known.arm].outcomes
        told[kind] = told.get(kind, 0) + 1
        window = self._users.window(key, at)
        if window and not again and kind in self.guardrails.outcomes:
            window.clicks += 1

    def verdict(self, now: float, *, arm: str | None = None, ramped: bool = True) -> Verdict:
        """What to do with a candidate now. To roll back is decided for good, and so is a wrong sample ratio.

        Args:
            now: seconds; windows that have closed until then are scored.
            arm: the candidate; the first one by default.
            ramped: whether it has its full share: only then it is promoted.

        Raises:
            ConfigError: no such candidate.
        """
        arm = self.arms[1] if arm is None else arm
        place = self._place(arm)
        if not place:
            raise ConfigError(f"{arm!r} is the baseline; candidates: {', '.join(self.arms[1:])}")
        self._settle(now)
        checks = self._checks(place)
        if arm not in self._ended and (ended := self._end(checks)):
            self._ended[arm] = ended
        if arm in self._ended:
            return Verdict(*self._ended[arm], checks, final=True)
        missing = self._missing(place, now, ramped)
        if missing:
            return Verdict("hold", f"Not enough yet: {'; '.join(missing)}.", checks)
        clicks = next(check for check in checks if check.name == "clicks")
        return Verdict("promote", shown(clicks, self._shown(place, "clicks").lower), checks)

    def numbers(self, now: float) -> dict[str, Any]:
        """All that is known, as JSON has it."""
        self._settle(now)
        log_e = self._sample_ratio.log_e()
        return {
            "arms": {name: self._arm_numbers(place) for place, name in enumerate(self.arms)},
            "checks": {
                name: [check.to_json() for check in self._checks(place)]
                for place, name in enumerate(self.arms)
                if place
            },
            "sample_ratio": {"log_e": log_e, "level": self._level, "crossed": log_e >= self._level},
            "age_s": 0.0 if self._began is None else max(0.0, now - self._began),
            "users": len(self._users),
            "requests_of_moved_users": self._moved,
            "requests_of_users_left_out": self._left_out,
            "decided": {arm: list(ended) for arm, ended in self._ended.items()},
        }

    def to_json(self) -> dict[str, Any]:
        """All evidence; ``from_json`` goes on as if nothing had happened."""
        return {
            "guardrails": to_dict(self.guardrails),
            "arms": list(self.arms),
            "shares": [list(shares) for shares in self._shares],
            "counts": [counts.to_json() for counts in self._counts],
            "evidence": [evidence.to_json() for evidence in self._evidence],
            "sample_ratio": self._sample_ratio.to_json(),
            "users": self._users.to_json(),
            "moved": self._moved,
            "left_out": self._left_out,
            "slow_ms": self._slow_ms,
            "renew_at": self._renew_at,
            "began": self._began,
            "ended": {arm: list(ended) for arm, ended in self._ended.items()},
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Judge":
        """The judge that ``to_json`` wrote."""
        rails = from_dict(Guardrails, told["guardrails"])
        judge = cls(dict(zip(told["arms"], told["shares"][0], strict=True)), rails)
        judge._shares = [tuple(shares) for shares in told["shares"]]
        judge._counts = [ArmCounts.from_json(each) for each in told["counts"]]
        judge._evidence = [Evidence.from_json(each) for each in told["evidence"]]
        judge._sample_ratio = SampleRatio.from_json(told["sample_ratio"])
        judge._users = Enrolled.from_json(told["users"], rails.most_users)
        judge._moved, judge._left_out = told["moved"], told["left_out"]
        judge._slow_ms, judge._renew_at = told["slow_ms"], told["renew_at"]
        judge._began = told["began"]
        judge._ended = {arm: (action, reason) for arm, (action, reason) in told["ended"].items()}
        return judge

    @property
    def _level(self) -> float:
        return self.guardrails.level(len(self.arms) - 1)

    def _place(self, arm: str) -> int:
        if arm not in self.arms:
            raise ConfigError(f"no arm {arm!r}{nearest(arm, self.arms)}")
        return self.arms.index(arm)

    def _enrol(self, key: int, place: int, at: float, slow_ms: list[float]) -> User:
        self._began = at if self._began is None else self._began
        user = User(place, len(self._shares) - 1, 0)
        self._users.set(key, user)
        self._users.open[key] = Window(at + self.guardrails.window_s, slow_ms)
        self._counts[place].users += 1
        self._sample_ratio.add(self._shares[-1], place)
        return user

    def _thresholds_ms(self) -> list[float]:
        """Quantiles of the baseline's answers so far, a little old; while these are few, none is slow."""
        times = self._counts[0].took_ms
        if times.total >= self._renew_at:
            self._slow_ms = [times.quantile(q) or NEVER_MS for q in QUANTILES.values()]
            self._renew_at = math.ceil(times.total * RENEWAL)
        return self._slow_ms

    def _failed(self, key: int, user: User, met: Sequence[bool]) -> None:
        for bit, (name, happened) in enumerate(zip(FAILURES, met, strict=True)):
            if happened and not user.failures >> bit & 1:
                user = user._replace(failures=user.failures | 1 << bit)
                self._users.set(key, user)
                self._score(user, name, 1.0)

    def _settle(self, now: float) -> None:
        if self._began is not None:
            self._began = min(self._began, now)  # the clock may have been set back
        for user, window in self._users.closed(now, self.guardrails.window_s):
            parts = window.parts()
            self._counts[user.arm].closed += 1
            self._counts[user.arm].clicked += parts["clicks"]
            for name, part in parts.items():
                self._score(user, name, part)

    def _score(self, user: User, check: str, part: float) -> None:
        """A candidate's user counts in its own comparison, the baseline's in all."""
        shares = self._shares[user.shares]
        for each in [user.arm] if user.arm else range(1, len(self.arms)):
            share = shares[each] / (shares[each] + shares[0])
            self._evidence[each - 1].ratios[check].add(share, user.arm == each, part)

    def _checks(self, place: int) -> list[Check]:
        counts = self._counts
        return self._evidence[place - 1].checks(counts[place], counts[0], self.guardrails, self._level)

    def _end(self, checks: list[Check]) -> tuple[Action, str] | None:
        if self._sample_ratio.log_e() >= self._level:
            users = dict(zip(self.arms, (counts.users for counts in self._counts), strict=True))
            return "hold", mismatched(users, dict(zip(self.arms, self._shares[-1], strict=True)))
        crossed = [check for check in checks if check.crossed]
        if not crossed:
            return None
        return "roll back", worse(max(crossed, key=lambda check: check.log_e))

    def _missing(self, place: int, now: float, ramped: bool) -> list[str]:
        """What a candidate against which nothing speaks waits for."""
        users = min(self._counts[each].closed for each in (0, place))
        age_s = 0.0 if self._began is None else max(0.0, now - self._began)
        return still_missing(
            self.guardrails,
            users,
            age_s,
            clicks=self._shown(place, "clicks").lower,
            slow=self._shown(place, "p75").upper,
            ramped=ramped,
            full=self._users.full,
        )

    def _shown(self, place: int, check: str) -> Bounds:
        """Bounds of a ratio, either of them right but for ``promote_alpha``."""
        return self._evidence[place - 1].ratios[check].bounds(2 * self.guardrails.promote_alpha)

    def _arm_numbers(self, place: int) -> dict[str, Any]:
        counts, alpha = self._counts[place], 2 * math.exp(-self._level)
        lower, upper = counts.first_ms.bounds(0.95, alpha)
        return {
            "share": self._shares[-1][place],
            "requests": counts.requests,
            "users": counts.users,
            "users_closed": counts.closed,
            "rates": {name: counts.rate(name) for name in (*FAILURES, "clicks")},
            "outcomes": dict(counts.outcomes),
            "p50_ms": counts.took_ms.quantile(0.5),
            "p95_ms": counts.took_ms.quantile(0.95),
            "first_p95_ms": [lower, None if math.isinf(upper) else upper],
        }
