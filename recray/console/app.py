"""What Streamlit runs: the side of the page, and the way to all pages."""

import os
from types import ModuleType

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from recray.console import ADMIN_TOKEN, SERVER
from recray.console.server import Server, ServerError
from recray.console.views import beside, business, data, drift, experiments, live, recommend, runs, versions

DEFAULT_SERVER = "http://127.0.0.1:8000"


def main() -> None:
    st.set_page_config(page_title="recray", page_icon=":material/recommend:", layout="wide")
    with st.sidebar:
        _side()
    pages = {
        "Served": [
            _page(recommend, "Recommend", "recommend"),
            _page(beside, "Side by side", "compare"),
            _page(versions, "Versions and traffic", "alt_route"),
        ],
        "How it does": [
            _page(live, "Live", "monitor_heart"),
            _page(experiments, "Experiments", "science"),
            _page(drift, "Drift", "trending_up"),
            _page(business, "Business", "payments"),
        ],
        "Made of": [_page(runs, "Runs", "model_training"), _page(data, "Data", "database")],
    }
    st.navigation(pages).run()


def _page(view: ModuleType, title: str, icon: str) -> StreamlitPage:
    name = view.__name__.rpartition(".")[2]
    is_first = view is recommend
    return st.Page(view.show, title=title, icon=f":material/{icon}:", url_path=name, default=is_first)


def _side() -> None:
    own_server = os.environ.get(SERVER, DEFAULT_SERVER)
    st.session_state.setdefault("server", own_server)
    st.text_input("Server", key="server")
    st.text_input("Token for changes", key="typed", type="password", placeholder="read only without")
    # The process's own token goes to no browser, and to no server but the one it was started for.
    own = os.environ.get(ADMIN_TOKEN, "") if st.session_state["server"] == own_server else ""
    st.session_state["token"] = st.session_state["typed"] or own
    try:
        health = Server(st.session_state["server"]).get("/health")
        st.badge(health["status"], color="green" if health["status"] == "ok" else "orange")
    except (ServerError, KeyError, TypeError):
        st.badge("not to be reached", color="red")


if __name__ == "__main__":
    main()
