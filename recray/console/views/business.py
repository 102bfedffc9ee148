"""What the lists earned: clicks, purchases, revenue, coverage; by arm, by version, by day."""

import math
from typing import TYPE_CHECKING, Any

import polars as pl
import streamlit as st

from recray.console import charts, shown
from recray.store import Store

if TYPE_CHECKING:
    from recray.pipelines.business import BusinessReport, Part

WINDOWS = {"the last day": 24.0, "the last week": 168.0, "all of the log": 0.0}
KEPT_S = 600


def show() -> None:
    shown.title("Business", "What the lists earned, as the event log of this home says; users are the unit.")
    names = Store().applications()
    if not names:
        shown.empty("The store of this home is empty.", "`recray train` publishes a version.")
        return
    with st.form("counted", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        application = st.selectbox("Application", names, index=_ranker_first(names))
        window = st.selectbox("Lists of", list(WINDOWS))
        asked = st.form_submit_button("Count", type="primary")
    if asked:
        with shown.said(), st.spinner("counting (less than a minute for a million lists)"):
            st.session_state["business"] = _counted(application, WINDOWS[window])
    if report := st.session_state.get("business"):
        _draw(report)
    elif not asked:
        shown.empty("Nothing was counted yet.")


def _ranker_first(names: list[str]) -> int:
    return next((place for place, name in enumerate(names) if name.endswith("-ranker")), 0)


@st.cache_data(ttl=KEPT_S, max_entries=8, show_spinner=False)
def _counted(application: str, hours: float) -> "BusinessReport":
    from recray.pipelines.business import BusinessConfig, business  # PyTorch takes seconds to import

    return business(Store(), application, BusinessConfig(), hours=hours or None, by_day=True)


def _draw(report: "BusinessReport") -> None:
    from recray.pipelines.business import METRICS

    whole = report.whole
    told = {"lists": f"{whole.lists:,}", "users": f"{whole.users:,}"}
    told |= {metric.name.replace("_", " "): _mean(whole, metric.name) for metric in METRICS[:3]}
    told |= {
        "revenue per list": _mean(whole, "revenue_per_list"),
        "of the catalogue": f"{whole.coverage:.1%}",
    }
    shown.tiles(told)
    st.caption(
        f"{report.application}; an outcome counts within {report.attribution} of its list; "
        f"{report.open_lists:,} lists may still get some, {report.empty_lists:,} were empty"
    )
    if whole.few:
        st.warning(whole.few)
    for title, parts in (("By arm", report.arms), ("By version", report.versions)):
        if parts:
            st.subheader(title, anchor=False)
            shown.table([_row(part) for part in parts])
    if len(report.days) > 1:
        st.subheader("By day: click rate, with its 95 % interval", anchor=False)
        st.altair_chart(charts.with_interval(_by_day(report)), key="days")


def _by_day(report: "BusinessReport") -> pl.DataFrame:
    rows = [(part.name, *part.metrics["click_rate"]) for part in report.days]
    return pl.DataFrame(rows, schema=["day", "mean", "low", "high"], orient="row").with_columns(
        pl.col("day").str.to_date()
    )


def _row(part: "Part") -> dict[str, Any]:
    from recray.pipelines.business import METRICS

    rates = {metric.text: _interval(part, metric.name) for metric in METRICS}
    return {"name": part.name, "lists": part.lists, "users": part.users, **rates, "note": part.few}


def _form(name: str, value: float) -> str:
    return f"{value:,.2f}" if name == "revenue_per_list" else f"{value:.2%}"


def _mean(part: "Part", name: str) -> str:
    mean = part.metrics[name].mean
    return "–" if math.isnan(mean) else _form(name, mean)


def _interval(part: "Part", name: str) -> str:
    mean, low, high = part.metrics[name]
    if math.isnan(mean):
        return "–"
    return _form(name, mean) + ("" if math.isnan(low) else f" [{_form(name, low)}, {_form(name, high)}]")
