"""What a client says of a request, beside whom it is for."""

from collections.abc import Mapping
from typing import TypeAlias

Context: TypeAlias = Mapping[str, bool | int | float | str]
"""Its fields by name: rules and rankers read them."""
