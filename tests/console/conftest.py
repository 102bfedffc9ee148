"""A real server for the console to look at: an application of one process, on a socket."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from recray.serve.http.admin import TOKEN
from recray.serve.http.gateway import create_app
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.serve.traffic.analysis import Analysis
from recray.store import Store
from tests.serve.conftest import own_store, published, world
from tests.serve.uvicorn_server import serving
from tests.serve.world import APPLICATION

__all__ = ["own_store", "published", "world"]  # fixtures


@dataclass(frozen=True)
class Shop:
    store: Store
    service: FusedService
    desk: Analysis
    url: str
    token: str = "a-token"


@pytest.fixture(autouse=True)
def _own_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit's test bench puts a script of its own in the place of the program: whoever starts processes
    afterwards would have them run it."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture
def shop(own_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv(TOKEN, "a-token")
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "store").symlink_to(own_store.root)
    config = ServiceConfig(application=APPLICATION, store=str(own_store.root), poll_s=0.1)
    desk = Analysis(own_store, APPLICATION)
    service = FusedService(config, desk=desk)
    with serving(create_app(service)) as port:
        yield Shop(own_store, service, desk, f"http://127.0.0.1:{port}")
    service.stop()
