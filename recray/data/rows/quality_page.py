"""The quality report of rows to rank as one HTML page."""

from matplotlib.axes import Axes

from recray.data.rows.quality import RowQuality
from recray.pages.page import figures, page, table
from recray.pages.palette import BLUE, GREY, ORANGE
from recray.pages.plots import Draw

_COLORS = {"train": BLUE, "validation": GREY, "test": ORANGE}


def render_rows(quality: RowQuality) -> str:
    """The page: counts, checks, parts, malformed lines, columns, plots."""
    unit = "session" if quality.sessions else "row"
    total = sum(part.rows for part in quality.parts)
    tiles = {f"{part.name} rows": f"{part.rows:,}" for part in quality.parts}
    if quality.sessions:
        tiles["sessions"] = f"{sum(part.units for part in quality.parts):,}"
    tiles |= {
        "dense columns": str(len(quality.dense)),
        "sparse columns": str(len(quality.ids)),
        "positive in train": f"{quality.parts[0].positive_share:.2%}",
        "malformed lines": f"{quality.malformed.count:,}",
    }
    lead = (
        f"{total:,} rows, split by {quality.split}. Every figure is over all rows; statistics of columns are "
        "of the training part. The same numbers are in quality.json."
    )
    sections = [
        _parts(quality, unit),
        _malformed(quality),
        _dense(quality),
        _ids(quality),
        figures(_plots(quality)),
    ]
    return page(quality.name, lead, tiles, quality.checks, "\n".join(sections))


def _parts(quality: RowQuality, unit: str) -> str:
    labels = sorted({label for part in quality.parts for label in part.labels}, key=float)
    rows = [
        (
            part.name,
            f"{part.rows:,}",
            f"{part.units:,}",
            f"{part.positive_share:.2%}",
            *(f"{part.labels.get(label, 0):,}" for label in labels),
        )
        for part in quality.parts
    ]
    return table("Parts", ("", "rows", f"{unit}s", "positive", *(f"label {label}" for label in labels)), rows)


def _malformed(quality: RowQuality) -> str:
    if not quality.malformed.samples:
        return ""
    rows = [
        (sample["problem"], f"{sample['file']}, line {sample['line']:,}", sample["text"])
        for sample in quality.malformed.samples
    ]
    return table("Malformed lines, the first of them", ("what is wrong", "where", "text"), rows)


def _dense(quality: RowQuality) -> str:
    head = ("dense column", "missing", "lowest", "mean", "highest", "deviation")
    rows = [
        (d.name, f"{d.missing:.1%}", *(f"{value:,.4g}" for value in (d.low, d.mean, d.high, d.std)))
        for d in quality.dense
    ]
    return table("Dense columns", head, rows)


def _ids(quality: RowQuality) -> str:
    if not quality.ids:
        return ""
    head = ("sparse column", "table rows", "ids in use", "share of the most frequent")
    parts = [part.name for part in quality.parts]
    rows = [
        (
            ids.name,
            f"{ids.size:,}",
            f"{ids.used:,}",
            f"{ids.top_share:.1%}",
            *(f"{part.unknown[ids.name]:.1%}" for part in quality.parts),
        )
        for ids in quality.ids
    ]
    return table("Sparse columns", (*head, *(f"unknown in {name}" for name in parts)), rows)


def _plots(quality: RowQuality) -> dict[str, Draw]:
    plots: dict[str, Draw] = {"Share of positives along each part": lambda axes: _draw_rates(axes, quality)}
    if quality.ids:
        plots["Rows without a known id"] = lambda axes: _draw_unknown(axes, quality)
    return plots


def _draw_rates(axes: Axes, quality: RowQuality) -> None:
    for part in quality.parts:
        steps = max(len(part.rates) - 1, 1)
        places = [100 * n / steps for n in range(len(part.rates))]
        axes.plot(places, [100 * rate for rate in part.rates], color=_COLORS[part.name], label=part.name)
    axes.set(xlabel="% of the part", ylabel="% positive", ylim=(0, None))
    axes.legend()


def _draw_unknown(axes: Axes, quality: RowQuality) -> None:
    train, test = quality.parts[0], quality.parts[-1]
    names = [ids.name for ids in quality.ids]
    places = range(len(names))
    axes.bar(
        [p - 0.2 for p in places], [100 * train.unknown[n] for n in names], 0.4, color=BLUE, label="train"
    )
    axes.bar(
        [p + 0.2 for p in places], [100 * test.unknown[n] for n in names], 0.4, color=ORANGE, label="test"
    )
    axes.set_xticks(places, names)
    axes.tick_params(axis="x", rotation=60, labelsize=8)
    axes.set_ylabel("% of rows")
    axes.legend()
