"""Tables of the architecture page, read from the code: nothing is imported, and nothing is typed."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from benchmarks.tables_results import markdown

ROOT = Path(__file__).parent.parent / "recray"
LIFE, RUN = ROOT / "pipelines" / "train.py", ROOT / "train" / "run.py"


def house() -> str:
    """Every room, the highest floor first: what it is, and on which rooms it stands."""
    rows = []
    for name in sorted(rooms(), key=lambda name: (-floor(name), name)):
        shown = f"`{name}/`" if (ROOT / name).is_dir() else f"`{name}.py`"
        rows.append([str(floor(name)), shown, first_sentence(_source(name)), ", ".join(stands_on(name))])
    return markdown(["floor", "room", "what it is", "stands on"], rows)


def life() -> str:
    """What the life of every run calls, in its order, in the words of what is called."""
    lived = _one(LIFE, "_lived")
    plain = {
        "find_leaks": _one(ROOT / "pipelines" / "leaks.py", "find_leaks"),
        "recorded": _one(ROOT / "launch" / "__init__.py", "recorded"),
        "fit": _one(LIFE, "fit"),
        "fit_again": _one(LIFE, "fit_again"),
    }
    steps: dict[str, str] = {}
    for call in sorted(_calls(lived), key=lambda call: (call.lineno, call.col_offset)):
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "recipe":
            steps[f"`recipe.{call.func.attr}`"] = first_sentence(_one(RUN, call.func.attr))
        elif isinstance(call.func, ast.Name) and call.func.id in plain:
            steps[f"`{call.func.id}`"] = first_sentence(plain[call.func.id])
    rows = [[str(n), *step] for n, step in enumerate(steps.items(), start=1)]
    return markdown(["", "step", "what it is"], rows)


@cache
def rooms() -> dict[str, set[str]]:
    """Of each folder or file of the package those that it imports."""
    names = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    found = {name: set[str]() for name in names if not name.startswith("__")}
    for name in found:
        for file in sorted((ROOT / name).rglob("*.py")) if (ROOT / name).is_dir() else [_source_file(name)]:
            found[name] |= {other for other in _imported(file) if other in found and other != name}
    return found


@cache
def floor(name: str) -> int:
    """0: it imports no room; else one above the highest that it imports."""
    return max((floor(other) + 1 for other in rooms()[name]), default=0)


def stands_on(name: str) -> list[str]:
    """The rooms that it imports, without those on which another of them stands already."""
    direct = rooms()[name]
    implied = set[str]().union(*(_below(other) for other in direct))
    return sorted(direct - implied, key=lambda other: (-floor(other), other))


@cache
def _below(name: str) -> set[str]:
    return set[str]().union(rooms()[name], *(_below(other) for other in rooms()[name]))


def first_sentence(node: ast.Module | ast.FunctionDef) -> str:
    """
    Raises:
        ValueError: it has no docstring.
    """
    if not (said := ast.get_docstring(node)):
        raise ValueError(f"{getattr(node, 'name', 'a room')} has no docstring: say in a sentence what it is")
    paragraph = " ".join(said.split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".:").replace("``", "`").replace("|", "\\|")


def _source_file(name: str) -> Path:
    return ROOT / name / "__init__.py" if (ROOT / name).is_dir() else ROOT / f"{name}.py"


def _source(name: str) -> ast.Module:
    return ast.parse(_source_file(name).read_text())


def _imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "recray":
            inner = node.module.split(".")[1:2]
            yield from inner or (alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("recray."))


def _one(file: Path, name: str) -> ast.FunctionDef:
    """The first function or method of that name."""
    found = (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef))
    return next(node for node in found if node.name == name)


def _calls(node: ast.AST) -> list[ast.Call]:
    return [one for one in ast.walk(node) if isinstance(one, ast.Call)]
