"""The business rules, in the order in which they act.

A line in ``Rules`` gives a rule its options on the command line, in the YAML of Serve and in the measurement.
"""

from dataclasses import dataclass, field, fields
from typing import Protocol

from recray.serve.rules.available import AvailableConfig
from recray.serve.rules.diversify import DiversityConfig
from recray.serve.rules.explore import ExploreConfig
from recray.serve.rules.fresh import FreshConfig
from recray.serve.rules.per_category import PerCategoryConfig
from recray.serve.state import Stage
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
    per_category: PerCategoryConfig = field(default_factory=PerCategoryConfig)
    fresh: FreshConfig = field(default_factory=FreshConfig)
    diversity: DiversityConfig = field(default_factory=DiversityConfig)
    explore: ExploreConfig = field(default_factory=ExploreConfig)

    def open(self, version: OpenedVersion) -> list[Stage]:
        rules: list[Rule] = [getattr(self, rule.name) for rule in fields(self)]
        return [stage for rule in rules if (stage := rule.open(version))]
