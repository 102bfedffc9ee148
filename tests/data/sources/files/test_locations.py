"""Where raw files lie: folders, packed files, object storage; and what cannot be reached or written."""

import gzip
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from recray.data.events.prepare import load_or_prepare
from recray.data.rows.prepare import load_or_prepare_rows
from recray.data.sources import absolute, data_name
from recray.data.sources.files.locations import (
    beside,
    files_of,
    kind_of,
    list_files,
    plain_file,
    unique_name,
)
from recray.data.sources.files.raw_files import fingerprint
from recray.data.sources.tables.table_files import TABLES
from recray.schema import DataError

TEXT = "user,item,timestamp\n1,10,1600000000\n2,11,1600000100\n"
ITEMS = "item,title\n10,Lamp\n11,Desk\n12,Chair\n"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.csv", ".csv"), ("A.CSV.GZ", ".csv"), ("b.json.zst", ".json"), ("x.gz", ""), ("folder", "")],
)
def test_the_kind_of_a_file_is_its_ending_without_the_packing(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_names_are_of_the_place_not_of_the_content() -> None:
    assert unique_name("/x/events.csv.gz")[:-8] == "events-"
    assert unique_name("/x/my.events.CSV.gz")[:-8] == "my.events-"
    assert unique_name("/x/events.zst")[:-8] == "events-"
    assert unique_name("s3://shop/2024/")[:-8] == "2024-"
    assert unique_name("/x/part-*.parquet")[:-8] == "part-"
    assert unique_name("/x/a/../events.csv") == unique_name("/x/events.csv")
    assert len({unique_name(f"{folder}/events.csv") for folder in ("/a", "/b", "s3://a")}) == 3


def test_addresses_are_absolute_and_tables_stand_beside() -> None:
    assert absolute("s3://shop/events.csv?items=a.csv") == "s3://shop/events.csv?items=a.csv"
    assert absolute("events.csv?items=a.csv") == f"{Path.cwd()}/events.csv?items=a.csv"
    assert beside("s3://shop/events.csv", "items.csv") == "s3://shop/items.csv"
    assert beside("/x/events.csv", "more/items.csv") == "/x/more/items.csv"
    assert beside("/x/events.csv", "s3://shop/items.csv") == "s3://shop/items.csv"


def test_files_of_another_file_system_are_copied_and_unpacked(tmp_path: Path) -> None:
    """A file system under a folder is to PyArrow what a bucket is: none of its paths are local."""
    shop, scratch = tmp_path / "shop", tmp_path / "scratch"
    (shop / "day=1").mkdir(parents=True)
    scratch.mkdir()
    (shop / "day=1" / "a.csv.gz").write_bytes(gzip.compress(TEXT.encode()))
    (shop / "b.csv").write_text(TEXT)
    system = SubTreeFileSystem(str(shop), LocalFileSystem())
    files = files_of(system, "", "shop", TABLES)
    assert [file.path for file in files] == ["b.csv", "day=1/a.csv.gz"]
    copies = [plain_file(file, scratch) for file in files]
    assert [copy.read_text() for copy in copies] == [TEXT, TEXT]
    assert {copy.parent for copy in copies} == {scratch}


def test_a_packed_file_is_known_by_its_first_bytes_or_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(gzip.compress(TEXT.encode()))
    assert load_or_prepare(str(tmp_path / "x.csv")).users["raw_id"].to_list() == ["1", "2"]
    for name in ("x.csv.bz2", "x.zip"):
        (tmp_path / name).write_bytes(b"PK")
        for place in (tmp_path / name, f"file://{tmp_path}/{name}", f"{tmp_path / name}?user=user"):
            with pytest.raises(DataError, match=rf"{name} is packed as .*, which is not read: unpack it"):
                load_or_prepare(str(place))


def test_a_file_address_is_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(TEXT)
    assert load_or_prepare(f"file://{tmp_path}/x.csv").hash == load_or_prepare(str(tmp_path / "x.csv")).hash


@pytest.mark.parametrize("address", ["foo://x/events.csv", "http://x/events.csv"])
def test_an_address_of_no_file_system_is_refused(address: str) -> None:
    with pytest.raises(DataError, match=r"no file system for it .*write a path, s3://"):
        load_or_prepare(address)


@pytest.mark.parametrize("place", ["shop://me:planted@host/e.csv", "file://me:planted@host/e.csv"])
def test_a_login_in_an_address_is_not_said(place: str) -> None:
    with pytest.raises(DataError, match=r"://\*\*\*@host/e.csv") as refused:
        load_or_prepare(place)
    assert "planted" not in str(refused.value)


class _Bucket(BaseHTTPRequestHandler):
    """As much of S3's protocol as reading takes: listing, size, bytes."""

    objects: dict[str, bytes]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        url = urlsplit(self.path)
        key = url.path.removeprefix("/shop").strip("/")
        asked = parse_qs(url.query)
        if "list-type" in asked or (not key and with_body):
            return self._send(200, self._listing(asked.get("prefix", [""])[0]), with_body)
        if key and key not in self.objects:
            return self._send(404, b"", with_body)
        data = self.objects.get(key, b"")
        if "Range" in self.headers:
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            return self._send(206, data[int(first) : int(last or len(data)) + 1], with_body)
        return self._send(200, data, with_body)

    def _listing(self, prefix: str) -> bytes:
        found = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(data)}</Size>"
            "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
            for key, data in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        count = found.count("<Key>")
        return (
            f"<ListBucketResult><Name>shop</Name><Prefix>{prefix}</Prefix><KeyCount>{count}</KeyCount>"
            f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{found}</ListBucketResult>"
        ).encode()

    def _send(self, status: int, data: bytes, with_body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.send_header("x-amz-bucket-region", "us-east-1")
        self.end_headers()
        if with_body:
            self.wfile.write(data)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """What lies in ``s3://shop``, on this machine."""
    objects: dict[str, bytes] = {}
    handler = type("Bucket", (_Bucket,), {"objects": objects})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield objects
    server.shutdown()
    thread.join()
    server.server_close()


def test_object_storage_is_read_like_files(bucket: dict[str, bytes], tmp_path: Path) -> None:
    bucket["day/events.csv.gz"] = gzip.compress(TEXT.encode())
    bucket["day/items.csv"] = ITEMS.encode()
    dataset = load_or_prepare("s3://shop/day/events.csv.gz?items=items.csv")
    assert dataset.name == data_name("s3://shop/day/events.csv.gz")
    assert dataset.items.rows() == [("10", "Lamp"), ("11", "Desk"), ("12", "Chair")]
    bucket["parts/a.csv"] = bucket["parts/b.csv"] = TEXT.encode()
    assert len(load_or_prepare("s3://shop/parts/")) == 2  # b is a copy of a
    with pytest.raises(DataError, match=r"s3://shop/none\.csv does not exist"):
        load_or_prepare("s3://shop/none.csv")


def test_a_login_in_an_address_reads_and_is_kept_nowhere(
    bucket: dict[str, bytes], home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bucket["day/events.csv"] = TEXT.encode()
    load_or_prepare("s3://planted-key:planted-pass@shop/day/events.csv")
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert [path for path in files if b"planted" in path.read_bytes()] == []


@contextmanager
def full_disk() -> Iterator[None]:
    """A limit on the size of files ends writing as a full disk does, with an OSError in the midst of it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "datasets"


LONG = "user,item\n" + "".join(f"{n * 7919},{n * 104_729}\n" for n in range(5000))


def test_a_full_disk_is_said_and_nothing_stays(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(LONG)
    with (
        full_disk(),
        pytest.raises(DataError, match=r"cannot be prepared in .*datasets.*make room.*RECRAY_HOME"),
    ):
        load_or_prepare(str(path))
    assert [each.name for each in home.iterdir() if each.is_dir()] == []
    assert len(load_or_prepare(str(path))) == 5000


def test_a_disk_too_full_to_unpack_is_no_fault_of_the_file(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(LONG.encode()))
    with full_disk(), pytest.raises(DataError, match=r"x\.csv\.gz cannot be unpacked into .*make room there"):
        load_or_prepare(str(path))


def test_a_full_disk_is_said_of_rows_too(home: Path) -> None:
    with (
        full_disk(),
        pytest.raises(DataError, match=r"synthetic-clicks-.* cannot be prepared in .*make room"),
    ):
        load_or_prepare_rows("synthetic-clicks?num_rows=5000")
    assert [each.name for each in home.iterdir() if each.is_dir()] == []


def test_a_workbook_is_to_be_saved_as_text(tmp_path: Path) -> None:
    (tmp_path / "Orders.XLSX").write_bytes(b"PK")
    (tmp_path / "events.csv").write_text(TEXT)
    for place in ("Orders.XLSX", "events.csv?items=Orders.XLSX"):
        with pytest.raises(DataError, match=r"Orders\.XLSX is a workbook, .* save its sheet as CSV"):
            load_or_prepare(str(tmp_path / place))


def test_what_is_submitted_with_a_job_is_the_same_whatever_else_was_edited(tmp_path: Path) -> None:
    """Ray unpacks a working directory into a folder that is named by all that is in it."""
    folders = [tmp_path / "working_dir_files" / f"_ray_pkg_{letter * 16}" for letter in "abc"]
    files = [folder / "data" / "events.csv" for folder in folders]
    for file, rows in zip(files, ("1,2\n", "1,2\n", "1,3\n"), strict=True):
        file.parent.mkdir(parents=True)
        file.write_text(f"user,item\n{rows}")
    assert len({unique_name(file) for file in files}) == 1
    states = [list_files(file, (".csv",))[0].fingerprint() for file in files]
    assert states[0] == states[1] != states[2]
    assert fingerprint(files[0]) == states[0]
    assert states[0]["path"] == "working-dir:data/events.csv"
    assert unique_name(tmp_path / "data" / "events.csv") != unique_name(files[0])
