"""The colours of every page and plot, light and dark, and the style sheet of pages.

Series are Okabe and Ito's set ("Color Universal Design", 2008), which people with any colour vision tell
apart; in the dark they are lighter, at the same hues.
"""

from typing import NamedTuple


class Tone(NamedTuple):
    """One colour, by the ground that it stands on."""

    light: str
    dark: str


TONES = {
    "ground": Tone("#f4f6f8", "#14181d"),
    "card": Tone("#ffffff", "#1d2329"),
    "line": Tone("#e1e6eb", "#323b45"),
    "ink": Tone("#1f2933", "#e6eaee"),
    "quiet": Tone("#5b6875", "#9fabb7"),
    "grey": Tone("#8a94a0", "#76818d"),
    "blue": Tone("#0072b2", "#5cb8ee"),
    "orange": Tone("#d55e00", "#ff9150"),
    "green": Tone("#00805e", "#3fcfa6"),
    "purple": Tone("#a3528a", "#dd9fca"),
    "yellow": Tone("#b58900", "#edc44a"),
    "red": Tone("#b3261e", "#ff8a80"),
    "ok": Tone("#e0f3ea", "#173a2d"),
    "note": Tone("#e3eef7", "#1b3346"),
    "warning": Tone("#fdeadb", "#4a2b14"),
}
"""By name; a style sheet knows each as ``--name``."""

INK, GREY, BLUE, ORANGE = (TONES[name].light for name in ("ink", "grey", "blue", "orange"))
GREEN, PURPLE, YELLOW, RED = (TONES[name].light for name in ("green", "purple", "yellow", "red"))
SERIES = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, GREY)
"""One after the other, of what is drawn side by side."""


def _variables(ground: str) -> str:
    return " ".join(f"--{name}: {getattr(tone, ground)};" for name, tone in TONES.items())


SHEET = f"""
:root {{ color-scheme: light dark; {_variables("light")} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_variables("dark")} }} }}
* {{ box-sizing: border-box; }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 0; }}
main {{ max-width: 1080px; margin: 0 auto; padding: 32px 20px 48px; }}
h1 {{ font-size: 26px; line-height: 1.25; margin: 0 0 4px; }} h2 {{ font-size: 17px; margin: 32px 0 12px; }}
.lead {{ color: var(--quiet); margin: 0 0 24px; }} a {{ color: var(--blue); }}
code {{ font: 13px ui-monospace, monospace; background: var(--note); border-radius: 4px; padding: 1px 4px; }}
.tiles {{ display: grid; grid-template-columns: repeat(var(--columns, 4), 1fr); gap: 12px; }}
.tile, .card {{ background: var(--card); border: 1px solid var(--line); border-radius: 10px; }}
.tile {{ padding: 14px 16px; }} 
.tile b {{ display: block; font-size: 21px; font-weight: 650; line-height: 1.3; }}
.tile b.long {{ font-size: 16px; }}
.tile span {{ color: var(--quiet); font-size: 13px; }}
.card {{ padding: 8px 16px; overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{ padding: 8px 14px 8px 0; text-align: left; vertical-align: top; }}
tr + tr td {{ border-top: 1px solid var(--line); }}
th {{ color: var(--quiet); font-weight: 500; font-size: 13px; }}
td.number, th.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
.level {{ display: inline-block; min-width: 62px; text-align: center; border-radius: 99px; font-size: 12px;
  padding: 1px 9px; }}
td:has(> .level) {{ width: 90px; }} td:has(> .level) + td {{ width: 24%; }}
.ok {{ background: var(--ok); }} .note {{ background: var(--note); }}
.warning {{ background: var(--warning); }}
.plots {{ display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); }}
figure {{ margin: 0; padding: 14px 16px 6px; }} figcaption {{ font-weight: 600; }}
svg {{ width: 100%; height: auto; }}
@media (max-width: 700px) {{
  main {{ padding: 20px 12px 32px; }} .tiles {{ grid-template-columns: 1fr 1fr; }}
  .tile:last-child:nth-child(odd) {{ grid-column: span 2; }}
}}
"""
