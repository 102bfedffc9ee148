"""One table in every dialect that is read: the content is the same, to the hash."""

import gzip
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import polars as pl
import pyarrow
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from recray.config import ConfigError
from recray.data.events.dataset import Dataset
from recray.data.events.prepare import load_or_prepare, prepare
from recray.data.sources.tables.interactions import InteractionTable
from recray.schema import DataError

Event = tuple[str, str, float, int]
ROLES = ("user", "item", "rating", "timestamp")
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
START_S = 1_500_000_000
QUICK = (
    Phase.explicit,
    Phase.reuse,
    Phase.generate,
)  # an example prepares two data sets: shrinking takes minutes

ids = st.one_of(
    st.lists(st.integers(0, 99).map(str), min_size=8, max_size=8),
    st.lists(
        st.text("abäÖ,;\"'| -7", min_size=1, max_size=6).map(lambda t: f"x{t}x"), min_size=8, max_size=8
    ),
)
tables = st.builds(
    lambda users, items, picks: [
        (users[u], items[i], rating / 2, START_S + 50_000 * n + second)
        for n, (u, i, rating, second) in enumerate(picks)
    ],
    ids,
    ids,
    st.lists(
        st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(1, 10), st.integers(0, 9_999)),
        min_size=3,
        max_size=12,
    ),
)


def loaded(path: Path, options: dict[str, str]) -> Dataset:
    return load_or_prepare(f"{path}?{urlencode(options)}" if options else str(path))


def plain(folder: Path, events: list[Event]) -> Dataset:
    path = folder / "plain.parquet"
    pl.DataFrame(events, schema=list(ROLES), orient="row").write_parquet(path)
    return prepare(InteractionTable(path=path), folder / "plain")


def time_told(how: str, seconds: int) -> str:
    when = datetime.fromtimestamp(seconds, UTC)
    forms = {
        "iso": "%Y-%m-%dT%H:%M:%SZ",
        "blank": "%Y-%m-%d %H:%M:%S",
        "utc": "%Y-%m-%d %H:%M:%S UTC",
        "offset": "%Y-%m-%dT%H:%M:%S+00:00",
        "german": "%d.%m.%Y %H:%M:%S",
        "half": "%Y-%m-%d %I:%M:%S %p",
        "digits": "%Y%m%d%H%M%S",
    }
    return when.strftime(forms[how]) if how in forms else str(seconds * UNITS[how])


@settings(max_examples=25, phases=QUICK)
@given(
    events=tables,
    separator=st.sampled_from([",", ";", "\t", "|", "::", "¦"]),
    quoted=st.booleans(),
    comma=st.booleans(),
    time=st.sampled_from(
        ["s", "ms", "us", "ns", "iso", "blank", "utc", "offset", "german", "half", "digits"]
    ),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    has_header=st.booleans(),
    comment=st.booleans(),
    german_names=st.booleans(),
    packed=st.sampled_from(["", ".gz", ".zst", ".GZ"]),
)
def test_every_text_dialect_has_the_same_content(
    events: list[Event],
    separator: str,
    quoted: bool,
    comma: bool,
    time: str,
    encoding: str,
    line_end: str,
    has_header: bool,
    comment: bool,
    german_names: bool,
    packed: str,
) -> None:
    one_byte = separator in ",;\t|"

    def cell(text: str) -> str:
        needs = any(mark in text for mark in (separator, '"', "\n"))
        return '"' + text.replace('"', '""') + '"' if one_byte and (quoted or needs) else text

    def rated(rating: float) -> str:
        return str(rating).replace(".", ",") if comma else str(rating)

    names = ("Kunde", "Artikel", "Note", "Zeit") if german_names else ROLES
    lines = ["# exported"] if comment else []
    lines += [separator.join(map(cell, names))] if has_header else []
    for user, item, rating, seconds in events:
        lines.append(separator.join(map(cell, (user, item, rated(rating), time_told(time, seconds)))))
    data = (line_end.join(lines) + line_end).encode(encoding)
    options = {"separator": separator} if not has_header or separator == "¦" else {}
    if not has_header:
        options |= {role: str(n) for n, role in enumerate(ROLES, start=1)}
    elif german_names:
        options |= dict(zip(ROLES, names, strict=True))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / f"events.csv{packed}"
        path.write_bytes(_packed(data, packed))
        assert loaded(path, options).hash == plain(Path(name), events).hash


