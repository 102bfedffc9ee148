"""Downloads against a real HTTP server that cuts connections, ignores ranges and replaces files."""

import hashlib
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recray.data.events.prepare import prepare
from recray.data.sources.files.download import download
from recray.data.sources.published.movielens import MovieLens, Variant
from recray.schema import DataError
from tests.data import made

CONTENT = hashlib.shake_256(b"recray").digest(1_000_000)
BY_HAND = "put it there by hand"


class Server(ThreadingHTTPServer):
    """What a test wants of the next answers."""

    content = CONTENT
    etag: str | None = '"v1"'
    ranges = True
    status: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cut_after: list[int] = []  # bytes after which the n-th answer breaks off
        self.requests: list[str | None] = []  # the Range of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append(wanted)
        if server.status:
            self.send_error(server.status)
            return
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        cut = server.cut_after.pop(0) if server.cut_after else len(body)
        self.wfile.write(body[:cut])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server: Server, to: Path) -> bytes:
    return download(server.url, to, otherwise=BY_HAND, pause_s=0.0).read_bytes()


def test_whole_at_once(server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path / "deep" / "file.zip") == CONTENT
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["file.zip"]


def test_a_broken_connection_is_continued_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cut_after = [300_000, 0, 200_000]
    assert fetch(server, tmp_path / "file.zip") == CONTENT
    assert server.requests == [None, "bytes=300000-", "bytes=300000-", "bytes=500000-"]


def test_a_later_run_continues_an_earlier_one(server: Server, tmp_path: Path) -> None:
    server.cut_after = [300_000, 0, 0]
    with pytest.raises(DataError, match="broke off 2 times.*run again to continue"):
        download(server.url, tmp_path / "file.zip", otherwise=BY_HAND, attempts=2, pause_s=0.0)
    assert not (tmp_path / "file.zip").exists()
    server.cut_after = []
    assert fetch(server, tmp_path / "file.zip") == CONTENT
    assert server.requests[-1] == "bytes=300000-"


def test_a_file_that_changed_meanwhile_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.cut_after = [300_000, 0]
    with pytest.raises(DataError):
        download(server.url, tmp_path / "file.zip", otherwise=BY_HAND, attempts=1, pause_s=0.0)
    server.content, server.etag = CONTENT[::-1], '"v2"'
    server.cut_after = []
    assert fetch(server, tmp_path / "file.zip") == CONTENT[::-1]


@pytest.mark.parametrize(("ranges", "etag"), [(False, '"v1"'), (True, None), (True, 'W/"weak"')])
def test_a_server_that_cannot_continue_starts_over(
    server: Server, tmp_path: Path, ranges: bool, etag: str | None
) -> None:
    server.ranges, server.etag = ranges, etag
    server.cut_after = [300_000]
    assert fetch(server, tmp_path / "file.zip") == CONTENT


def test_a_part_that_is_already_whole_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(CONTENT)
    (tmp_path / "file.zip.part.json").write_text('{"validator": "\\"v1\\""}')
    assert fetch(server, tmp_path / "file.zip") == CONTENT
    assert server.requests == ["bytes=1000000-"]


def test_a_part_that_is_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(CONTENT + b"more")
    (tmp_path / "file.zip.part.json").write_text('{"validator": "\\"v1\\""}')
    assert fetch(server, tmp_path / "file.zip") == CONTENT


def test_an_http_error_fails_at_once(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(DataError, match=f"404.*{BY_HAND}"):
        fetch(server, tmp_path / "file.zip")
    assert len(server.requests) == 1


def test_no_server_fails_at_once(tmp_path: Path) -> None:
    with Server() as closed:
        url = closed.url
    with pytest.raises(DataError, match=f"cannot download .*{BY_HAND}"):
        download(url, tmp_path / "file.zip", otherwise=BY_HAND)


def test_a_missing_archive_is_downloaded_and_its_checksum_compared(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server.content = made.ml_1m(tmp_path / "source.zip").read_bytes()
    server.cut_after = [100]
    monkeypatch.setattr(Variant, "url", lambda self, name: server.url)
    monkeypatch.setattr("recray.paths.raw_dirs", lambda: [tmp_path / "none", tmp_path / "raw"])
    with caplog.at_level(logging.WARNING):
        dataset = prepare(MovieLens(name="ml-1m"), tmp_path / "out")
    assert len(dataset) == 3
    assert (tmp_path / "raw" / "ml-1m.zip").read_bytes() == server.content
    assert "differs from the published" in caplog.text
