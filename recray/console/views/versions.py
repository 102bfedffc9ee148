"""Which versions there are, what is live, and the changes of it: promote, canary, roll back."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from recray.console import shown

SHOWN_METRICS = ("ndcg@10", "hit@10", "auc", "index_recall@100")


def show() -> None:
    shown.title("Versions and traffic", "What is published, what users get, and how to change it.")
    with shown.said():
        found = shown.server().get("/versions")
        if problem := found.get("problem"):
            st.warning(shown.plain(problem))
        if not found["versions"]:
            shown.empty("The server's store has no version that it can read.")
            return
        _table(found)
        _changes(found)
    if done := st.session_state.pop("done", None):
        st.toast(done, icon=":material/check:")


def _table(found: Mapping[str, Any]) -> None:
    names: dict[int, list[str]] = {}
    for name, version in found["names"].items():
        names.setdefault(version, []).append(name)
    rows = [
        {
            "version": one["version"],
            "names": ", ".join(names.get(one["version"], ())),
            "made": one["created_at"][:16].replace("T", " "),
            "model": one["model"],
            **{name: one["metrics"].get(name) for name in SHOWN_METRICS},
            "made for": ", ".join(f"{each['name']} {each['version']}" for each in one["requires"].values()),
        }
        for one in reversed(found["versions"])
    ]
    known = [name for name in SHOWN_METRICS if any(row[name] is not None for row in rows)]
    rows = [{key: row[key] for key in row if key in known or key not in SHOWN_METRICS} for row in rows]
    shown.table(rows, **{name: st.column_config.NumberColumn(format="%.4f") for name in known})
    follows = found["follows"]
    now = found["names"].get(follows)
    st.caption(f"{found['application']}: the server follows {follows}, which is version {now}")


def _changes(found: Mapping[str, Any]) -> None:
    st.subheader("Change it", anchor=False)
    if len(found["versions"]) == 1:
        shown.empty("There is one version: nothing else could be live.", "`recray train` publishes another.")
        return
    allowed = shown.may_change()
    live = found["names"].get("production")
    others = [one["version"] for one in reversed(found["versions"]) if one["version"] != live]
    promote, canary, back = st.columns(3)
    with promote.container(border=True, height="stretch"):
        version = st.selectbox("Promote", others, key="promoted", disabled=not allowed)
        st.caption("All users get it within a second or two.")
        if st.button("Promote", disabled=not allowed or version is None):
            _confirm("promote", f"Promote version {version}: all users get it", {"version": version})
    with canary.container(border=True, height="stretch"):
        tried = st.selectbox("Canary", others, key="tried", disabled=not allowed)
        share = st.slider("of the users, %", 1, 50, 10, key="share", disabled=not allowed)
        if st.button("Start canary", disabled=not allowed or tried is None):
            said = f"Show version {tried} to {share} % of the users, and production anew to as many"
            _confirm("canary", said, {"version": tried, "ramp": f"{share}%"})
    with back.container(border=True, height="stretch"):
        st.markdown("Roll back")
        st.caption(f"From version {live} to the one before; it comes back only by force.")
        if st.button("Roll back", disabled=not allowed):
            _confirm("rollback", f"Roll back from version {live} to the one before", {})


def _confirm(action: str, said: str, change: Mapping[str, object]) -> None:
    @st.dialog("Is it meant?")
    def ask() -> None:
        st.write(f"{said}.")
        why = st.text_input("Why? It stands in the journal.", max_chars=1_000)
        if st.button("Do it", type="primary"):
            with shown.said():
                shown.server().administer(action, why=why, **change)
                st.session_state["done"] = f"{said}: done; replicas follow within a second or two"
                st.rerun()

    ask()


def turns(experiment: str, actions: Sequence[str], allowed: bool) -> None:
    """Buttons that pause, resume, stop or refuse an experiment."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{shown.plain(experiment)}**")
        for action in actions:
            if st.button(action.capitalize(), key=f"{action} {experiment}", disabled=not allowed):
                said = f"{action.capitalize()} the experiment {experiment}"
                _confirm(action, said, {"experiment": experiment})
