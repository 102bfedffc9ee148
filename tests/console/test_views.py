"""Each page of the console, drawn by Streamlit's own test bench against a real server."""

import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from recray import paths
from recray.console import views
from recray.event_log.writer import LogWriter
from recray.monitor.drift_files import drift_dir, write_latest
from recray.store import Store
from recray.track import history
from recray.track.record import Outcome, RunFolder
from tests.console.conftest import Shop
from tests.console.moved import SENTENCE, look
from tests.pipelines.test_business import CLICK, DAY
from tests.pipelines.test_business import show as shown_list
from tests.serve.test_follower import eventually
from tests.serve.uvicorn_server import ask, serving
from tests.serve.world import APPLICATION, NOW

ALL = sorted(path.stem for path in Path(views.__file__).parent.glob("[a-z]*.py"))
OF_THE_SERVER = ("live", "experiments", "versions", "drift")


def script(view: str, server: str, token: str) -> None:
    import importlib

    import streamlit as st

    st.session_state["server"], st.session_state["token"] = server, token
    importlib.import_module(f"recray.console.views.{view}").show()


def page(view: str, server: str = "http://127.0.0.1:9", token: str = "") -> AppTest:
    at = AppTest.from_function(
        script, kwargs={"view": view, "server": server, "token": token}, default_timeout=30
    )
    return at.run()


def texts(at: AppTest) -> str:
    kinds = (at.title, at.caption, at.markdown, at.info, at.error, at.warning, at.success, at.get("html"))
    found = [getattr(each, "value", None) or each.proto.body for kind in kinds for each in kind]
    return "\n".join(map(str, found))


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("view", ALL)
def test_no_page_breaks_where_there_is_nothing(view: str, empty_home: Path) -> None:
    at = page(view)
    assert not at.exception
    assert len(at.title) == 1
    assert at.info or at.error, "an empty page says so, and what would fill it"


@pytest.mark.parametrize("view", OF_THE_SERVER)
def test_a_server_that_is_down_is_said_in_words(view: str, empty_home: Path) -> None:
    assert "`recray serve DATASET` starts one" in texts(page(view))


def test_a_list_has_titles_scores_and_reasons(shop: Shop) -> None:
    at = page("recommend", shop.url)
    at.text_input[0].set_value("103")
    at.number_input[0].set_value(4)
    at.button[0].click().run()
    assert not at.exception
    drawn = at.get("html")[0].proto.body
    expected = ask(int(shop.url.rpartition(":")[2]), "/recommend", {"user_id": "103", "k": 4})[1]["items"]
    assert drawn.count('role="listitem"') == 4
    for item in expected:
        assert item["title"] in drawn
        assert f"{item['score']:.3f}" in drawn
    assert "(+" in drawn
    assert "ranker tiny-ranker 1" in texts(at)


def test_a_stranger_and_a_refusal_are_explained(shop: Shop) -> None:
    at = page("recommend", shop.url)
    at.button[0].click().run()
    assert "nothing is known of this user" in texts(at)
    at.text_input[0].set_value("x" * 200)
    at.number_input[0].set_value(50)
    at.button[0].click().run()
    assert not at.exception


def test_what_a_title_holds_is_text() -> None:
    from recray.console import shown

    item = {"item_id": "1", "title": "<script>alert(1)</script>", "score": 1.0, "source": "<b>", "why": []}
    made = shown._item(1, item, "<i>")
    assert "<script" not in made
    assert "&lt;script&gt;" in made
    assert "<i>" not in made


def test_details_are_words_and_what_is_missing_is_nothing() -> None:
    from recray.console import shown

    details = {"category": ["Shoes", "Shoes > Red"], "price": None, "brand": "B7", "size": 0}
    item = {"item_id": "1", "title": "", "score": None, "source": "popular", "details": details}
    made = shown._item(1, item, "")
    assert "popular · Shoes, Shoes &gt; Red · B7 · 0</div>" in made
    assert '<span class="score"></span>' in made


def test_without_a_token_nothing_can_be_changed(shop: Shop) -> None:
    at = page("versions", shop.url)
    assert "Read only" in texts(at)
    assert [button.disabled for button in at.button] == [True] * 3
    at = page("versions", shop.url, shop.token)
    assert "Read only" not in texts(at)
    assert not at.button[1].disabled


def test_versions_are_listed_with_what_is_live(shop: Shop) -> None:
    at = page("versions", shop.url)
    frame = at.dataframe[0].value
    assert frame["version"].to_list() == [2, 1]
    assert frame["names"].to_list() == ["", "production"]
    assert "follows production, which is version 1" in texts(at)


