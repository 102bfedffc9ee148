"""The business rules, in the order in which they act.

A line in ``Rules`` gives a rule its options on the command line, in the YAML of Serve and in the measurement.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from recray.serve.barred import Barred
from recray.serve.rules.allowed import AllowedConfig
from recray.serve.rules.available import AvailableConfig, Servable
from recray.serve.rules.diversify import DiversityConfig
from recray.serve.rules.explore import ExploreConfig
from recray.serve.rules.fresh import FreshConfig
from recray.serve.rules.per_category import PerCategoryConfig
from recray.serve.rules.pinned import PinnedConfig
from recray.serve.state import RequestState, Stage
from recray.serve.versions import OpenedVersion


class Rule(Protocol):
    """The frozen config of a business rule."""

    def open(self, version: OpenedVersion, /) -> Stage | None:
        """The stage for one version; None where the rule is off."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Business rules, applied to the ranked candidates in this order. Off by default, but for availability,
    which holds wherever the items say what is available."""

    available: AvailableConfig = field(default_factory=AvailableConfig)
    allowed: AllowedConfig = field(default_factory=AllowedConfig)
    per_category: PerCategoryConfig = field(default_factory=PerCategoryConfig)
    fresh: FreshConfig = field(default_factory=FreshConfig)
    diversity: DiversityConfig = field(default_factory=DiversityConfig)
    explore: ExploreConfig = field(default_factory=ExploreConfig)
    pinned: PinnedConfig = field(default_factory=PinnedConfig)

    def barred(self, version: OpenedVersion) -> Barred:
        """What must not be served: what cannot be had, and what is not allowed.

        First stages know it too: they find as many others, and what is similar is answered by them alone.

        Raises:
            ConfigError: the catalogue has no such column or item.
        """
        barred = self.available.barred(version) or Barred(len(version.catalogue[1]))
        if self.allowed.is_on:
            self.allowed.deny_in(version, barred)
        return barred

    def open(self, version: OpenedVersion) -> list[Stage]:
        """The stages behind the ranking."""
        barred = self.barred(version)
        rules: dict[str, Rule] = {
            "per_category": self.per_category,
            "fresh": self.fresh,
            "diversity": self.diversity,
            "explore": self.explore,
        }
        stages: list[Stage] = [
            Noted(name, stage) for name, rule in rules.items() if (stage := rule.open(version))
        ]
        if pins := self.pinned.pins(version, barred):
            stages = [pins.take_out, *stages, Noted("pinned", pins.put_in)]
        return [Noted("available", Servable(barred)), *stages]


class Noted:
    """A rule; where it changes what is shown, the state says so."""

    def __init__(self, name: str, stage: Stage) -> None:
        self._name, self._stage = name, stage

    def __call__(self, state: RequestState) -> RequestState:
        after = self._stage(state)
        if after.order_S is state.order_S or np.array_equal(after.order_S, state.order_S):
            return after
        return after._replace(rules=(*after.rules, self._name))
