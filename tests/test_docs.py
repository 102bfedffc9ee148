"""The README and the guide are true: their commands exist, their tree is the folder."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from recray import __version__
from recray.cli import main

REPO = Path(__file__).parent.parent
README = (REPO / "README.md").read_text()
PAGES = [
    REPO / "README.md",
    REPO / "CLAUDE.md",
    REPO / "CONTRIBUTING.md",
    *sorted((REPO / "docs").glob("*.md")),
]


def commands() -> list[str]:
    """Every line of every bash block of the README and the handbook, without comments."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.S):
            found += [line.split("  #")[0].strip() for line in block.splitlines() if line.strip()]
    return sorted(set(found))


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), re.M))


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("make ")])
def test_make_targets_exist(command: str) -> None:
    assert command.split()[1] in make_targets()


@pytest.mark.parametrize("command", [c for c in commands() if "python jobs/" in c])
def test_job_command_lines_parse(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each documented job exists and takes the documented options: parsed for real, not run."""
    words = shlex.split(command)
    script = next(w for w in words if w.startswith("jobs/"))
    # --help last makes tyro check all that comes before it and then stop.
    monkeypatch.setattr(sys, "argv", [script, *words[words.index(script) + 1 :], "--help"])
    for module in ("jobs", "training", "tune"):  # other tests listen to the log
        monkeypatch.setattr(f"recray.cli.{module}.setup_logging", lambda: None)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(REPO / script), run_name="__main__")
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    assert "usage" in said.out


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("recray ")])
def test_console_commands_parse(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("jobs", "training", "tune"):  # other tests listen to the log
        monkeypatch.setattr(f"recray.cli.{module}.setup_logging", lambda: None)
    words = shlex.split(command)[1:]
    words.insert(words.index("--") if "--" in words else len(words), "--help")  # not of what is run elsewhere
    try:
        status = main(words)
    except SystemExit as ended:
        status = int(ended.code or 0)
    said = capsys.readouterr()
    assert status == 0, said.err
    assert "usage: recray" in said.out


def test_the_tree_is_the_folder() -> None:
    tree = re.search(r"## The tree\n\n```\n(.*?)```", README, re.S)
    assert tree
    lines = tree.group(1).splitlines()
    rooms = {line.split()[0].rstrip("/") for line in lines if line.startswith("  ") and line[2] != " "}
    there = {
        p.name for p in (REPO / "recray").iterdir() if not p.name.startswith("__") and p.name != "py.typed"
    }
    assert rooms == there
    for folder in (line.split()[0] for line in lines if not line.startswith(" ")):
        assert (REPO / folder).is_dir(), folder


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for named in re.findall(r"`((?:recray|jobs|tests|benchmarks|docs|serve_apps)/[\w./-]+\.\w+)`", text):
        assert (REPO / named).exists(), f"{page.name} names {named}"


def test_the_guide_fits_one_page() -> None:
    assert (REPO / "CLAUDE.md").read_text().count("\n") <= 60


def test_the_changelog_is_dated_and_its_top_is_this_version() -> None:
    headings = re.findall(r"^## (.*)$", (REPO / "CHANGELOG.md").read_text(), re.M)
    releases = [re.fullmatch(r"(\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)", heading) for heading in headings]
    assert all(releases), headings
    assert releases[0] is not None
    assert releases[0][1] == __version__
    dates = [release[2] for release in releases if release]
    assert dates == sorted(dates, reverse=True)


def test_nothing_committed_names_this_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=REPO, check=True)
    suspicious = re.compile(r"(?<![\w.])/(?:home|root|work|Users)/\w")
    for name in tracked.stdout.split():
        path = REPO / name
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".txt", ".json", ""} and path.is_file():
            found = suspicious.search(path.read_text(errors="replace"))
            assert not found or name == "tests/test_docs.py", f"{name}: {found}"
