"""Lays out the site: pages as they are, notebooks with what came out of them, a reference.

python docs/make_site.py     # into build/docs-source, of which `make docs` has MkDocs build build/docs

Links stay as they are in the repository, for the folders are the same. A notebook is executed again only
where it or the package has changed since.
"""

import hashlib
import re
import shutil
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

from recray.pages.palette import TONES

REPO = Path(__file__).parent.parent
SITE, EXECUTED = REPO / "build" / "docs-source", REPO / "build" / "notebooks"
TOP = ("README.md", "CLAUDE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE")
DOOR = ("load", "fit", "compare", "open", "Dataset", "Model", "Comparison", "LaunchConfig")


def main() -> None:
    shutil.rmtree(SITE, ignore_errors=True)
    SITE.mkdir(parents=True)
    for name in TOP:
        shutil.copy(REPO / name, SITE / name)
    shutil.copytree(REPO / "docs", SITE / "docs", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copytree(REPO / "benchmarks" / "results", SITE / "benchmarks" / "results")
    for notebook in sorted((REPO / "docs" / "handbook").glob("*.py")):
        (SITE / "docs" / "handbook" / f"{notebook.stem}.md").write_text(rendered(notebook))
    for page in SITE.rglob("*.md"):
        page.write_text(re.sub(r"(\]\([\w./]*\d\d_\w+)\.py([)#])", r"\1.md\2", page.read_text()))
    (SITE / "docs" / "reference.md").write_text(reference())
    (SITE / "site.css").write_text(sheet())


def rendered(notebook: Path) -> str:
    """A notebook as Markdown: words, code, and what came out."""
    done = executed(notebook)
    for cell in done.cells:
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]  # progress, log lines
    text, _ = MarkdownExporter().from_notebook_node(done)
    return str(
        re.sub(r"<style>.*?</style>", "", text, flags=re.S)
    )  # each table has one; site.css has it for all


def executed(notebook: Path) -> nbformat.NotebookNode:
    """By a kernel of this environment, in an empty folder; kept under a digest of notebook and package."""
    digest = hashlib.sha256(notebook.read_bytes())
    for file in sorted((REPO / "recray").rglob("*.py")):
        digest.update(file.read_bytes())
    kept = EXECUTED / f"{notebook.stem}-{digest.hexdigest()[:16]}.ipynb"
    if kept.exists():
        return nbformat.read(kept, as_version=4)
    print(f"{notebook.name}: executed", flush=True)
    made = jupytext.read(notebook)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(made, timeout=600, resources={"metadata": {"path": folder}}).execute()
    EXECUTED.mkdir(parents=True, exist_ok=True)
    for older in EXECUTED.glob(f"{notebook.stem}-*.ipynb"):
        older.unlink()
    nbformat.write(made, kept)
    return made


def reference() -> str:
    """What mkdocstrings makes of the docstrings of ``recray.api``."""
    head = "# Reference\n\nThe names of `recray` itself. [From Python](api.md) shows them at work.\n"
    return "\n".join([head, *(f"::: recray.api.{name}\n" for name in DOOR)])


def sheet() -> str:
    """The house's tones on both grounds, and what ``site.css`` makes of them."""
    tones = [
        f'[data-md-color-scheme="{scheme}"] {{ color-scheme: {ground}; '
        + " ".join(f"--{name}: {getattr(tone, ground)};" for name, tone in TONES.items())
        + " }\n"
        for scheme, ground in (("default", "light"), ("slate", "dark"))
    ]
    return "".join(tones) + (REPO / "docs" / "site.css").read_text()


if __name__ == "__main__":
    main()
