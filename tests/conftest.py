"""Fixtures that all tests share: one Ray instance per session, one home folder per session."""

import json
import logging
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from recray.serve.http.haproxy import use_haproxy

# How long an example takes is no matter of right or wrong; speed lives in benchmarks/.
settings.register_profile("recray", deadline=None)
settings.load_profile("recray")

# Small tensors, and often several processes on two cores: threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
use_haproxy(drain_s=1.0)  # before any test imports ray.serve


@pytest.fixture(scope="session", autouse=True)
def _recray_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing a test writes lands in the home of the person who runs it."""
    home = tmp_path_factory.mktemp("recray-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECRAY_HOME", str(home))
        for told in ("RECRAY_TRACK", "RECRAY_NOTIFY"):  # nor is anybody told of it
            patch.delenv(told, raising=False)
        yield home


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """What a test has the package log elsewhere, as jobs and replicas do, others do not see."""
    ours = logging.getLogger("recray")
    before = list(ours.handlers), ours.level, ours.propagate
    yield
    ours.handlers, ours.level, ours.propagate = before


@pytest.fixture(scope="session")
def ray_cluster(_recray_home: Path) -> Iterator[None]:
    """One Ray instance for the whole session; four logical CPUs so that two workers and Serve fit."""
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def raw_file(name: str) -> Path:
    """A real raw data file, or a skip that says where it was looked for."""
    from recray.paths import raw_dirs

    for folder in raw_dirs():
        if (folder / name).exists():
            return folder / name
    pytest.skip(f"{name} not found in {', '.join(map(str, raw_dirs()))}")


def shared_case(name: str) -> Path:
    """An input that was answered wrongly once, beside the raw data; or a skip."""
    from recray.paths import raw_dirs

    found = [folder.parent / "cases" / name for folder in raw_dirs()]
    path = next((path for path in found if path.exists()), None)
    return path or pytest.skip(f"no {name} in {', '.join(map(str, found))}")


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """A webhook on this machine: what it was sent."""
    found: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("RECRAY_NOTIFY", f"json://user:planted-password@127.0.0.1:{server.server_port}/hook")
    yield found
    server.shutdown()
    server.server_close()
    thread.join()