def _packed(data: bytes, how: str) -> bytes:
    if not how:
        return data
    if how == ".zst":
        packed: bytes = pyarrow.compress(data, codec="zstd", asbytes=True)
        return packed
    return gzip.compress(data)


@settings(max_examples=10, phases=QUICK)
@given(
    events=tables,
    kind=st.sampled_from([".parquet", ".jsonl", ".json", ".ndjson.gz"]),
    time=st.sampled_from(["s", "ms", "us", "ns", "text", "moment", "zoned"]),
)
def test_every_typed_format_has_the_same_content(events: list[Event], kind: str, time: str) -> None:
    table = pl.DataFrame(events, schema=list(ROLES), orient="row")
    seconds = pl.col("timestamp")
    if time in UNITS:
        table = table.with_columns(seconds * UNITS[time])
    else:
        moments = pl.from_epoch("timestamp", "s").dt.cast_time_unit("ms")
        told = {
            "text": moments.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "moment": moments,
            "zoned": moments.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin"),
        }
        is_typed = kind == ".parquet"
        table = table.with_columns(told[time if is_typed else "text"].alias("timestamp"))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / f"events{kind}"
        if kind == ".parquet":
            table.write_parquet(path)
        else:
            rows = [json.dumps(row) for row in table.to_dicts()]
            text = f"[{','.join(rows)}]" if kind == ".json" else "\n".join(rows)
            path.write_bytes(gzip.compress(text.encode()) if kind.endswith(".gz") else text.encode())
        assert loaded(path, {}).hash == plain(Path(name), events).hash


TEXT = "user,item,rating,timestamp\n1,10,4.0,1600000000\n2,11,5.0,1600000100\n"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"separator": ""}, ConfigError, r"separator '' cannot separate fields: .*\\t or ::"),
        ({"separator": "much too long"}, ConfigError, "separator 'much too long'"),
        ({"separator": ";"}, DataError, "is the separator right"),
        ({"usr": "x"}, ConfigError, "no option 'usr' of this reader, did you mean 'user'"),
        ({"ids": "number"}, ConfigError, "ids must be one of auto, text"),
        ({"name": "a/b"}, ConfigError, "name='a/b' is no name"),
        ({"user": "item"}, DataError, "'item' is named for the user and for the item: name two"),
        ({"user": "7"}, DataError, "no column '7' for the user"),
        ({"time_unit": "ms"}, DataError, "all times lie in January 1970.*leave time_unit out"),
        ({"time_format": "%Q"}, DataError, "'1600000000' is not of the form '%Q'|no form of times"),
        ({"items": "none.csv"}, DataError, "none.csv does not exist"),
    ],
)
def test_options_that_do_not_do_say_what_would(
    tmp_path: Path, options: dict[str, str], error: type[Exception], message: str
) -> None:
    path = tmp_path / "x.csv"
    path.write_text(TEXT)
    with pytest.raises(error, match=message):
        loaded(path, options)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.csv.gz", gzip.compress(TEXT.encode() * 9, mtime=0)[:-9], "x.csv.gz is damaged .*fetch it again"),
        ("x.csv.zst", TEXT.encode(), "x.csv.zst is damaged"),
        ("x.jsonl", b'{"user":1,"item":2}\n{"user":1,\n', "x.jsonl, line 2 is not JSON"),
        ("x.jsonl", b'{"user":1,"item":{"id":{"x":2}}}\n', "'item.id': has type Struct"),
        (
            "x.jsonl",
            b'{"user":1,"item":2}\n\n{"user":1,"item":null}\n',
            "line 3: column 'item': item is empty",
        ),
        ("x.json", b"[1, 2", "no JSON list of objects"),
        ("x.csv", b'user,item\n1,"a"\n2,6" tube\n3,x\n', "x.csv, line 3: .*quotes=no"),
        ("x.csv", bytes(range(256)) * 9, "is not utf-8"),
        ("x.csv", b"user,item\n", "no rows"),
        ("x.csv", b"51,0,3.0\n", "where the first line is data already, give positions: user=1"),
        (
            "x.csv",
            b"user,item,customer_id\n1,2,3\n",
            "'user' and 'customer_id' could each be the user.*user=user",
        ),
        ("x.csv", b"user,item,date\n1,2,03/04/2020\n", "day or the month first.*%d/%m/%Y or %m/%d/%Y"),
        ("x.csv", b"user,item,date\n1,2,3-Apr-2020\n", "line 2.*'3-Apr-2020' is neither.*time_format="),
        ("x.csv", b"user,item,date\n1,2,9999-12-31\n", "line 2.*'9999-12-31' "),
        ("x.csv", b"user,item,event,ts\n1,2,,5\n", "line 2.*event_type is empty"),
    ],
)
def test_files_that_are_wrong_say_where(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        load_or_prepare(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("x.inter", "user=x", ConfigError, "no option 'user' of this reader; valid: name"),
        ("x.txt", "", DataError, "line 1 names columns .*read it as one"),
        ("x.dat", "", DataError, r"no reader for it.*\.jsonl.*\?user=user_id"),
        ("x.csv", "user", ConfigError, r"\?name=value"),
    ],
)
def test_every_reader_refuses_what_it_does_not_know(
    tmp_path: Path, name: str, options: str, error: type[Exception], message: str
) -> None:
    (tmp_path / name).write_text("user,item\n1,2\n")
    with pytest.raises(error, match=message):
        load_or_prepare(f"{tmp_path / name}?{options}" if options else str(tmp_path / name))


