"""The README and the handbook are true: commands and requests are understood, links lead somewhere."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from recray import __version__
from recray.cli import main
from recray.serve.http.admin import CHANGES
from recray.serve.http.live_requests import EventsRequest, ItemRequest
from recray.serve.http.requests import RecommendRequest, ScoreRequest

REPO = Path(__file__).parent.parent
NOTEBOOKS = sorted((REPO / "docs" / "handbook").glob("*.py"))
PAGES = [
    REPO / "README.md",
    REPO / "CLAUDE.md",
    REPO / "CONTRIBUTING.md",
    *sorted((REPO / "docs").rglob("*.md")),
    *NOTEBOOKS,
]
BODIES: dict[str, type[BaseModel]] = {
    r"/recommend": RecommendRequest,
    r"/score": ScoreRequest,
    r"/events": EventsRequest,
    r"/items/[\w-]+": ItemRequest,
    **{f"/admin/{name}": change for name, change in CHANGES.items()},
}
CALLS = (*BODIES, r"/items/[\w-]+/similar", r"/(health|versions|metrics|traffic|drift|ready|live)")


def words_of(page: Path) -> str:
    """A page's Markdown; a notebook's is in its comments."""
    text = page.read_text()
    if page.suffix == ".py":
        cells = re.findall(r"^# %% \[markdown\]\n((?:#.*\n)*)", text, re.M)
        text = "\n".join(re.sub(r"^# ?", "", cell, flags=re.M) for cell in cells)
    return text


def commands() -> list[str]:
    """Every line of every bash block of the README and the handbook, without comments."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```(?:bash|sh)\n(.*?)```", words_of(page), re.S):
            lines = block.replace("\\\n", " ").splitlines()
            found += [line.split("  #")[0].strip() for line in lines if line.strip()]
    return sorted({re.sub(r"^([A-Z_]+=\S+ )+", "", line) for line in found})


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


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("curl ")])
def test_requests_are_understood(command: str) -> None:
    """Each documented request goes to a call that there is, and its body is one that it takes."""
    words = shlex.split(command.replace('"$json"', "$json"))
    path = next(word for word in words if word.startswith("localhost:8000")).removeprefix("localhost:8000")
    assert any(re.fullmatch(one, path) for one in CALLS), path
    if "-d" in words:
        body = words[words.index("-d") + 1].replace("...", "")
        [model] = [model for call, model in BODIES.items() if re.fullmatch(call, path)]
        model.model_validate_json(body)


def test_every_room_stands_in_the_house() -> None:
    page = (REPO / "docs" / "handbook" / "architecture.md").read_text().partition("<!-- table: house -->")[2]
    rooms = {name.rstrip("/") for name in re.findall(r"^\| \d+ \| `([\w./]+)` \|", page, re.M)}
    there = {
        p.name for p in (REPO / "recray").iterdir() if not p.name.startswith("__") and p.name != "py.typed"
    }
    assert rooms == there
    for folder in re.findall(r"`(\w+)/`", page.partition("Around them: ")[2].partition("\n\n")[0]):
        assert (REPO / folder).is_dir(), folder


def headings(page: Path) -> set[str]:
    """Where a link may lead within a page, as GitHub and Python-Markdown both call it."""
    text = re.sub(r"```.*?```", "", words_of(page), flags=re.S)
    plain = [re.sub(r"[^\w\s-]", "", line).strip().lower() for line in re.findall(r"^#+ (.*)$", text, re.M)]
    return {line.replace(" ", "-") for line in plain} & {re.sub(r"[-\s]+", "-", line) for line in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_named_files_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", words_of(page), flags=re.S)
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", text)):
        led_to = page.parent / target if target else page
        assert led_to.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in headings(led_to), f"{page.name} links to {target}#{anchor}"
    for named in re.findall(r"`((?:recray|jobs|tests|benchmarks|docs|serve_apps)/[\w./-]+\.\w+)`", text):
        assert (REPO / named).exists(), f"{page.name} names {named}"


def test_every_page_stands_in_the_site() -> None:
    """Of `make docs`; the reference and what notebooks show are made there."""
    named = re.findall(r"(\S+\.md)$", (REPO / "mkdocs.yml").read_text(), re.M)
    pages = [page.relative_to(REPO).with_suffix(".md").as_posix() for page in PAGES]
    assert sorted(named) == sorted([*pages, "CHANGELOG.md", "docs/reference.md"])


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
