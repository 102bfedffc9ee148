"""What all pages have in common: one palette on two grounds, no network, plots that say their values."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes

from recray.pages.check import Check
from recray.pages.page import figures, page
from recray.pages.palette import SERIES, SHEET, TONES
from recray.pages.plots import Picture, dated, svg

GROUNDS = ("light", "dark")


def luminance(color: str) -> float:
    """Relative, as WCAG 2.2 defines it."""
    channels = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize(
    ("ink", "on"),
    [
        ("ink", "ground"),
        ("ink", "card"),
        ("quiet", "ground"),
        ("quiet", "card"),
        ("ink", "ok"),
        ("ink", "note"),
        ("ink", "warning"),
    ],
)
def test_text_is_legible_on_what_it_stands_on(ground: str, ink: str, on: str) -> None:
    assert contrast(getattr(TONES[ink], ground), getattr(TONES[on], ground)) >= 4.5


@pytest.mark.parametrize("ground", GROUNDS)
def test_series_are_seen_on_a_card(ground: str) -> None:
    for tone in (tone for tone in TONES.values() if tone.light in SERIES):
        assert contrast(getattr(tone, ground), getattr(TONES["card"], ground)) >= 3


def draw(axes: Axes) -> None:
    for n, color in enumerate(SERIES):
        axes.plot([0, 1], [n, n], color=color)
    axes.set_ylabel("of all")


def test_a_plot_takes_the_colours_of_the_page() -> None:
    drawn = svg(draw, "lines")
    for tone in TONES.values():
        assert tone.light not in drawn or tone.light == TONES["card"].light
    assert set(re.findall(r"var\(--(\w+)\)", drawn)) <= set(TONES)
    assert drawn.count("var(--blue)") == 1
    assert "lines" in drawn


def test_a_plot_is_the_same_bytes_each_time() -> None:
    assert svg(draw) == svg(draw)


def test_a_page_asks_nobody_for_anything() -> None:
    made = page(
        "a < b", "lead", {"items": "3"}, [Check(name="n", level="ok", text="<t>")], figures({"p": draw})
    )
    assert "a &lt; b: data quality" in made
    assert "&lt;t&gt;" in made
    assert not re.search(r"""(?:src|href)=["']?https?:|@import|url\((?!#)""", made)
    assert "prefers-color-scheme: dark" in SHEET


@pytest.mark.parametrize(("tiles", "columns"), [(0, 1), (1, 1), (5, 5), (6, 6), (7, 4), (8, 4), (13, 5)])
def test_no_tile_is_alone_in_its_line(tiles: int, columns: int) -> None:
    made = page("name", "", {f"t{n}": "1" for n in range(tiles)}, [], "")
    assert f"--columns: {columns}" in made
    assert tiles % columns != 1 or tiles == columns or columns == 1


@pytest.mark.parametrize("hours", [6, 24 * 5, 24 * 200, 24 * 2000])
def test_ticks_of_time_do_not_repeat(hours: int) -> None:
    def over_time(axes: Axes) -> None:
        seconds_N = 1.7e9 + 3600.0 * np.linspace(0, hours, 50)
        axes.plot(dated(axes.xaxis, seconds_N), seconds_N)
        axes.set_yticks([])

    texts = [t.text for t in ElementTree.fromstring(svg(over_time)).iter("{http://www.w3.org/2000/svg}text")]
    assert 3 <= len(texts) == len(set(texts)) <= 8


def test_every_span_of_time_finds_its_ticks() -> None:
    for hours in np.unique(np.geomspace(1, 24 * 9_000, 60).astype(int)):

        def over_time(axes: Axes, hours: int = int(hours)) -> None:
            axes.plot(dated(axes.xaxis, np.array([1.7e9, 1.7e9 + 3600.0 * hours])), [0, 1])

        # A warning is an error here; the value axis has some eleven ticks of its own at most.
        assert 4 <= svg(over_time).count("<text") <= 20, hours


def test_a_picture_brings_the_colours_that_it_names() -> None:
    """A notebook's page is none of ours: without them all of a plot would be black."""
    shown = Picture(draw, "lines & more")._repr_html_()
    named = set(re.findall(r"var\(--(\w+)\)", shown))
    brought = {
        name: (light, dark)
        for name, light, dark in re.findall(r"--(\w+): light-dark\((#\w+), (#\w+)\)", shown)
    }
    assert named
    assert {name: brought[name] for name in named} == {name: tuple(TONES[name]) for name in named}
    assert "<figcaption" in shown
    assert "lines &amp; more" in shown


def test_a_picture_is_drawn_though_nobody_looks() -> None:
    def wrong(axes: Axes) -> None:
        raise ValueError("no such column")

    with pytest.raises(ValueError, match="no such column"):
        Picture(wrong, "never")
    assert repr(Picture(draw, "lines")) == "plot: lines"
