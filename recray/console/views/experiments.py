"""Experiments on live traffic: arms, evidence, verdicts."""

import math
import time
from collections.abc import Mapping
from typing import Any

import polars as pl
import streamlit as st

from recray.console import charts, shown
from recray.console.views import versions

LOOK_EVERY_S = 3
KEPT = 400  # looks
COLORS: dict[str, shown.Color] = {"promote": "green", "hold": "gray", "roll back": "red"}


def show() -> None:
    shown.title(
        "Experiments",
        "Who gets which version, what each shows so far, and what follows. One may always look.",
    )

    @st.fragment(run_every=LOOK_EVERY_S)
    def look() -> None:
        with shown.said():
            _all(shown.server().get("/traffic"))

    look()
    # Beside what is drawn anew all the time: a question would be gone before it is answered.
    with shown.said():
        if running := shown.server().get("/traffic")["experiments"]:
            st.subheader("Change them", anchor=False)
            allowed = shown.may_change()
            for one in running:
                first = "resume" if one["paused"] else "pause"
                versions.turns(one["name"], [first, "stop", "refuse"], allowed)


def _all(traffic: Mapping[str, Any]) -> None:
    if traffic["problem"]:
        st.warning(shown.plain(traffic["problem"]))
    if not traffic["experiments"]:
        shown.empty("No experiment runs.", "Start a canary among the versions; `recray ab` compares several.")
    for one in traffic["experiments"]:
        with st.container(border=True):
            _one(one)
    if traffic["refused"]:
        st.subheader("Refused versions", anchor=False)
        shown.table(traffic["refused"])


def _one(one: Mapping[str, Any]) -> None:
    state = "paused" if one["paused"] else "acts on its verdict" if one["acts"] else "only says"
    st.subheader(f"{one['name']}: {one['kind']}", anchor=False)
    minutes, who = one["running_s"] / 60, one["by"] or "nobody named"
    st.caption(shown.plain(f"{state} · {minutes:.0f} min · by {who} · group {one['group']}"))
    for candidate, verdict in one["verdicts"].items():
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(verdict["action"], color=COLORS.get(verdict["action"], "gray"))
            st.markdown(f"**{shown.plain(candidate)}**: {shown.plain(verdict['reason'])}")
    numbers = one["numbers"]
    if numbers is None:
        shown.empty("Nothing was shown yet.")
    elif "arms" in numbers:
        _compared(one, numbers)
    else:
        _tiles(numbers)


def _compared(one: Mapping[str, Any], numbers: Mapping[str, Any]) -> None:
    shares = {arm["name"]: arm for arm in one["arms"]}
    rows = [
        {
            "arm": name,
            "version": shares[name]["version"],
            "share": shares[name]["share"],
            "users": arm["users"],
            "answers": arm["requests"],
            **arm["rates"],
            "p50 ms": arm["p50_ms"],
            "p95 ms": arm["p95_ms"],
        }
        for name, arm in numbers["arms"].items()
    ]
    rates = {name for arm in numbers["arms"].values() for name in arm["rates"]}
    form = {name: st.column_config.NumberColumn(format="percent") for name in ("share", *rates)}
    shown.table(rows, **form)
    told = pl.DataFrame(
        [
            {"check": check["name"], "candidate": candidate, "evidence": check["log_e"] / check["level"]}
            for candidate, checks in numbers["checks"].items()
            for check in checks
            if check["level"] and math.isfinite(check["log_e"])
        ]
    )
    for [candidate], part in told.group_by("candidate", maintain_order=True) if len(told) else ():
        st.altair_chart(charts.evidence(part), key=f"evidence {one['name']} {candidate}")
    _sequences(one["name"], told)
    if numbers["sample_ratio"]["crossed"]:
        st.error(
            "Users did not come to the arms in the shares that were meant: no other number can be trusted."
        )


def _sequences(name: str, told: pl.DataFrame) -> None:
    """The evidence of each candidate as it went since this page was opened."""
    for [candidate], part in told.group_by("candidate", maintain_order=True) if len(told) else ():
        key = shown.server().url, name, str(candidate)  # another server may have one of that name
        kept = st.session_state.setdefault("evidence", {}).setdefault(key, [])
        kept.append(part.with_columns(at=pl.lit(time.time())))
        del kept[:-KEPT]
        if len(kept) >= 3:
            _sequence(name, str(candidate), kept)


def _sequence(name: str, candidate: str, kept: list[pl.DataFrame]) -> None:
    long = pl.concat(kept).select(
        pl.from_epoch((pl.col("at") * 1e3).cast(pl.Int64), time_unit="ms").alias("time"), "check", "evidence"
    )
    names = list(dict.fromkeys(long["check"]))
    with st.expander(f"{candidate} since this page was opened", icon=":material/timeline:"):
        chart = charts.lines(long, "time:T", "evidence", "check", names)
        st.altair_chart(chart, key=f"sequence {name} {candidate}")


def _tiles(numbers: Mapping[str, Any]) -> None:
    told = {}
    for name, value in numbers.items():
        if isinstance(value, int | float):
            told[name.replace("_", " ")] = f"{value:,.4g}"
        elif isinstance(value, list) and value:
            told[name.replace("_", " ")] = " to ".join("?" if end is None else f"{end:.3f}" for end in value)
    shown.tiles(told)
