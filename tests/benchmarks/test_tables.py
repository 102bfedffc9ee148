"""The tables of the README and the handbook are those of the result files."""

import ast
import json
import re
from pathlib import Path

import pytest

from benchmarks.baselines import TABLES as EXPERIMENTS
from benchmarks.baselines import Table
from benchmarks.tables import MARKED, REPO, TABLES, pages, renewed
from benchmarks.tables_house import first_sentence, floor, house, life, rooms, stands_on
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
    for page, name in (("README.md", "in short"), ("docs/handbook/numbers.md", "numbers")):
        text = (REPO / page).read_text()
        assert [found["name"] for found in MARKED.finditer(text)] == [name]
        assert "\n|" not in MARKED.sub("", text)


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


def test_the_house_is_that_of_the_code() -> None:
    """Floors rise with imports, and what is left out of ``stands on`` is implied by what is not."""

    def below(name: str) -> set[str]:
        return {room for other in stands_on(name) for room in (other, *below(other))}

    assert rooms()["serve"] >= {"bundles", "models"}
    assert "train" not in below("serve")
    for name, imported in rooms().items():
        assert imported <= below(name), name
        assert all(floor(other) < floor(name) for other in imported), name
    assert f"| {floor('store')} | `store/` | The store of trained versions: " in house()


def test_the_life_of_a_run_is_in_the_order_of_its_calls() -> None:
    steps = re.findall(r"^\| \d+ \| `([\w.]+)` \|", life(), re.M)
    assert steps[0] == "recipe.open"
    assert (
        steps.index("find_leaks")
        < steps.index("fit")
        < steps.index("recipe.measure")
        < steps.index("recipe.draft")
    )


def test_a_room_that_does_not_say_what_it_is_is_an_error() -> None:
    with pytest.raises(ValueError, match="say in a sentence what it is"):
        first_sentence(ast.parse("x = 1"))
    assert first_sentence(ast.parse('"""One of ``two``\\nlines. And more."""')) == "One of `two` lines"
