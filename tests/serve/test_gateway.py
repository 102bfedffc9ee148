"""The HTTP face: answers, refusals, and 1,000 malformed requests without a 500."""

import base64
import hashlib
import json
import os
import re
import socket
import string
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recray.serve.http.admin import CHANGES
from recray.serve.http.gateway import create_app
from recray.serve.http.requests import MAX_BODY_BYTES, MAX_HISTORY, MAX_K, RecommendRequest
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.store import Store
from tests.serve.asgi import JSON_TYPE, Client
from tests.serve.malformed import bodies
from tests.serve.world import APPLICATION, NOW


@pytest.fixture(scope="module")
def service(published: Store) -> Iterator[FusedService]:
    service = FusedService(ServiceConfig(application=APPLICATION, store=str(published.root)))
    yield service
    service.stop()


@pytest.fixture(scope="module")
def client(service: FusedService) -> Client:
    return Client(create_app(service))


def test_recommend(client: Client) -> None:
    answer = client.post({"user_id": 103, "k": 5}, [*JSON_TYPE, (b"x-request-id", b"abc-1")])
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == "abc-1"
    assert len(answer.json["items"]) == 5
    assert answer.json["version"]["ranker"]["version"] == 1
    assert answer.json["timings_ms"]["total"] > 0


def test_blanks_around_an_id_are_no_part_of_it(client: Client) -> None:
    plain = {"user_id": "103", "history": ["i1", "i2"], "exclude": ["i42"], "request_time": NOW}
    blank = {"user_id": " 103 ", "history": ["i1\t", " i2"], "exclude": [" i42"], "request_time": NOW}
    answers = [client.post(body).json for body in (plain, blank)]
    assert answers[0]["items"] == answers[1]["items"]
    assert answers[1]["fallback"] is None
    assert client.post({"user_id": "  "}).status == 422


def test_explained_features_survive_json(client: Client, service: FusedService) -> None:
    fields = {"user_id": 103, "request_time": NOW, "explain": True}
    over_http = client.post(fields).json["items"]
    direct = service.pinned().content.recommend(RecommendRequest(**fields))["items"]
    for here, there in zip(over_http, direct, strict=True):
        sent = np.array([np.nan if v is None else v for v in here["features"].values()], np.float32)
        assert sent.tobytes() == np.array(list(there["features"].values()), np.float32).tobytes()
        assert {reason["feature"] for reason in here["why"]} <= set(here["features"])


def test_request_ids_of_clients_come_back_only_where_plain(client: Client) -> None:
    answers = [client.post({}, [*JSON_TYPE, (b"x-request-id", v)]) for v in (b"a\nb", b"", b"mine", b"mine")]
    ids = [answer.json["request_id"] for answer in answers]
    assert all(len(i) == 32 for i in ids)
    assert len(set(ids)) == 4, "an answer has its own, whatever the client says"
    assert [answer.headers["x-request-id"] for answer in answers] == [*ids[:2], "mine", "mine"]


def test_similar(client: Client) -> None:
    answer = client.get("/items/i42/similar", b"k=3")
    assert answer.status == 200
    assert [len(answer.json["items"]), answer.json["item_id"]] == [3, "i42"]
    assert "i42" not in {item["item_id"] for item in answer.json["items"]}


def test_health_versions_and_metrics(client: Client) -> None:
    assert client.get("/health").json["status"] == "ok"
    versions = client.get("/versions").json
    assert versions["names"] == {"production": 1}
    assert [v["version"] for v in versions["versions"]] == [1, 2]
    client.post({"user_id": "nobody"})
    client.post(b"{")
    replica = f"{socket.gethostname()}-{os.getpid()}"
    text = client.get("/metrics").body.decode().replace(f'replica="{replica}"', "HERE")
    assert 'recray_requests_total{HERE,route="recommend",status="200"}' in text
    assert 'recray_requests_total{HERE,route="recommend",status="400"}' in text
    assert 'recray_stage_seconds_bucket{le="0.0001",HERE,stage="features"}' in text
    assert 'recray_stage_seconds_bucket{le="10.0",HERE,stage="features"}' in text
    assert 'recray_fallbacks_total{fallback="popular",HERE}' in text
    assert 'recray_version_info{digest="' in text
    assert "recray_degraded{HERE} 0.0" in text
    assert "recray_requests_in_flight{HERE} 1.0" in text, "the one that asks"
    assert re.search(r"recray_queue_seconds_count{HERE} [1-9]", text)
    series = [line for line in text.splitlines() if not line.startswith("#")]
    assert all("HERE" in line for line in series)


