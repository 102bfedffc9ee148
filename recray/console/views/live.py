"""How the server does: requests, latency, errors, stages; a look every two seconds."""

import polars as pl
import streamlit as st

from recray.console import charts, shown
from recray.console.samples import Samples
from recray.console.server import versions_in_words

LOOK_EVERY_S = 2
COLORS: dict[str, shown.Color] = {"ok": "green", "degraded": "orange"}


def show() -> None:
    shown.title("Live", "Requests, latency and errors, every two seconds since this page was opened.")

    @st.fragment(run_every=LOOK_EVERY_S)
    def look() -> None:
        with shown.said():
            _health()
            samples = st.session_state.setdefault(f"samples {shown.server().url}", Samples())
            samples.look(shown.server().text("/metrics"))
            _draw(samples)

    look()


def _health() -> None:
    health = shown.server().get("/health")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(health["status"], color=COLORS.get(health["status"], "red"))
        st.caption(versions_in_words(health["serving"]) or "nothing is loaded")
        if health["known_until"]:
            st.caption(f"knows events until {health['known_until'][:16].replace('T', ' ')} UTC")
    if health["problem"]:
        st.warning(shown.plain(health["problem"]))


def _draw(samples: Samples) -> None:
    if not samples.points:
        shown.empty("Rates follow once a replica was met twice.")
        return
    last = samples.points[-1]
    tiles = {
        "requests / s": f"{last.requests_per_s:.1f}",
        "p50": _ms(last.p50_ms),
        "p95": _ms(last.p95_ms),
        "server errors": "none" if not last.errors else f"{last.errors:.2%}",
        "in flight": f"{last.in_flight:.0f}",
    }
    shown.tiles(tiles)
    points = pl.DataFrame([point._asdict() for point in samples.points], infer_schema_length=None)
    left, right = st.columns(2)
    left.altair_chart(charts.over_time(points, {"requests_per_s": "requests"}, "requests / s"), key="rate")
    if points["p50_ms"].null_count() < len(points):
        drawn = charts.over_time(points, {"p50_ms": "p50", "p95_ms": "p95"}, "ms")
        right.altair_chart(drawn, key="latency")
    else:
        with right:
            shown.empty("Nobody asked for anything since this page was opened.")
    if samples.stages:
        st.subheader("By stage, since the server's start", anchor=False)
        rows = [
            {"stage": stage, "p50 ms": low, "p95 ms": high}
            for stage, (low, high) in sorted(samples.stages.items(), key=lambda one: -one[1][1])
        ]
        form = {name: st.column_config.NumberColumn(format="%.2f") for name in ("p50 ms", "p95 ms")}
        shown.table(rows, **form)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} ms"
