"""How tables of clicks call the column of what was a click, and how it says yes and no."""

from collections.abc import Sequence

from recray.data.sources.tables.side_types import TRUTH
from recray.schema import DataError

LABELS = ("label", "click", "clicked", "isclick", "isclicked", "target", "converted", "conversion")
FIGURES = {word: str(int(is_click)) for word, is_click in TRUTH.items()}
"""0 and 1 for the words of a label, in small letters."""


def plain(name: str) -> str:
    """Without capitals, blanks and underscores."""
    return name.lower().replace("_", "").replace(" ", "")


def require_one(label: str, names: Sequence[str], where: str) -> None:
    """
    Raises:
        DataError: another column is called as this one is, but for capitals, blanks and underscores.
    """
    alike = [name for name in names if plain(name) == plain(label)]
    if len(alike) > 1:
        raise DataError(
            f"{where}: the columns {' and '.join(map(repr, alike))} could each say what was a click: name "
            f"one with label={alike[0]}, and leave the other out with ignore={alike[1]} if it says the same"
        )