def test_openapi_describes_request_and_answers(client: Client) -> None:
    paths = client.get("/openapi.json").json["paths"]
    told = {"/events", "/items/{item_id}", "/traffic", *(f"/admin/{action}" for action in CHANGES)}
    asked = {
        "/recommend",
        "/items/{item_id}/similar",
        "/health",
        "/live",
        "/ready",
        "/versions",
        "/metrics",
        "/drift",
    }
    assert set(paths) == asked | told
    assert "user_id" in json.dumps(paths["/recommend"]["post"]["requestBody"])
    told_of = json.dumps(paths["/events"]["post"]["requestBody"])
    assert "item_id" in told_of
    assert "$ref" not in told_of  # which would lead nowhere in the whole document
    assert "events[].item_id" in client.get("/docs").body.decode()


def test_every_field_of_every_answer_has_words(client: Client) -> None:
    schemas = client.get("/openapi.json").json["components"]["schemas"]
    assert {"Recommendations", "Traffic", "Heard", "Health", "Done", "Problem"} <= schemas.keys()
    fields = {
        f"{name}.{field}": said.get("description", "")
        for name, schema in schemas.items()
        for field, said in schema.get("properties", {}).items()
    }
    assert [name for name, words in fields.items() if len(words) < 3] == []


def test_the_api_page_orders_statuses(client: Client) -> None:
    calls = client.get("/docs").body.decode().split("<h2>")[1:]
    for call in calls:
        statuses = re.findall(r"<code>(\d{3})</code>", call)
        assert len(statuses) > 1
        assert statuses == sorted(statuses)


def test_the_front_page_runs_its_own_script_alone(client: Client) -> None:
    answer = client.get("/")
    page, policy = answer.body.decode(), answer.headers["content-security-policy"]
    [script] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"https?://|src=|\son[a-z]+=", page)
    assert "$" not in page.replace("${", ""), "a placeholder is left"
    assert "innerHTML" not in script


def test_the_api_page_needs_nothing_from_elsewhere(client: Client) -> None:
    answer = client.get("/docs")
    page = answer.body.decode()
    assert answer.headers["content-type"].startswith("text/html")
    assert not re.search(r"https?://|<script|src=", page)
    for said in ("POST /recommend", "history_times", "Unix seconds", "413", "not application/json"):
        assert said in page
    for answered in (
        "items[].title",
        "version.*.digest",
        "skipped[].reason",
        "timings_ms.*",
        "known_until",
        "experiments[].numbers.checks.*[].e",
    ):
        assert f"<code>{answered}</code>" in page
    assert re.search(r"<code>k</code><td>integer, 1 to 500; 10 where left out", page)
    assert re.search(r"<code>events\[\].item_id</code><td>string or integer; required", page)


def test_live_and_ready(client: Client) -> None:
    assert client.get("/live").json == {"live": True}
    assert client.get("/ready").json == {"ready": True, "problem": None}


def test_a_wrong_method_is_told_the_right_one(client: Client) -> None:
    answer = client.send("PUT", "/recommend", b"", [])
    assert [answer.status, answer.headers["allow"], answer.json["error"]] == [405, "POST", "no_such_method"]


def test_what_can_be_got_can_be_headed(client: Client) -> None:
    for page in ("/health", "/ready", "/docs", "/items/i1/similar"):
        assert client.send("HEAD", page, b"", []).status == 200
    assert client.send("HEAD", "/recommend", b"", []).status == 405


def test_a_slash_too_many_is_no_other_page(client: Client) -> None:
    assert client.send("POST", "/recommend/", b"{}", JSON_TYPE).status == 404


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"k": 0}, 422, "k: Input should be greater than or equal to 1"),
        ({"k": MAX_K + 1}, 422, f"k: Input should be less than or equal to {MAX_K}"),
        ({"k": 2.5}, 422, "k: Input should be a valid integer"),
        ({"k": "5"}, 422, "k: Input should be a valid integer"),
        ({"k": True}, 422, "k: Input should be a valid integer"),
        ({"k": None}, 422, "k: Input should be a valid integer"),
        ({"user_id": ["a"]}, 422, "user_id: Input should be a valid string"),
        ({"user_id": ""}, 422, "user_id: String should have at least 1 character"),
        ({"user_id": 2**70}, 422, "user_id: "),
        ({"user": 1}, 422, "user: Extra inputs are not permitted"),
        ({"history": "i1"}, 422, "history: Input should be a valid array"),
        ({"history": ["i1", None]}, 422, "history[1]: "),
        ({"history": ["i1", "nope"], "strict": True}, 422, "history: no item 'nope' in this catalogue"),
        ({"exclude": [999], "strict": True}, 422, "exclude: no item '999' in this catalogue"),
        ({"explain": True, "k": 51}, 422, "explain: up to k=50 items, not 51"),
        (
            {"history": ["i1", "i2"], "history_times": [5, 4]},
            422,
            "history_times: 4 at position 1 is before 5",
        ),
        (
            {"history": ["i1"], "history_times": [10**13]},
            422,
            "history_times[0]: Input should be unix seconds: divide",
        ),
        ({"history_times": [5]}, 422, "history_times: 1 for a history of 0 items"),
        ({"history": ["i1"] * (MAX_HISTORY + 1)}, 422, "history: List should have at most 1000 items"),
        ({"request_time": 1_700_000_000_000}, 422, "request_time: Input should be unix seconds: divide"),
        ({"request_time": -1}, 422, "request_time: Input should be greater"),
        ({"explain": 1}, 422, "explain: Input should be a valid boolean"),
        ([], 422, "body: Input should be an object"),
        (b"", 400, "EOF while parsing"),
        (b"{", 400, "EOF while parsing"),
        (b'{"k": NaN}', 422, "k: "),
        (b'{"k": Infinity}', 422, "k: "),
        (b'{"k": ' + b"9" * 5000 + b"}", 400, "number out of range"),
        (b'{"k": ' + b"9" * 500 + b"}", 422, "k: "),
        (b'{"user_id": "\xff\xfe"}', 400, "invalid unicode"),
        (b"[" * 100_000, 400, "recursion limit"),
        (b'{"user_id": "\\ud800"}', 400, "hex escape"),
        (b" " * (MAX_BODY_BYTES + 1), 413, f"at most {MAX_BODY_BYTES} bytes"),
    ],
)
def test_wrong_bodies_are_refused_with_a_reason(client: Client, body: Any, status: int, message: str) -> None:
    answer = client.post(body)
    assert (answer.status, message in answer.json["message"]) == (status, True), answer.body


