"""What a client says of a request, beside whom it is for."""

import re
from collections.abc import Mapping
from typing import TypeAlias

Context: TypeAlias = Mapping[str, bool | int | float | str]
"""Its fields by name: rules and rankers read them."""

FIELD_PATTERN = "[A-Za-z_][A-Za-z0-9_]*"
FIELD_LETTERS = 40


def is_field(name: str) -> bool:
    """Whether a request's context can have a field of that name: what goes by another never meets it."""
    return len(name) <= FIELD_LETTERS and re.fullmatch(FIELD_PATTERN, name) is not None
