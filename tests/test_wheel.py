"""What is installed is the product: no checkout beside it, and everything inside one package."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent
BUILT_FROM = ("recray", "serve_apps", "tune_spaces", "pyproject.toml", "setup.py", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds."""
    copy, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in BUILT_FROM:
        copied = shutil.copytree if (REPO / name).is_dir() else shutil.copy
        copied(REPO / name, copy / name)
    pip = [sys.executable, "-m", "pip", "wheel", ".", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "-w", "out"], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = (copy / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def ask(installed: Path, *words: str) -> str:
    """What a command says in an empty folder, where nothing but the wheel holds recray."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "recray", *words]
    empty = installed.with_name("empty")
    empty.mkdir(exist_ok=True)
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_holds_all_of_it_in_one_package(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if "." not in path.name} == {"recray"}
    for folder in ("serve_apps", "tune_spaces"):
        beside = {path.name for path in (REPO / folder).iterdir() if path.suffix in (".py", ".yaml")}
        assert {path.name for path in (installed / "recray" / folder).iterdir()} == beside
    tracked = subprocess.run(
        ["git", "ls-files", "recray"], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert not [file for file in tracked.stdout.split() if not (installed / file).is_file()]


@pytest.mark.slow
def test_a_search_finds_its_spaces_without_a_checkout(installed: Path) -> None:
    spaces = sorted(path.stem for path in (REPO / "tune_spaces").glob("*.py"))
    assert f"models with a space: {', '.join(spaces)}" in ask(installed, "tune", "--help")


@pytest.mark.slow
def test_an_installation_trains_and_scores(installed: Path, tmp_path: Path) -> None:
    lines = [f"u{u},i{(u + 2 * n) % 20},{1_600_000_000 + 60 * u + n}" for u in range(30) for n in range(6)]
    events = tmp_path / "shop.csv"
    events.write_text("\n".join(["user,item,timestamp", *lines]))
    said = ask(
        installed, "train", "item_knn", f"{events}?name=of-a-wheel", "--json", str(tmp_path / "x.json")
    )
    assert "published of-a-wheel-item_knn version 1" in said
    assert "of-a-wheel-item_knn" in ask(installed, "versions", "--json")