def test_a_canary_is_shown_with_arms_evidence_and_verdict(shop: Shop) -> None:
    from recray.console.server import Server

    assert "No experiment runs" in texts(page("experiments", shop.url))
    Server(shop.url, shop.token).administer("canary", version=2, ramp="50%")
    port = int(shop.url.rpartition(":")[2])
    eventually(lambda: "arm" in ask(port, "/recommend", {"user_id": "somebody", "request_time": NOW})[1])
    for n in range(60):
        ask(port, "/recommend", {"user_id": f"v{n}"})
    shop.service._reporter.send()  # type: ignore[union-attr]  # it has a desk
    shop.desk.look()
    at = page("experiments", shop.url, shop.token)
    assert not at.exception
    assert "canary-2" in "".join(each.value for each in at.subheader)
    assert at.dataframe[0].value["arm"].to_list() == ["baseline", "canary"]
    assert len(at.get("arrow_vega_lite_chart") or at.get("vega_lite_chart")) >= 1
    assert [button.label for button in at.button] == ["Pause", "Stop", "Refuse"]


def test_live_rates_follow_with_the_second_look(shop: Shop) -> None:
    at = page("live", shop.url)
    assert "Rates follow" in texts(at)
    port = int(shop.url.rpartition(":")[2])
    for n in range(20):
        ask(port, "/recommend", {"user_id": str(100 + n)})
    at.run()
    tiles = {each.label: each.value for each in at.metric}
    assert float(tiles["requests / s"]) > 0
    assert tiles["p95"].endswith("ms")
    assert tiles["server errors"] == "none"


def test_what_moved_is_drawn_with_its_bars(shop: Shop) -> None:
    assert "Nobody has looked yet" in texts(page("drift", shop.url))
    folder = drift_dir(shop.store.root, APPLICATION)
    folder.mkdir(parents=True)
    write_latest(folder, look(moved=True))
    at = page("drift", shop.url)
    assert not at.exception
    assert SENTENCE in texts(at)
    assert at.dataframe[0].value["of its threshold"].to_list() == [pytest.approx(5.0)]
    assert {each.label: each.value for each in at.metric}["alarms"] == "1"
    assert len(at.get("vega_lite_chart") or at.get("arrow_vega_lite_chart")) == 1
    write_latest(folder, look(moved=False))
    assert "Nothing moved by more than chance" in texts(page("drift", shop.url))
    of_home = drift_dir(Store().root, APPLICATION)
    of_home.mkdir(parents=True)
    write_latest(of_home, look(moved=True))
    at = page("drift")  # without a server
    assert not at.error
    assert "the looks of this home" in texts(at)
    assert SENTENCE in texts(at)


def two_candidates() -> None:
    import polars as pl
    import streamlit as st

    from recray.console.views import experiments

    st.session_state["server"], st.session_state["token"] = "http://127.0.0.1:9", ""
    for n in (1.0, 2.0, 3.0):
        rows = [
            {"check": "clicks", "candidate": name, "evidence": n * by} for name, by in (("b", 1), ("c", -1))
        ]
        experiments._sequences("colours", pl.DataFrame(rows))
    for (server, name, candidate), kept in st.session_state["evidence"].items():
        st.text(f"{server} {name} {candidate} {pl.concat(kept)['evidence'].to_list()}")


def test_the_evidence_of_each_candidate_is_a_line_of_its_own() -> None:
    at = AppTest.from_function(two_candidates, default_timeout=30).run()
    assert not at.exception
    assert [each.label for each in at.expander] == [f"{name} since this page was opened" for name in "bc"]
    assert [each.value for each in at.text] == [
        "http://127.0.0.1:9 colours b [1.0, 2.0, 3.0]",
        "http://127.0.0.1:9 colours c [-1.0, -2.0, -3.0]",
    ]


def test_words_from_elsewhere_are_no_markdown() -> None:
    from recray.console import shown

    assert shown.plain("![x](http://a/b.png) costs $5 *or* _more_ of item_count_7d, `recray drift`") == (
        r"!\[x\](http://a/b.png) costs \$5 \*or\* \_more\_ of item_count_7d, `recray drift`"
    )


def side() -> None:
    from recray.console import app

    app._side()


def test_the_token_of_the_process_goes_to_no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECRAY_ADMIN_TOKEN", "of-the-process")
    monkeypatch.setenv("RECRAY_CONSOLE_SERVER", "http://127.0.0.1:9")
    at = AppTest.from_function(side, default_timeout=30).run()
    assert not at.exception
    assert at.session_state["token"] == "of-the-process"
    assert "of-the-process" not in str([each.proto for each in at.text_input])
    at.text_input(key="server").set_value("http://127.0.0.1:10").run()
    assert at.session_state["token"] == "", "no server but its own has it"


