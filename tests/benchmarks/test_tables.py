"""The tables of the README and the handbook are those of the result files."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.baselines import TABLES as EXPERIMENTS
from benchmarks.baselines import Table
from benchmarks.tables import MARKED, REPO, TABLES, pages, renewed
from benchmarks.tables_results import Evaluated, markdown, of_seeds, with_bounds
from recray.pipelines.experiment import read_experiment


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_to_make_them_again_changes_nothing(path: Path) -> None:
    """Where it does: ``python -m benchmarks.tables``."""
    assert renewed(path.read_text()) == path.read_text()


def test_each_table_stands_somewhere() -> None:
    named = [found["name"] for path in pages() for found in MARKED.finditer(path.read_text())]
    assert sorted(named) == sorted(TABLES)


def test_no_other_figure_stands_among_the_numbers() -> None:
    section = (REPO / "README.md").read_text().split("## Numbers")[1].split("\n## ")[0]
    assert [found["name"] for found in MARKED.finditer(section)] == ["numbers"]
    assert "\n|" not in MARKED.sub("", section)


@pytest.mark.parametrize("name", TABLES)
def test_a_figure_that_somebody_typed_does_not_stay(name: str) -> None:
    made = f"before\n\n<!-- table: {name} -->\n{TABLES[name]()}\n\nafter 12\n"
    typed = re.sub(r"\d(?=[^\d]*\n\nafter)", lambda digit: str((int(digit[0]) + 1) % 10), made)
    assert typed != made
    assert renewed(typed) == renewed(f"before\n\n<!-- table: {name} -->\n\nafter 12\n") == made


def test_a_mark_that_names_no_table_is_an_error() -> None:
    with pytest.raises(KeyError, match="numbrs"):
        renewed("<!-- table: numbrs -->\n")


def test_a_figure_is_that_of_its_file() -> None:
    """By hand, of one row and one file."""
    found = json.loads((REPO / "benchmarks/results/ml-100k-leave-one-out.json").read_text())
    a, b, c = (row["ndcg@10"]["mean"] for row in found["rows"] if row["model"] == "two_tower")
    said = f"two-tower {(a + b + c) / 3:.4f} (three seeds {min(a, b, c):.4f} to {max(a, b, c):.4f}), ItemKNN"
    assert said in TABLES["numbers"]()
    assert of_seeds([0.1, 0.25]) == "0.1750 (two seeds 0.1000 to 0.2500)"
    assert with_bounds({"mean": 0.5, "low": -0.25, "high": 1}, "+") == "+0.5000 [-0.2500, +1.0000]"
    assert markdown(["a", "b"], [["", "2"]]) == "| a | b |\n| --- | --- |\n| | 2 |"


def test_what_a_file_does_not_hold_is_an_error() -> None:
    with pytest.raises(ValueError, match="no 'two_towers', there are"):
        Evaluated("ml-100k-leave-one-out").mean("two_towers")
    with pytest.raises(ValueError, match="too many values"):
        Evaluated("ml-100k-leave-one-out").interval("two_tower")  # of three seeds


@pytest.mark.parametrize("one", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_the_baselines_are_those_of_their_experiment(one: Table) -> None:
    rows, experiment = json.loads(one.result.read_text()), read_experiment(one.experiment)
    assert {row["dataset"] for row in rows} == set(experiment.datasets)
    assert {row["model"] for row in rows} <= {each.title or each.model for each in experiment.models}
