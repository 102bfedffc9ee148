"""A verdict's reason: one plain sentence with its figures."""

from collections.abc import Mapping

from recray.serve.traffic.evidence import Check
from recray.serve.traffic.guardrails import QUANTILES, Guardrails


def worse(check: Check) -> str:
    """Why to roll back."""
    if check.name in QUANTILES:
        return (
            f"The candidate is slower: {check.name} {check.candidate:.1f} ms against "
            f"{check.baseline:.1f} ms; at least {check.bounds.lower:.2f} times as many answers are slow."
        )
    if check.name == "clicks":
        return (
            f"The candidate is clicked less: {check.candidate:.2%} of a user's answers against "
            f"{check.baseline:.2%}; at most {check.bounds.upper:.2f} times as many."
        )
    what = {"errors": "errors", "empty": "empty answers", "fallbacks": "answers by a fallback"}[check.name]
    return (
        f"The candidate has more {what}: {check.candidate or 0:.2%} of its requests against "
        f"{check.baseline or 0:.2%}; at least {check.bounds.lower:.2f} times as many users met one."
    )


def mismatched(users: Mapping[str, int], shares: Mapping[str, float]) -> str:
    """Why nothing can be said."""
    total = max(sum(users.values()), 1)
    seen = ", ".join(
        f"{arm} {n:,} ({n / total:.1%} in place of {shares[arm]:.1%})" for arm, n in users.items()
    )
    return f"Users do not fall to the arms by their shares, so no other number can be trusted: {seen}."


def still_missing(
    rails: Guardrails, users: int, age_s: float, *, clicks: float, slow: float, ramped: bool, full: bool
) -> list[str]:
    """What a promotion waits for.

    Args:
        users: of the smaller arm, with a closed window.
        age_s: of the experiment.
        clicks: the least ratio of clicks that is not rejected.
        slow: the greatest ratio of slow answers, by the time that is allowed, that is not rejected.
        ramped: whether the candidate has its full share.
        full: whether no more users are taken in.
    """
    waits = []
    asked = 0.0 if rails.clicks_margin is None else 1 - rails.clicks_margin
    if users < rails.least_users:
        waits.append(f"{users:,} of {rails.least_users:,} users in the smaller arm")
    if age_s < rails.least_s:
        waits.append(f"{age_s:.0f} of {rails.least_s:.0f} s")
    if clicks < asked:
        waits.append(f"clicks are shown to be {clicks:.2f} times the baseline's, {asked:.2f} is asked for")
    if slow >= 1:
        waits.append(f"answers are not shown to be at most {rails.slowdown:g} times as slow")
    if not ramped:
        waits.append("the ramp goes on")
    if waits and full:
        waits.append(f"no more than {rails.most_users:,} users are taken in, so begin anew")
    return waits


def shown(clicks: Check, lower: float) -> str:
    """Why to promote."""
    return (
        f"Nothing is worse than chance allows; {clicks.candidate or 0:.2%} of a user's answers are clicked "
        f"against {clicks.baseline or 0:.2%}, at least {lower:.2f} times as many."
    )
