"""What the pages of the console have in common: headings, empty states, problems, lists of items."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any, Literal, TypeAlias

import polars as pl
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from recray.config import ConfigError
from recray.console import ADMIN_TOKEN
from recray.console.server import Server
from recray.redaction import hidden
from recray.schema import DataError

log = logging.getLogger(__name__)
LOOK = "Is the server of the same version as the console? The console's log says where it was."

Color: TypeAlias = Literal["green", "blue", "orange", "red", "gray"]
LEVELS: dict[str, Color] = {"ok": "green", "note": "blue", "warning": "orange"}

_CODE = re.compile(r"(`[^`\n]+`)")
_MARKS = re.compile(r"[\\`*\[\]$~<>#]|(?<!\w)_|_(?!\w)")

_ITEMS = """<style>
.items > div { padding: .55rem 0; } .items > div + div { border-top: 1px solid rgba(128, 138, 148, .25); }
.items .line { display: flex; gap: .75rem; align-items: baseline; }
.items .place { opacity: .65; min-width: 1.6em; text-align: right; font-variant-numeric: tabular-nums; }
.items b { flex: 1; font-weight: 600; } .items .score { opacity: .75; font-variant-numeric: tabular-nums; }
.items .beside { opacity: .75; font-size: .85rem; margin-left: 2.35em; overflow-wrap: anywhere; }
</style>"""


def server() -> Server:
    """That the person at the page has chosen."""
    return Server(str(st.session_state["server"]), str(st.session_state["token"]))


def title(name: str, said: str) -> None:
    st.title(name, anchor=False)
    st.caption(said)


def empty(said: str, way_out: str = "") -> None:
    """Where there is nothing yet, and what would bring something."""
    st.info("  \n".join(filter(None, [said, way_out])), icon=":material/inbox:")


def plain(text: str) -> str:
    """Words from elsewhere as Markdown that says just them; only `code` is kept."""
    parts = _CODE.split(text)
    return "".join(part if n % 2 else _MARKS.sub(r"\\\g<0>", part) for n, part in enumerate(parts))


@contextmanager
def said() -> Iterator[None]:
    """What goes wrong within is a sentence on the page, and the rest of the page stands."""
    try:
        yield
    except (ConfigError, DataError, OSError) as error:
        st.error(plain(hidden(str(error))), icon=":material/error:")
    except Exception as error:
        if type(error).__module__.startswith("streamlit"):
            raise  # how it ends a page
        log.exception("a page could not be drawn")
        st.error(
            plain(f"This could not be drawn ({type(error).__name__}: {hidden(str(error))}). {LOOK}"),
            icon=":material/error:",
        )


def table(rows: Sequence[Mapping[str, Any]], **columns: ColumnConfig) -> None:
    """Rows by their fields.

    Args:
        columns: how some are drawn, as ``st.column_config`` says.
    """
    frame = pl.DataFrame(rows, infer_schema_length=None)
    st.dataframe(frame, hide_index=True, column_config=columns)


def checks(found: Sequence[Mapping[str, str]]) -> None:
    """What reports looked at, the worst first: a line each, with its level."""
    for one in sorted(found, key=lambda one: -list(LEVELS).index(one["level"])):
        level, text = st.columns([1, 9], vertical_alignment="top")
        level.badge(one["level"], color=LEVELS[one["level"]])
        text.markdown(f"**{plain(one['name'])}**: {plain(one['text'])}")


def tiles(values: Mapping[str, str]) -> None:
    """Figures side by side, each over its name."""
    with st.container(horizontal=True):
        for name, value in values.items():
            st.metric(name, value, border=True)


def may_change() -> bool:
    """Whether changes are possible here; says so where not."""
    if server().token:
        return True
    st.caption(f"Read only: changes need the server's {ADMIN_TOKEN}, at the left.")
    return False


def items(listed: Sequence[Mapping[str, Any]], beside: Mapping[str, str] | None = None) -> None:
    """A list of items with scores, sources, details and reasons.

    Args:
        listed: as answers have them.
        beside: further words of an item, by its id.
    """
    lines = "".join(
        _item(place, item, (beside or {}).get(item["item_id"], "")) for place, item in enumerate(listed, 1)
    )
    st.html(f'{_ITEMS}<div class="items" role="list">{lines}</div>')


def _item(place: int, item: Mapping[str, Any], further: str) -> str:
    score = "" if item.get("score") is None else f"{item['score']:.3f}"
    details = [_in_words(value) for value in (item.get("details") or {}).values()]
    about = [escape(each) for each in (item.get("source") or "", *details, further) if each]
    reasons = ", ".join(_reason(reason) for reason in item.get("why", ())[:3])
    beside = "<br>".join(filter(None, [" · ".join(about), reasons]))
    name = escape(item["title"] or item["item_id"])
    return (
        f'<div role="listitem"><div class="line"><span class="place">{place}</span><b>{name}</b>'
        f'<span class="score">{score}</span></div><div class="beside">{beside}</div></div>'
    )


def _in_words(value: object) -> str:
    """Of a column; nothing where it is missing."""
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    return "" if value is None else str(value)


def _reason(reason: Mapping[str, Any]) -> str:
    value = "unknown" if reason["value"] is None else f"{reason['value']:.3g}"
    return f"{escape(reason['feature'].replace('_', ' '))} {value} ({reason['contribution']:+.2f})"
