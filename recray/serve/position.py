"""How far a replica has heard a hub."""

from typing import NamedTuple


class Position(NamedTuple):
    """So many of what one hub was told."""

    hub: str
    number: int

    def reaches(self, other: "Position") -> bool:
        """Whether all is known that is known there."""
        return self.hub == other.hub and self.number >= other.number