@pytest.mark.parametrize("name", ["x.dat", "x.txt", "X.CSV"])
def test_a_named_column_makes_a_table_of_any_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(TEXT.replace(",", "::"))
    dataset = load_or_prepare(f"{tmp_path / name}?user=user")
    assert (len(dataset), dataset.ratings_N.tolist()) == (2, [4.0, 5.0])


def test_folders_and_globs_are_one_table(tmp_path: Path) -> None:
    header, *rows = TEXT.splitlines()
    for n, row in enumerate(rows):
        (tmp_path / f"part-{n}.csv").write_text(f"{header}\n{row}\n")
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "whole.tsv").write_text(TEXT.replace(",", "\t"))
    whole = load_or_prepare(str(tmp_path / "whole.tsv"))
    parts = load_or_prepare(f"{tmp_path}/part-*.csv")
    assert whole.hash == parts.hash
    (tmp_path / "whole.tsv").unlink()
    folder = load_or_prepare(str(tmp_path))
    assert folder.hash == parts.hash
    (tmp_path / "part-1.csv").write_text(f"{header}\n{rows[1].replace('5.0', 'five')}\n")
    with pytest.raises(DataError, match=r"part-1\.csv, line 2: column 'rating': rating 'five'"):
        load_or_prepare(str(tmp_path))
    with pytest.raises(DataError, match=r"no file in it ends in \.csv"):
        load_or_prepare(f"{tmp_path}/x-*.csv")


def anonymous(tmp_path: Path, **options: Any) -> Dataset:
    path = tmp_path / "x.csv"
    path.write_text(
        "user,session,item,ts\n7,a,1,1600000000\n,b,2,1600000001\n,,3,1600000002\n,b,4,1600000003\n"
    )
    return prepare(InteractionTable(path=path, **options), tmp_path / str(options.get("anonymous")))


