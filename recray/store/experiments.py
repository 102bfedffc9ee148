"""Experiments on live traffic: which users get which version, as the journal of an application leaves it.

Who is asked is decided by hashing: a user stays where it is over pauses and restarts, and is moved by no one.
"""

import math
import re
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Literal, TypeAlias

from recray.config import ConfigError
from recray.store.manifest import Reference

Kind: TypeAlias = Literal["canary", "ab", "interleaving", "shadow"]
"""canary: a new version against a fresh copy of production; ab: versions against each other; interleaving:
lists of which two versions draw the items in turns; shadow: a version that is asked, and never shown."""

ROUNDING = 1e-9


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def _require_name(of: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"the name of {of} is letters, digits, '_', '.' and '-', at most 100; got {name!r}")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A version, and the users that get it."""

    name: str
    reference: Reference
    share: float  # of all users, when the ramp has ended

    def __post_init__(self) -> None:
        _require_name("an arm", self.name)
        if not 0.0 < self.share <= 1.0:
            raise ConfigError(f"arm {self.name}: a share is above 0 and at most 1, got {self.share}")


@dataclass(frozen=True, kw_only=True)
class RampStep:
    """From so long after the start on, so much of each arm's share is asked."""

    after_s: float
    part: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.after_s < math.inf:
            raise ConfigError(f"ramp: seconds after the start are 0 or more, got {self.after_s}")
        if not 0.0 < self.part <= 1.0:
            raise ConfigError(f"ramp: the part of a share is above 0 and at most 1, got {self.part}")


AT_ONCE = (RampStep(after_s=0.0, part=1.0),)
LEAST_ARMS: dict[Kind, int] = {"canary": 2, "ab": 2, "interleaving": 2, "shadow": 1}
MOST_ARMS: dict[Kind, int] = {"canary": 2, "ab": 20, "interleaving": 2, "shadow": 1}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is asked of whom.

    The first arm is what the others are compared with, but for a shadow, which has itself alone.
    """

    name: str
    kind: Kind
    arms: tuple[Arm, ...]
    salt: str  # other experiments divide users otherwise
    group: str = "default"  # experiments of one group share no user
    ramp: tuple[RampStep, ...] = AT_ONCE
    acts: bool = True  # verdicts are carried out, and not only shown
    guardrails: dict[str, float | None] = field(default_factory=dict)  # limits that are not the default ones

    def __post_init__(self) -> None:
        _require_name("an experiment", self.name)
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ConfigError(f"experiment {self.name}: arms need names of their own, got {', '.join(names)}")
        if not LEAST_ARMS[self.kind] <= len(names) <= MOST_ARMS[self.kind]:
            least, most = LEAST_ARMS[self.kind], MOST_ARMS[self.kind]
            wanted = str(least) if least == most else f"{least} to {most}"
            raise ConfigError(f"experiment {self.name}: {self.kind} needs {wanted} arms, got {len(names)}")
        if self.width > 1.0 + ROUNDING:
            raise ConfigError(f"experiment {self.name}: the arms' shares are {self.width:g} in all, above 1")
        steps = [step.after_s for step in self.ramp]
        if steps[:1] != [0.0] or sorted(set(steps)) != steps:
            raise ConfigError(
                f"experiment {self.name}: a ramp begins at 0 s and goes on in time, got {steps}"
            )

    @property
    def width(self) -> float:
        """Of all users, those that it may ask when its ramp has ended."""
        return sum(arm.share for arm in self.arms)

    @property
    def candidate(self) -> Arm:
        """What it is about."""
        return self.arms[-1]

    @property
    def is_shown(self) -> bool:
        return self.kind != "shadow"


@dataclass(frozen=True)
class Running:
    """An experiment that has not ended.

    Args:
        left: of the users of its group, it asks those from here on.
        began: unix seconds.
        paused: unix seconds since when nobody is asked; None: it goes on.
        lost_s: seconds of earlier pauses.
    """

    experiment: Experiment
    left: float
    began: float
    by: str
    paused: float | None = None
    lost_s: float = 0.0

    def ran_s(self, now: float) -> float:
        """Without pauses."""
        return max(0.0, (now if self.paused is None else self.paused) - self.began - self.lost_s)

    def part(self, now: float) -> float:
        """Of each arm's share that is asked now; 0 while paused."""
        if self.paused is not None:
            return 0.0
        ran_s = self.ran_s(now)
        return [step.part for step in self.experiment.ramp if step.after_s <= ran_s][-1]

    def has_ramped(self, now: float) -> bool:
        return self.ran_s(now) >= self.experiment.ramp[-1].after_s

    def asks(self, user: str, now: float) -> Arm | None:
        """The arm of a user; None: it is not asked, or not yet.

        Whoever is asked at a small part of the shares is asked for the same arm at each larger one.
        """
        experiment, part = self.experiment, self.part(now)
        if not part:
            return None
        where = place(experiment.group, user) - self.left
        if not 0.0 <= where < experiment.width:
            return None
        left, at = 0.0, place(experiment.salt, user) * experiment.width
        for arm in experiment.arms:
            if at < left + arm.share:
                return arm if at - left < arm.share * part else None
            left += arm.share
        return None

    def pause(self, at: float) -> "Running":
        return replace(self, paused=at)

    def resume(self, at: float) -> "Running":
        assert self.paused is not None
        return replace(self, paused=None, lost_s=self.lost_s + max(0.0, at - self.paused))


def place(salt: str, user: str) -> float:
    """From 0 to 1, evenly over users, and independent between salts."""
    digest = blake2b(user.encode(errors="surrogatepass"), digest_size=8, key=salt.encode()[:64]).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


@dataclass(frozen=True)
class Traffic:
    """What runs on an application's live traffic, and what may not come back.

    Args:
        refused: by digest, why versions were rolled back.
    """

    running: tuple[Running, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Running | None:
        return next((one for one in self.running if one.experiment.name == name), None)
