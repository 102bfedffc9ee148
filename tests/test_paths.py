"""Where things live."""

from pathlib import Path

import pytest

from recray import paths
from recray.cli import main
from recray.config import ConfigError


def test_a_home_is_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "here"))
    assert paths.runs_dir() == tmp_path / "here" / "runs"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECRAY_HOME", "s3://bucket/home")
    with pytest.raises(ConfigError, match="must be a folder that every node sees"):
        paths.home()
    assert main(["doctor"]) == 2
    assert "'s3://bucket/home'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
