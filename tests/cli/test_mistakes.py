"""The page of mistakes is what the commands say, each before anything is started."""

import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from recray.cli import main
from recray.store import Store

PAGE = Path(__file__).parents[2] / "docs" / "mistakes.md"
COMMAND = re.compile(r"^\$ recray (?P<words>.*?)(?:   # (?P<where>.*))?\n(?P<said>.*)$", re.M)
MISTAKES = [
    match.groupdict() for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.S)
    for match in COMMAND.finditer(block)
]  # fmt: skip


def _weights(folder: Path) -> None:
    (folder / "weights").write_text("1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files, and a home with one version of one application."""
    for module in ("jobs", "training", "tune"):  # other tests listen to the log
        monkeypatch.setattr(f"recray.cli.{module}.setup_logging", lambda: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    events = [(f"u{n % 30}", f"i{n * 7 % 41}", 1_600_000_000 + n) for n in range(600)]
    rows = [f"{user},{item},{at}" for user, item, at in events]
    (tmp_path / "small.csv").write_text("\n".join(["user,item,timestamp", *rows]))
    last = [f"u{user},i{user % 7},{1_700_000_000 + at}" for at in (0, 9) for user in range(30)]
    again = [f"u{user},i{user % 7},{1_600_000_000 + at}" for at in (0, 9) for user in range(30)]
    (tmp_path / "again.csv").write_text("\n".join(["user,item,timestamp", *again, *last]))
    german = [f"{user},{item},{1 + n % 28:02d}.12.2024" for n, (user, item, _) in enumerate(events)]
    (tmp_path / "german.csv").write_text("\n".join(["kunde,artikel,datum", *german]))
    (tmp_path / "dates.csv").write_text("user,item,timestamp\nu1,i1,gestern\n")
    (tmp_path / "visitors.csv").write_text("user,item,timestamp\nu1,i1,1700000000\n,i2,1700000060\n")
    (tmp_path / "mixed.csv").write_text("user,item,timestamp\nu1,i1,1700000000\nu1,i2,1700000000000\n")
    (tmp_path / "page.csv").write_text("<html><body>sign in</body></html>\n")
    (tmp_path / "nothing.csv").touch()
    Store().publish("shop", _weights, model="popularity", config={})
    return tmp_path


@pytest.fixture
def where(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the page says of the machine, made so."""
    said: str | None = request.param
    if said == "without Streamlit":
        monkeypatch.setitem(sys.modules, "streamlit", None)
    if said == "which another program has":
        with socket.create_server(("127.0.0.1", 8501)):
            yield
        return
    if said == "RECRAY_HOME on a disk that is full":
        full = folder / "full"
        full.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(full)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("file systems may not be mounted here")
        (full / "other").write_bytes(b"x" * 60_000)
        monkeypatch.setenv("RECRAY_HOME", str(full))
        yield
        subprocess.run(["umount", str(full)], check=True)
        return
    yield


@pytest.mark.parametrize(
    ("where", "words", "said"),
    [(each["where"], each["words"], each["said"]) for each in MISTAKES],
    ids=[each["words"] for each in MISTAKES],
    indirect=["where"],
)
def test_a_mistake_is_answered_as_the_page_has_it(
    where: None, words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(shlex.split(words))
    except SystemExit as ended:
        status = int(ended.code or 0)
    output = capsys.readouterr()
    told = " ".join(re.sub(r"[│╭╮╰╯─]|--+(?= |$)", " ", output.out + output.err).split())
    assert re.search(".*".join(map(re.escape, " ".join(said.split()).split("..."))), told), told
    assert status == 2
    assert "Traceback" not in told


def test_the_page_has_fifteen_kinds_and_more() -> None:
    assert len(MISTAKES) >= 20
