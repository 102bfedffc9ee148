"""Growing shares of users, as people write them."""

from dataclasses import dataclass

from recray.config import ConfigError
from recray.eval.ages import seconds
from recray.store.experiments import RampStep

# Shares of users that a canary is shown to, by the time since its start: as many get the baseline.
CANARY_RAMP = "1% 5m:5% 20m:10% 1h:25% 2h:50%"


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """Growing shares of all users, each from so long after the start on."""

    shares: tuple[tuple[float, float], ...]  # seconds, share

    @classmethod
    def read(cls, text: str) -> "Ramp":
        """``"1% 10m:10% 1h:50%"``: a per cent at once, ten after ten minutes, half after an hour.

        Raises:
            ConfigError: it cannot be read.
        """
        steps = []
        for word in text.replace(",", " ").split():
            after, colon, share = word.rpartition(":")
            steps.append((float(seconds(after)) if colon else 0.0, _share(share)))
        if not steps:
            raise ConfigError(f"a ramp is shares such as {CANARY_RAMP!r}, got {text!r}")
        return cls(shares=tuple(steps))

    @property
    def end(self) -> float:
        """The share at the end."""
        return self.shares[-1][1]

    def steps(self) -> tuple[RampStep, ...]:
        return tuple(RampStep(after_s=after, part=share / self.end) for after, share in self.shares)


def _share(text: str) -> float:
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no share: write 5% or 0.05") from None
