"""The notebooks teach what runs: each from the package alone, without a warning."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_docs import NOTEBOOKS, REPO, words_of

GLOSSARY = set(re.findall(r"^### (.*)$", (REPO / "docs" / "handbook" / "glossary.md").read_text(), re.M))
NEEDED = {*sys.stdlib_module_names, "numpy", "polars", "torch", "recray"}
NO_TERMS = r"\d\.|What we assume\.|Pitfall\."
# As `python FILE`, but also what numpy, torch and polars warn of is told, wherever it comes from.
RUN = """
import runpy, sys, warnings
warnings.simplefilter("default")
runpy.run_path(sys.argv[1], run_name="__main__")
"""
# Of Ray, its dependencies and the interpreter, as in pyproject.toml.
OTHERS = ("DeprecationWarning", "FutureWarning", "ResourceWarning")

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def test_they_are_read_in_order() -> None:
    assert [path.name[:3] for path in NOTEBOOKS] == [
        f"{number:02}_" for number in range(1, len(NOTEBOOKS) + 1)
    ]
    first_page = (REPO / "docs" / "handbook" / "README.md").read_text()
    assert re.findall(r"^\| \[[^\]]+\]\((\w+\.py)\)", first_page, re.M) == [path.name for path in NOTEBOOKS]


@each_notebook
def test_assumptions_come_first_and_questions_last(notebook: Path) -> None:
    words = words_of(notebook)
    assert words.count("**What we assume.**") == 1
    assert words.index("**What we assume.**") < words.index("\n## ")
    questions = words.split("\n## Three questions\n")[1]
    asked = re.findall(r"^\*\*(\d)\. ([^*]+[?.])\*\*\n\n(\S[^\n]*)", questions, re.M)
    assert [number for number, *_ in asked] == ["1", "2", "3"]
    assert "\n## " not in questions
    assert all(len(answer) > 40 for *_, answer in asked)


@each_notebook
def test_every_term_in_bold_is_explained(notebook: Path) -> None:
    told = (" ".join(one.split()) for one in re.findall(r"\*\*(.+?)\*\*", words_of(notebook), re.S))
    terms = {re.sub(r"@\d+", "@k", one.lower()) for one in told if not re.match(NO_TERMS, one)}
    assert {one for one in terms if not {one, one.removesuffix("s"), f"{one}s"} & GLOSSARY} == set()


@each_notebook
def test_only_public_names_of_the_package_are_used(notebook: Path) -> None:
    tree = ast.parse(notebook.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            paths = (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
            )
            assert all(path.split(".")[0] in NEEDED for path in paths), paths
            names = [part for path in paths for part in path.split(".")] + [one.name for one in node.names]
            assert not [name for name in names if name.startswith("_")]
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), node.attr


@pytest.mark.slow
@each_notebook
def test_it_runs_without_a_warning(notebook: Path, tmp_path: Path) -> None:
    """In a folder where nothing lies, so that it uses nothing but the installed package."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("RECRAY_")}
    environment = {**known, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(notebook)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    warned = re.findall(r"^.*\b\w*Warning: .*$", done.stderr, re.M)
    assert [line for line in warned if not any(f"{kind}: " in line for kind in OTHERS)] == []


@pytest.mark.slow
def test_the_readme_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a shop of a few hundred events."""
    (tmp_path / "shop").mkdir()
    people = ["ada", "bob", *(f"u{n}" for n in range(30))]
    lines = ["user_id,item_id,timestamp"] + [
        f"{who},sku-{(at + 3 * n) % 20},{1_700_000_000 + 60 * at + 3_600 * n}"
        for at, who in enumerate(people)
        for n in range(8)
    ]
    (tmp_path / "shop" / "events.csv").write_text("\n".join(lines))
    products = ["item_id,title", *(f"sku-{n},Product {n}" for n in range(22))]
    (tmp_path / "shop" / "products.csv").write_text("\n".join(products))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    [block] = re.findall(r"```python\n(.*?)```", (REPO / "README.md").read_text(), re.S)
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    assert len(names["model"].recommend(["ada", "bob"], k=10)) == 20  # type: ignore[attr-defined]
