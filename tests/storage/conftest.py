"""A home in a bucket of a real S3 server, and several machines that share it: each has a cache of its own."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.storage.s3_server import BUCKET, S3Server

Machine = Callable[[str], None]


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    pytest.importorskip("moto")
    started = S3Server()
    yield started
    started.stop()


@pytest.fixture
def s3(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3Server:
    """The server, and an empty home on it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-seen")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("RECRAY_HOME", f"s3://{BUCKET}/{secrets.token_hex(4)}")
    monkeypatch.setenv("RECRAY_CACHE", str(tmp_path / "here"))
    monkeypatch.setattr("recray.storage.bucket.PATIENCE_S", 0.0)  # nobody waits for one that is away
    return server


@pytest.fixture
def machine(s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """Go on as on another machine: one with the cache of this name."""
    return lambda name: monkeypatch.setenv("RECRAY_CACHE", str(tmp_path / name))
