"""What a user gets now, and why."""

from typing import Any

import streamlit as st

from recray.console import shown
from recray.console.server import versions_in_words

STOOD_IN = {
    "history": "the model has not met this user: the list goes by what it did",
    "popular": "nothing is known of this user: what is popular",
    "recent": "retrieval was late: by what was found for this user before",
}


def show() -> None:
    shown.title("Recommend", "What a user gets from the server now, with the reasons for each place.")
    with st.form("asked", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        user = st.text_input("User", placeholder="an id; empty: somebody new", max_chars=200)
        k = st.number_input("Items", 1, 50, 10, width=120)
        asked = st.form_submit_button("Recommend", type="primary")
    if asked:
        with shown.said():
            body = {"k": int(k), "explain": True} | ({"user_id": user.strip()} if user.strip() else {})
            st.session_state["answer"] = shown.server().post("/recommend", **body)
    if answer := st.session_state.get("answer"):
        _answer(answer)
    elif not asked:
        shown.empty("Nobody was asked for yet.", "A user's id is as the data has it.")


def _answer(answer: dict[str, Any]) -> None:
    took = f"{answer['timings_ms']['total']:.1f} ms"
    st.caption(f"{versions_in_words(answer['version'])} · {took} · request {answer['request_id']}")
    if stood_in := STOOD_IN.get(answer["fallback"] or ""):
        st.info(stood_in, icon=":material/info:")
    for skipped in answer["skipped"]:
        st.warning(
            shown.plain(f"{skipped['stage']} was left out: {skipped['reason']}"), icon=":material/timer_off:"
        )
    if arm := answer.get("arm"):
        st.badge(f"arm {arm['arm'] or 'of both'} of {arm['experiment']}")
    if answer["items"]:
        shown.items(answer["items"])
    else:
        shown.empty("Nothing is left to recommend.", "All that can be had was seen, or rules leave it out.")