def test_rows_without_a_user_are_refused_dropped_or_their_session(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 3.*in 3 rows.*anonymous=drop.*anonymous=session"):
        anonymous(tmp_path)
    (tmp_path / "nobody.csv").write_text("user,item\n,1\n")
    with pytest.raises(DataError, match="nobody.csv: no row has a user"):
        load_or_prepare(f"{tmp_path / 'nobody.csv'}?anonymous=drop")
    dropped = anonymous(tmp_path, anonymous="drop")
    assert dropped.users["raw_id"].to_list() == ["7"]
    sessions = anonymous(tmp_path, anonymous="session")
    assert sessions.users["raw_id"].to_list() == ["7", "session:b"]
    assert sessions.items["raw_id"].to_list() == ["1", "2", "4"]
    assert "without a session either, left out: 1" in (sessions.folder / "quality.json").read_text()
    assert "As it was read" in (sessions.folder / "quality.html").read_text()


def test_finer_times_decide_order_and_copies(tmp_path: Path) -> None:
    """Ticks order and tell copies; seconds are kept."""
    rows = ["1,b,1600000000.5", "1,a,1600000000.25", "1,a,1600000000.75", "1,a,1600000000.75"]
    (tmp_path / "x.csv").write_text("\n".join(["user,item,time", *rows]) + "\n")
    dataset = load_or_prepare(str(tmp_path / "x.csv"))
    assert dataset.items["raw_id"][dataset.item_ids_N.tolist()].to_list() == ["a", "b", "a"]
    assert dataset.timestamps_N.tolist() == [1_600_000_000] * 3


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ('user,item\n1,5" disk\n2,8\n', '5" disk'),
        ('"user","item"\n1,5" disk\n2,8" disk\n', '5" disk'),
        ("sep=;\nuser;item\n1;5,a\n", "5,a"),
        ('"sep=|"\r\nuser|item\r\n1|a;b\r\n', "a;b"),
        ("user,item,,\n1,a,,\n2,a,x,\n", "a"),
        (",user,item\n0,1,a\n", "a"),
        ('user,item\n1,"' + "long " * 40_000 + '"\n', "long " * 39_999 + "long"),
        ("user,item,note\n1,a," + "x" * 2_000_000 + "\n", "a"),
    ],
)
def test_exports_of_spreadsheets_and_shops(tmp_path: Path, text: str, item: str) -> None:
    (tmp_path / "x.csv").write_bytes(text.encode())
    assert load_or_prepare(str(tmp_path / "x.csv")).items["raw_id"].sort()[0] == item


def test_columns_without_names_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "x.csv").write_text("user,item,,\n1,a,,\n")
    load_or_prepare(str(tmp_path / "x.csv"))
    assert "x.csv: 2 columns have no name and are left out" in caplog.text
    (tmp_path / "y.csv").write_text("7,7,3\n1,2,3\n")
    with pytest.raises(DataError, match=r"line 1: a column name occurs twice \(7\): .*say header=no"):
        load_or_prepare(str(tmp_path / "y.csv"))


GA4 = {
    "event_date": "20200913",
    "event_timestamp": 1_600_000_000_000_000,
    "event_name": "view_item",
    "user_id": None,
    "user_pseudo_id": "a.1",
}


def test_names_of_trackers_and_shops_are_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nested = {"items": [{"item_id": "x"}], **GA4}
    (tmp_path / "ga4.jsonl").write_text(json.dumps(nested) + "\n")
    with pytest.raises(
        DataError, match=r"no column for the item .*a row for each \(in SQL: UNNEST\(items\)\)"
    ):
        load_or_prepare(str(tmp_path / "ga4.jsonl"))
    known = {key: value for key, value in GA4.items() if key != "user_id"}
    (tmp_path / "flat.jsonl").write_text(json.dumps({**known, "item": {"id": 7, "price": 2}}) + "\n")
    dataset = load_or_prepare(str(tmp_path / "flat.jsonl"))
    assert (dataset.users["raw_id"][0], dataset.items["raw_id"][0]) == ("a.1", "7")
    assert (dataset.timestamps_N.tolist(), dataset.manifest.event_types) == ([1_600_000_000], ("view_item",))
    (tmp_path / "orders.csv").write_text("customer_id,sku,date_created,quantity\n1,a,2020-09-13,2\n")
    orders = load_or_prepare(str(tmp_path / "orders.csv"))
    assert (orders.timestamps_N.tolist(), orders.ratings_N.tolist()) == ([1_599_955_200], [2.0])


def test_the_only_column_of_times_is_the_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.csv"
    path.write_text("user,item,basket_at,birth_date\n1,a,2020-09-13,1990-01-01\n")
    assert load_or_prepare(str(path)).timestamps_N.tolist() == [1_599_955_200]
    assert "times are taken from 'basket_at', the only column called so; timestamp= (nothing)" in caplog.text
    assert load_or_prepare(f"{path}?timestamp=").timestamps_N.tolist() == [0]
    for times in ("basket_at,cart_at\n1,a,2020-09-13,2020-09-13", "run_time\n1,a,95", "clock_at\n1,a,noon"):
        path.write_text(f"user,item,{times}\n")
        assert load_or_prepare(str(path)).timestamps_N.tolist() == [0]
