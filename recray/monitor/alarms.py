"""Alarms that stand: raised once, cleared once, and told once, however often somebody looks.

A day has one chance to be wrong, ``DAY_CHANCE``, of which each look gets its hours' share: who looks every
hour is not wrong more often than who looks once a day. An alarm is raised where a threshold is passed, and
cleared where ``CALM_LOOKS`` looks in a row would have surprised nobody: what lies on the threshold does not
flicker.

An alarm is one of the version that was shown. Where another one takes its place it is over: what the new one
was learnt from, and is compared with, is something else.

People are told the difference between what they know and what is: twenty alarms are one message, and what
could not be sent is in the next one, if it is still so.
"""

from dataclasses import dataclass, field, replace

from recray.monitor.drift_report import Alarm, FeatureDrift

DAY_S = 86_400.0
DAY_CHANCE = 0.005
CALM = 0.2  # of a p-value that is corrected for all tests
CALM_LOOKS = 2
TELL_EVERY_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class AlarmState:
    """What is kept from look to look.

    Attributes:
        looked_at: unix seconds, of the last look; None: there was none.
        version: NAME@NUMBER of what it looked at.
        standing: by feature.
        calm: by feature, looks in a row that would not have raised it.
        told: what people know to stand, by feature, and what they were told.
        told_at: unix seconds, of the last message that was sent.
    """

    looked_at: float | None = None
    version: str = ""
    standing: tuple[Alarm, ...] = ()
    calm: dict[str, int] = field(default_factory=dict)
    told: tuple[Alarm, ...] = ()
    told_at: float = 0.0

    def chance(self, now: float) -> float:
        """That a look now raises anything in an unchanged stream."""
        since_s = DAY_S if self.looked_at is None else now - self.looked_at
        return DAY_CHANCE * min(max(since_s, 1.0), DAY_S) / DAY_S  # clocks may be set back


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a look made of the alarms."""

    state: AlarmState
    raised: tuple[Alarm, ...]
    cleared: tuple[Alarm, ...]


def looked(state: AlarmState, features: tuple[FeatureDrift, ...], now: float, version: str) -> Change:
    """The alarms after a look at a version. What could not be judged this time stays as it is, but alarms of
    another version are over."""
    standing = {alarm.name: alarm for alarm in state.standing if alarm.version in ("", version)}
    calm = {name: looks for name, looks in state.calm.items() if name in standing}
    cleared = [replace(alarm, cleared=now) for alarm in state.standing if alarm.name not in standing]
    raised = []
    for one in features:
        if one.alarm:
            calm.pop(one.name, None)
            if one.name not in standing:
                alarm = Alarm(name=one.name, since=now, sentence=one.sentence, version=version)
                standing[one.name] = alarm
                raised.append(alarm)
        elif one.name in standing and one.tests:
            calm[one.name] = calm.get(one.name, 0) + 1 if is_calm(one) else 0
            if calm[one.name] >= CALM_LOOKS:
                cleared.append(replace(standing.pop(one.name), cleared=now))
                del calm[one.name]
    kept = replace(state, looked_at=now, version=version, standing=tuple(standing.values()), calm=calm)
    return Change(state=kept, raised=tuple(raised), cleared=tuple(cleared))


def is_calm(one: FeatureDrift) -> bool:
    """Whether nothing of it would surprise anybody; of a limit, that it is kept."""
    return all(not test.alarm and (test.p_value is None or test.p_value >= CALM) for test in one.tests)


def message(state: AlarmState, application: str, now: float) -> tuple[str, str] | None:
    """Title and text of what people do not know yet; None: they know it all, or were told a moment ago."""
    known, standing = ({(one.name, one.version) for one in those} for those in (state.told, state.standing))
    new = [one for one in state.standing if (one.name, one.version) not in known]
    over = [one for one in state.told if (one.name, one.version) not in standing]
    was_just_told = 0 <= now - state.told_at < TELL_EVERY_S  # told later than now: the clock was set back
    if not (new or over) or was_just_told:
        return None
    said = [f"{len(those)} {word}" for those, word in ((new, "raised"), (over, "cleared")) if those]
    lines = [f"+ {alarm.sentence}" for alarm in new] + [
        f"- {alarm.name}: {alarm.why_over(state.version)}" for alarm in over
    ]
    lines.append(f"{len(standing)} of {application} stand; `recray drift {application}` says more")
    return f"{application}: drift, {' and '.join(said)}", "\n".join(lines)


def after_telling(state: AlarmState, now: float) -> AlarmState:
    """Once a message was sent."""
    return replace(state, told=state.standing, told_at=now)