def test_a_log_in_which_nothing_was_shown_is_said(shop: Shop) -> None:
    LogWriter(paths.events_dir() / APPLICATION).close()
    at = page("business")
    at.button[0].click().run()
    assert not at.exception
    assert "no list was shown in that time" in texts(at)


def test_what_lists_earned_is_counted_from_the_log(shop: Shop) -> None:
    at = page("business")
    at.button[0].click().run()
    assert not at.exception
    assert at.error, "there is no log yet, and that is said"
    log = LogWriter(paths.events_dir() / APPLICATION)
    for n in range(40):
        did = [(CLICK, "i1", 1.0)] if n % 4 == 0 else []
        at_s = time.time() - DAY * (3 + n % 3)
        shown_list(log, f"list-{n}", str(100 + n), ["i0", "i1"], *did, at=at_s)
    log.close()
    at.selectbox[1].set_value("all of the log")
    at.button[0].click().run()
    assert not at.exception
    assert not at.error
    told = {each.label: each.value for each in at.metric}
    assert told["lists"] == "40"
    assert told["click rate"] == "25.00%"
    assert told["purchase rate"] == "0.00%"
    assert len(at.dataframe) == 2, "by arm, by version"
    assert "By day: click rate" in "".join(each.value for each in at.subheader)


def test_runs_have_curves_settings_and_ends(empty_home: Path) -> None:
    run = RunFolder(empty_home / "runs" / "shop-1")
    run.note_settings({"loop.metric": "ndcg@10", "model.dim": 64})
    for epoch in (1, 2, 3):
        report = {"epoch": epoch, "ndcg@10": 0.1 * epoch, "train_loss": 1 / epoch, "wall_s": 60.0 * epoch}
        history.append(run.folder, report)
    run.end(Outcome(state="failed", said="out of memory"))
    at = page("runs")
    assert not at.exception
    assert at.dataframe[0].value["best"].to_list() == [pytest.approx(0.3)]
    assert "out of memory" in texts(at)
    assert "validation ndcg@10" in texts(at)
    assert at.multiselect[0].value == ["shop-1"]


def test_data_shows_the_checks_worst_first(empty_home: Path) -> None:
    folder = empty_home / "datasets" / "shop"
    folder.mkdir(parents=True)
    (folder / "quality.json").write_text(
        """{"kept": 1200, "users": {"count": 30}, "items": {"count": 40}, "checks": [
        {"name": "Ratings", "level": "ok", "text": "fine"},
        {"name": "Times", "level": "warning", "text": "half are missing"}]}"""
    )
    (empty_home / "datasets" / "torn").mkdir()
    (empty_home / "datasets" / "torn" / "quality.json").write_text("{")
    at = page("data")
    assert not at.exception
    assert at.selectbox[0].options == ["shop"]
    assert {each.label: each.value for each in at.metric}["interactions"] == "1,200"
    said = texts(at)
    assert said.index("half are missing") < said.index("fine")


def test_two_versions_are_compared_for_a_user(shop: Shop) -> None:
    at = page("beside")
    assert f"{APPLICATION}:1" == at.selectbox[0].options[0], "what is in production comes first"
    at.selectbox[0].set_value(f"{APPLICATION}:1")
    at.selectbox[1].set_value(f"{APPLICATION}:2")
    at.text_input[0].set_value("103")
    at.button[0].click().run()
    assert not at.exception
    assert [each.value for each in at.subheader] == [f"{APPLICATION}:1", f"{APPLICATION}:2"]
    lists = [each.proto.body for each in at.get("html")]
    assert [each.count('role="listitem"') for each in lists] == [10, 10]
    shared = int(at.metric[0].value.split()[0])
    assert sum(each.count("only here") for each in lists) == 2 * (10 - shared)
    assert len(at.dataframe[0].value) == 20


def test_what_nobody_foresaw_is_a_sentence(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("recray.console.server.Server.get", lambda server, path: 1 / 0)
        at = page("versions", shop.url)
    assert not at.exception
    assert "could not be drawn (ZeroDivisionError" in texts(at)


def test_a_server_of_another_kind_is_no_traceback(empty_home: Path) -> None:
    async def strange(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"{}"})  # type: ignore[operator]

    with serving(strange) as port:
        for view in OF_THE_SERVER:
            at = page(view, f"http://127.0.0.1:{port}")
            assert not at.exception, view
            assert at.error, view
