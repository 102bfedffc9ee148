"""Tables of the README and the handbook, and the ratios that gates of speed hold, made of
``benchmarks/results`` (those of the architecture: of the code): no figure in them is typed.

python -m benchmarks.tables             # after a benchmark wrote its result: renews every table
python -m benchmarks.tables --check     # status 1, and a line for each, where one is not what its results say

A table follows the line ``<!-- table: NAME -->`` of a page. The last line is one JSON object.
"""

import argparse
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.tables_house import house, life
from benchmarks.tables_pages import (
    baselines,
    experiment,
    gates,
    killed_searches,
    planted_drift,
    rollouts,
    searches,
    sequences,
    small_clicks,
    unchanged_streams,
    which_model,
)
from benchmarks.tables_readme import numbers, short
from benchmarks.tables_results import result
from benchmarks.tables_served import canaries, chaos, costs, kills, rules

REPO = Path(__file__).parent.parent
GATES = Path(__file__).parent / "gates.json"
TABLES: dict[str, Callable[[], str]] = {
    "numbers": numbers,
    "in short": short,
    "house": house,
    "life of a run": life,
    "which model": which_model,
    "baselines": partial(baselines, "baselines", ("ease",)),
    "ml-100k retrievers": partial(baselines, "ml-100k-retrievers", ("ease", "ials")),
    "waits": partial(baselines, "waits", ("mamba", "ss4rec, no waits")),
    "small clicks": small_clicks,
    "experiment": experiment,
    "gates": gates,
    "searches": searches,
    "killed searches": killed_searches,
    "ml-100k sequences": partial(sequences, "ml-100k-sequence"),
    "ml-1m sequences": partial(sequences, "ml-1m-sequence"),
    "rules": rules,
    "kills": kills,
    "chaos": chaos,
    "rollouts": rollouts,
    "canaries": canaries,
    "costs": costs,
    "unchanged streams": unchanged_streams,
    "planted drift": planted_drift,
}
MARKED = re.compile(r"<!-- table: (?P<name>[^\n]+) -->\n(?P<table>(?:\|[^\n]*\n)*)")


def pages() -> list[Path]:
    return [REPO / "README.md", *sorted((REPO / "docs").rglob("*.md"))]


def renewed(page: str) -> str:
    """The page with each of its tables as its results are now.

    Raises:
        KeyError: a mark names no table.
    """
    return MARKED.sub(lambda found: f"<!-- table: {found['name']} -->\n{TABLES[found['name']]()}\n", page)


def with_ratios(gates: str) -> str:
    """``gates.json`` with each ratio as its result is now."""
    said = json.loads(gates)
    for gate in said:
        if gate["kind"] == "speed":
            found = result(gate["asks"][0])
            for part in gate["metric"].split("."):
                found = found[part]
            gate["value"] = float(found)
    return json.dumps(said, indent=1) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    stale = []
    for path in (*pages(), GATES):
        page = path.read_text()
        if (now := with_ratios(page) if path == GATES else renewed(page)) != page:
            stale.append(str(path.relative_to(REPO)))
            print(f"{stale[-1]}: {'not what its results say' if options.check else 'renewed'}")
            if not options.check:
                path.write_text(now)
    print(json.dumps({"tables": len(TABLES), "pages": stale}))
    raise SystemExit(1 if options.check and stale else 0)


if __name__ == "__main__":
    main()
