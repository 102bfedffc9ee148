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
    monkeypatch.setenv("RECRAY_HOME", "hdfs://node/home")
    with pytest.raises(ConfigError, match="must be a folder that every node sees"):
        paths.home()
    assert main(["doctor"]) == 2
    assert "'hdfs://node/home'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_home_in_a_bucket_has_a_cache_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECRAY_CACHE", str(tmp_path))
    homes = set()
    for address in ("s3://bucket/home", "s3://bucket/home/", "s3://bucket/other", "gs://bucket/home"):
        monkeypatch.setenv("RECRAY_HOME", address)
        assert paths.address() == address.rstrip("/")
        assert paths.home().parent == tmp_path
        homes.add(paths.home())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://another.server")
    homes.add(paths.home())
    assert len(homes) == 4


def test_an_address_carries_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECRAY_HOME", "s3://me:swordfish-1@bucket/home")
    with pytest.raises(ConfigError, match="credentials and options go into the environment") as raised:
        paths.home()
    assert "swordfish-1" not in str(raised.value)
