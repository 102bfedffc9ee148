"""Charts of the console, in the colours of all pages; Streamlit gives them its light or dark ground."""

from collections.abc import Mapping, Sequence

import altair as alt
import polars as pl

from recray.pages.palette import BLUE, GREY, ORANGE

HEIGHT, ENDS = 220, (-0.2, 1.2)
LEGEND = 3  # names side by side: more are cut off on a telephone


def over_time(points: pl.DataFrame, columns: Mapping[str, str], unit: str, height: int = HEIGHT) -> alt.Chart:
    """Lines over ``at`` (unix seconds).

    Args:
        columns: of the frame, and what each is called.
    """
    told = points.select(
        pl.from_epoch((pl.col("at") * 1e3).cast(pl.Int64), time_unit="ms").alias("time"),
        *(pl.col(column).cast(pl.Float64).alias(name) for column, name in columns.items()),
    )
    long = told.unpivot(index="time", variable_name="what", value_name=unit).drop_nulls()
    return lines(long, "time:T", unit, "what", list(columns.values()), height, from_zero=True)


def lines(
    long: pl.DataFrame,
    x: str,
    y: str,
    by: str,
    names: Sequence[str],
    height: int = HEIGHT,
    *,
    from_zero: bool = False,
) -> alt.Chart:
    """A line for each of ``names``; a dot where there is one value only."""
    color = alt.Color(
        f"{by}:N",
        scale=alt.Scale(domain=list(names)),  # the theme has the colours of either ground
        legend=alt.Legend(orient="top", title=None, columns=LEGEND) if len(names) > 1 else None,
    )
    chart: alt.Chart = (
        alt.Chart(long)
        .mark_line(point=alt.OverlayMarkDef(size=18), strokeWidth=2)
        .encode(
            x=alt.X(x, title=None, axis=alt.Axis(format="%H:%M:%S", tickCount=4))
            if x == "time:T"
            else alt.X(x),
            y=alt.Y(f"{y}:Q", title=y, scale=alt.Scale(zero=from_zero, nice=True)),
            color=color,
            tooltip=[x, alt.Tooltip(f"{y}:Q", format=".4g"), f"{by}:N"],
        )
        .properties(height=height)
    )
    return chart


def with_interval(days: pl.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """A share by day, in the band of its interval.

    Args:
        days: ``day``, ``mean``, ``low``, ``high``.
    """
    of_day = alt.Chart(days).encode(x=alt.X("day:T", title=None))
    axis = alt.Axis(format=".1%")
    told = [
        alt.Tooltip("day:T"),
        *(alt.Tooltip(f"{each}:Q", format=".2%") for each in ("mean", "low", "high")),
    ]
    band = of_day.mark_area(opacity=0.2, color=BLUE).encode(
        y=alt.Y("low:Q", axis=axis, title=None), y2="high:Q"
    )
    line = of_day.mark_line(color=BLUE, point=True).encode(y="mean:Q", tooltip=told)
    return alt.layer(band, line).properties(height=HEIGHT)


def evidence(rows: pl.DataFrame) -> alt.Chart:
    """How far each check is to its verdict: 1 and it has spoken.

    Args:
        rows: ``check``, ``candidate``, ``evidence`` (share of what speaks).
    """
    spoken = pl.col("evidence") >= 1
    data = rows.with_columns(shown=pl.col("evidence").clip(-0.2, 1.2), spoken=spoken)
    chart: alt.Chart = (
        alt.Chart(data)
        .mark_bar(height=14, cornerRadius=3)
        .encode(
            x=alt.X("shown:Q", title="evidence that it is worse; 1 decides", scale=alt.Scale(domain=ENDS)),
            y=alt.Y("check:N", title=None, sort=None),
            color=alt.condition("datum.spoken", alt.value(ORANGE), alt.value(BLUE)),
            tooltip=["check:N", alt.Tooltip("evidence:Q", format=".2f")],
        )
        .properties(height=28 * len(rows) + 40)
    )
    return chart


def side_by_side(names: Sequence[str], reference: Sequence[float], window: Sequence[float]) -> alt.Chart:
    """Two histograms over the same bars: what was, and what is."""
    frame = pl.DataFrame(
        {
            "bar": [*names, *names],
            "share": [*reference, *window],
            "when": ["reference"] * len(names) + ["window"] * len(names),
        }
    )
    chart: alt.Chart = (
        alt.Chart(frame)
        .mark_bar()
        .encode(
            x=alt.X("bar:N", sort=None, title=None, axis=alt.Axis(labelAngle=-40, labelLimit=90)),
            xOffset=alt.XOffset("when:N", sort=None),
            y=alt.Y("share:Q", axis=alt.Axis(format=".0%"), title="share of the rows"),
            color=alt.Color(
                "when:N",
                scale=alt.Scale(domain=["reference", "window"], range=[GREY, BLUE]),
                legend=alt.Legend(orient="top", title=None),
            ),
            tooltip=["bar:N", "when:N", alt.Tooltip("share:Q", format=".1%")],
        )
        .properties(height=HEIGHT)
    )
    return chart
