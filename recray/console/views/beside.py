"""Two versions side by side, asked in this process: what a new one would change for a user."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import polars as pl
import streamlit as st

from recray.console import shown
from recray.store import Store, StoreError

if TYPE_CHECKING:
    from recray.api import Model


def show() -> None:
    shown.title("Side by side", "Two published versions, one user: what stays, what moves, what is new.")
    references = _references()
    if len(references) < 2:
        shown.empty("The store of this home has fewer than two versions.", "`recray train` publishes one.")
        return
    same = [n for n, name in enumerate(references) if name.split(":")[0] == references[0].split(":")[0]]
    with st.form("which two", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        left = st.selectbox("This version", references, index=0)
        right = st.selectbox("beside", references, index=same[1] if len(same) > 1 else 1)
        user = st.text_input("User", placeholder="an id", max_chars=200)
        k = st.number_input("Items", 1, 100, 10, width=120)
        asked = st.form_submit_button("Compare", type="primary")
    if asked and not user.strip():
        st.warning("Which user? An id as the data has it.")
    elif asked:
        with shown.said(), st.spinner("opening the versions"):
            st.session_state["two"] = _compared(left, right, user.strip(), int(k))
    if "two" in st.session_state:
        _draw(st.session_state["two"])


def _references() -> list[str]:
    """All published, those in production first, then the newest."""
    found: list[tuple[bool, str, str]] = []
    store = Store()
    for name in store.applications():
        try:
            live = store.names(name).get("production")
            found += [
                (one.version != live, one.created_at, f"{name}:{one.version}") for one in store.versions(name)
            ]
        except StoreError as error:
            st.warning(shown.plain(str(error)))
    newest = sorted(found, key=lambda one: one[1], reverse=True)
    return [reference for _, _, reference in sorted(newest, key=lambda one: one[0])]


class Two(NamedTuple):
    """What two versions say of one user."""

    left: str
    right: str
    first: pl.DataFrame  # as ``Model.recommend`` has it
    second: pl.DataFrame
    history: pl.DataFrame


@st.cache_resource(max_entries=4, show_spinner=False)
def _opened(reference: str) -> "Model":
    from recray.api import open  # PyTorch takes seconds to import: only where it is needed

    return open(reference)


def _compared(left: str, right: str, user: str, k: int) -> Two:
    here, there = _opened(left), _opened(right)
    return Two(left, right, here.recommend([user], k), there.recommend([user], k), here.history(user))


def _draw(two: Two) -> None:
    left, right, first, second, history = two
    st.caption(
        "As of each version's own data, in this home: what happened since is known to the server alone."
    )
    places = [dict(zip(one["item"], one["place"], strict=True)) for one in (first, second)]
    both = len(places[0].keys() & places[1].keys())
    same = sum(places[1].get(item) == place for item, place in places[0].items())
    shown.tiles({"in both lists": f"{both} of {max(map(len, places))}", "at the same place": str(same)})
    columns = st.columns(2)
    for column, name, found, other in zip(columns, (left, right), (first, second), places[::-1], strict=True):
        with column:
            st.subheader(name, anchor=False)
            listed = [{**row, "item_id": row["item"]} for row in found.iter_rows(named=True)]
            shown.items(listed, _moves(found, other))
    with st.expander(f"What this user did: the last {len(history)}", icon=":material/history:"):
        if len(history):
            st.dataframe(history, hide_index=True)
        else:
            shown.empty("The versions know nothing of this user.")


def _moves(found: pl.DataFrame, other: Mapping[str, int]) -> dict[str, str]:
    """Of each item, where it stands in the other list."""
    said = {}
    for item, place in zip(found["item"], found["place"], strict=True):
        there = other.get(item)
        if there is None:
            said[item] = "only here"
        elif there != place:
            said[item] = f"there at {there}"
    return said