@pytest.mark.parametrize("kind", [b"text/plain", b"application/x-www-form-urlencoded", b"", b"json", b"\xff"])
def test_other_content_types_are_415(client: Client, kind: bytes) -> None:
    assert client.post({}, [(b"content-type", kind)]).status == 415
    assert client.post({}, []).status == 415


def test_json_with_a_charset_is_welcome(client: Client) -> None:
    assert client.post({}, [(b"content-type", b"application/json; charset=utf-8")]).status == 200


def test_a_body_announced_too_large_is_refused_unread(client: Client) -> None:
    announced = (b"content-length", str(MAX_BODY_BYTES + 1).encode())
    assert client.post({}, [*JSON_TYPE, announced]).status == 413


@pytest.mark.parametrize(
    ("path", "query", "status", "message"),
    [
        ("/items/nope/similar", b"", 404, "no item 'nope'"),
        ("/items/i1/similar", b"k=0", 422, "k: "),
        ("/items/i1/similar", b"k=ten", 422, "k: "),
        ("/items/i1/similar", b"k=1e9", 422, "k: "),
        ("/items/" + "x" * 300 + "/similar", b"", 422, "item_id: "),
        ("/items//similar", b"", 404, ""),
        ("/recommend", b"", 405, "Method Not Allowed; there is POST /recommend"),
        ("/nothing", b"", 404, "Not Found; there is POST /recommend"),
    ],
)
def test_wrong_paths_are_refused_with_a_reason(
    client: Client, path: str, query: bytes, status: int, message: str
) -> None:
    answer = client.get(path, query)
    assert (answer.status, message in answer.json["message"]) == (status, True), answer.body


def test_a_service_that_fails_is_a_500_that_is_counted_and_logged(
    published: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = FusedService(ServiceConfig(application=APPLICATION, store=str(published.root)))
    monkeypatch.delattr(service, "_serves")  # a fault of ours
    client = Client(create_app(service))
    answer = client.post({}, [*JSON_TYPE, (b"x-request-id", b"abc-2")])
    service.stop()
    assert [answer.status, answer.json["error"]] == [500, "internal_error"]
    assert answer.json["request_id"] == answer.headers["x-request-id"] == "abc-2"
    assert "AttributeError" not in answer.json["message"]
    record = next(r for r in caplog.records if "abc-2" in r.getMessage())
    assert record.exc_info
    monkeypatch.undo()
    text = client.get("/metrics").body.decode()
    assert re.search(r'recray_requests_total{replica="[^"]+",route="recommend",status="500"} 1.0', text)


types = st.sampled_from([b"application/json"] * 5 + [b"text/html", b""]) | st.binary(max_size=30)
segments = st.text(string.printable + "é￿\x00", max_size=20)
paths = st.sampled_from(["/recommend"] * 8) | segments.map(lambda text: f"/items/{text}/similar") | segments
queries = st.sampled_from([b"", b"k=5"]) | st.binary(max_size=20).map(lambda text: b"k=" + text)
methods = st.sampled_from(["POST"] * 8 + ["GET", "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "X"])


@settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(methods, paths, bodies, types, queries, st.binary(max_size=20))
def test_a_thousand_malformed_requests_never_make_a_500(
    client: Client, method: str, path: str, body: bytes, kind: bytes, query: bytes, request_id: bytes
) -> None:
    headers = [(b"content-type", kind), (b"x-request-id", request_id)]
    answer = client.send(method, "/" + path.lstrip("/"), body, headers, query)
    assert answer.status < 500
    if answer.status >= 400 and method != "HEAD":
        assert answer.json["message"]
        assert answer.json["error"]
