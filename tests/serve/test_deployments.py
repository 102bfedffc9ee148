"""Both placements on a real Ray Serve, asked over HTTP."""

import dataclasses
import http.client
import itertools
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import ray
from hypothesis import HealthCheck, given, settings

from recray.config import ConfigError
from recray.event_log.reading import read
from recray.serve.http.haproxy import free_port
from recray.serve.http.requests import MAX_BODY_BYTES, RecommendRequest
from recray.serve.place import hub_actor, log_actor
from recray.serve.place.config import PlacementConfig, ServiceConfig, log_folder
from recray.serve.place.pipeline import Pipeline
from recray.serve.traffic.operations import Operations
from recray.serve.versions import open_served
from recray.store import Store
from recray.store.journal import Move, read_journal, state_of, write_journal
from tests.serve.malformed import bodies
from tests.serve.uvicorn_server import HALF
from tests.serve.world import APPLICATION, NOW, RETRIEVER, World, publish_ranker, publish_retriever

pytestmark = [pytest.mark.ray, pytest.mark.slow]

REPO = Path(__file__).parents[2]


class Server:
    """One HTTP server, two applications: fused at ``/`` and spread at ``/spread``."""

    def __init__(self, url: str, store: Store) -> None:
        self.address, self.store = urlsplit(url).netloc, store

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
        method: str = "",
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            method = method or ("GET" if body is None else "POST")
            connection.request(method, path, body, {"content-type": kind, **(headers or {})})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def json(self, path: str, **fields: Any) -> Any:
        status, body = self.ask(path, json.dumps(fields).encode() if fields else None)
        assert status == 200, body
        return json.loads(body)

    def recommend(self, placement: str, **fields: Any) -> Any:
        return self.json(f"{PATHS[placement]}/recommend", **{"request_time": NOW, **fields})


PATHS = {"fused": "", "spread": "/spread"}


@pytest.fixture(scope="module")
def server(ray_cluster: None, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    from ray import serve

    from recray.serve.place.application import build
    from recray.serve.place.deployments import start, stop

    store = Store(tmp_path_factory.mktemp("served"))
    for seed in (0, 1):
        publish_ranker(store, world, publish_retriever(store, world, seed), seed)
    store.promote(APPLICATION, 1)
    config = ServiceConfig(application=APPLICATION, store=str(store.root), poll_s=0.2)
    url = start(config, PlacementConfig(cpus_per_replica=0.5), port=free_port())
    spread = {"application": APPLICATION, "store": str(store.root), "poll_s": 0.2, "cpus_per_replica": 0.5}
    serve.run(build({**spread, "placement": "spread"}), name="spread", route_prefix="/spread")
    running = Server(url, store)
    eventually(lambda: all(running.ask(f"{path}/health")[0] == 200 for path in PATHS.values()))
    yield running
    stop()


@pytest.fixture(params=sorted(PATHS))
def placement(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "did not happen within 60 s"
        time.sleep(0.05)


def promote(server: Server, version: int) -> None:
    server.store.promote(APPLICATION, version)
    for path in PATHS.values():
        eventually(lambda p=path: server.json(f"{p}/health")["serving"]["ranker"]["version"] == version)


@pytest.mark.parametrize(
    "fields",
    [
        {"user_id": 103},
        {"user_id": "117", "k": 50, "exclude": ["i1", "i2"]},
        {"user_id": "nobody", "history": ["i10", "i20"]},
        {"k": 3},
        {"user_id": 104, "explain": True},
    ],
)
def test_both_placements_answer_like_the_pipeline(
    server: Server, placement: str, fields: dict[str, Any]
) -> None:
    promote(server, 1)
    pipeline = Pipeline(open_served(server.store, APPLICATION))
    direct = json.loads(json.dumps(pipeline.recommend(RecommendRequest(request_time=NOW, **fields))))
    served = server.recommend(placement, **fields)
    nulls = json.loads(json.dumps(direct["items"]).replace("NaN", "null"))
    assert served["items"] == nulls
    assert [served["fallback"], served["version"]] == [direct["fallback"], direct["version"]]
    assert served["request_id"]
    hops = {"hops"} if placement == "spread" else set()
    assert set(served["timings_ms"]) == set(direct["timings_ms"]) | hops


def test_half_bodies_hold_no_place(server: Server, placement: str) -> None:
    """More of them than the places of a replica: others are answered, and those are told that it is late."""
    promote(server, 1)
    path = PATHS[placement]
    port = int(server.address.split(":")[1])
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
    for one in held:
        one.sendall(HALF.replace(b"/recommend", f"{path}/recommend".encode()))
    for page in ("/live", "/ready", "/health"):
        assert server.ask(path + page)[0] == 200
    assert server.recommend(placement, user_id=101)["items"]
    assert b" 408 " in held[0].recv(65536)
    for one in held:
        one.close()


def test_the_other_pages(server: Server, placement: str) -> None:
    promote(server, 1)
    path = PATHS[placement]
    similar = server.json(f"{path}/items/i42/similar?k=4")
    assert len(similar["items"]) == 4
    assert server.json(f"{path}/versions")["names"] == {"production": 1}
    server.recommend(placement, user_id=101)
    status, text = server.ask(f"{path}/metrics")
    assert status == 200
    assert b'route="recommend",status="200"} ' in text


@pytest.mark.parametrize(
    ("path", "body", "kind", "status"),
    [
        ("/recommend", b'{"k": 0}', "application/json", 422),
        ("/recommend", b"{", "application/json", 400),
        ("/recommend", b"{}", "text/plain", 415),
        ("/recommend", b'{"exclude": ["nope"], "strict": true}', "application/json", 422),
        ("/recommend", b" " * (MAX_BODY_BYTES + 1), "application/json", 413),
        ("/items/nope/similar", None, "", 404),
        ("/items/i1/similar?k=0", None, "", 422),
        ("/nothing", None, "", 404),
        ("/recommend", None, "", 405),
        ("/recommend", b'{"k": 51, "explain": true}', "application/json", 422),
    ],
)
def test_refusals_reach_the_client(
    server: Server, placement: str, path: str, body: bytes | None, kind: str, status: int
) -> None:
    answer = server.ask(PATHS[placement] + path, body, kind)
    assert answer[0] == status
    assert json.loads(answer[1])["message"]


@pytest.mark.parametrize("given", ["abc-1", "a b", None])
def test_a_clients_request_id_comes_back_and_the_answer_has_its_own(
    server: Server, placement: str, given: str | None
) -> None:
    connection = http.client.HTTPConnection(server.address, timeout=30)
    headers = {"content-type": "application/json"} | ({"x-request-id": given} if given else {})
    connection.request("POST", f"{PATHS[placement]}/recommend", b"{}", headers)
    response = connection.getresponse()
    request_id = json.load(response)["request_id"]
    connection.close()
    (traced,) = response.headers.get_all("x-request-id")
    assert (traced == given) == (given == "abc-1")
    assert len(request_id) == 32
    assert request_id != given


@pytest.mark.parametrize("name", ["x-request-id", "serve_multiplexed_model_id", "x-session-id"])
def test_headers_that_are_not_text_are_refused(server: Server, placement: str, name: str) -> None:
    # http.client sends text as latin-1: these are the bytes ff fe, which are not UTF-8.
    status, body = server.ask(f"{PATHS[placement]}/health", headers={name: "\xff\xfe"})
    assert [status, json.loads(body)["error"]] == [400, "bad_header"]


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=bodies)
def test_malformed_requests_over_http_never_make_a_500(server: Server, placement: str, body: bytes) -> None:
    status, _ = server.ask(f"{PATHS[placement]}/recommend", body)
    assert status < 500


def test_answers_are_whole_while_production_moves(server: Server, placement: str) -> None:
    """Clients ask all the time; every answer is one version's own, and both versions are seen."""
    expected: dict[int, Any] = {}
    for version in (1, 2):
        promote(server, version)
        expected[version] = server.recommend(placement, user_id=102, k=20)["items"]
    assert expected[1] != expected[2]
    faults: list[Any] = []
    seen: set[int] = set()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answer = server.recommend(placement, user_id=102, k=20)
            versions = {served["version"] for served in answer["version"].values()}
            if len(versions) != 1 or answer["items"] != expected[min(versions)]:
                faults.append(answer)
            seen.update(versions)

    askers = [threading.Thread(target=ask) for _ in range(8)]
    for asker in askers:
        asker.start()
    for version in (1, 2, 1):
        promote(server, version)
    stop.set()
    for asker in askers:
        asker.join()
    assert faults == []
    assert seen == {1, 2}


def test_a_broken_version_keeps_the_old_one_serving(server: Server, world: World, placement: str) -> None:
    promote(server, 1)
    broken = publish_ranker(server.store, world, server.store.open(RETRIEVER, 1), seed=7)
    path = broken.path("ranker.ubj")
    path.chmod(0o644)
    whole = path.read_bytes()
    path.write_bytes(b"x" * len(whole))
    point_production_at(server.store, broken.manifest.version)
    health = PATHS[placement] + "/health"
    eventually(lambda: server.json(health)["status"] == "degraded")
    assert "ranker.ubj differs" in server.json(health)["problem"]
    assert server.recommend(placement, user_id=101)["version"]["ranker"]["version"] == 1
    server.store.rollback(APPLICATION)
    eventually(lambda: server.json(health)["status"] == "ok")


def point_production_at(store: Store, version: int) -> None:
    """Moves the name past the check that ``promote`` makes, as damage after a promotion would."""
    folder = store.root / APPLICATION
    move = Move(name="production", version=version, action="promote", at="")
    write_journal(folder, [*read_journal(folder), move], state_of(folder))


def test_a_ranking_deployment_that_is_late_is_not_waited_for(server: Server) -> None:
    """One millisecond is less than the hop; fused, it may be enough (``test_budget``)."""
    promote(server, 1)
    whole = server.recommend("spread", user_id=103)
    assert whole["skipped"] == []
    late = server.recommend("spread", user_id=103, budget_ms=1)
    assert late["skipped"] == [{"stage": stage, "reason": "late"} for stage in ("retrieve", "rank")]
    assert late["fallback"] == "recent"
    assert len(late["items"]) == 10
    assert {item["score"] for item in late["items"]} != {item["score"] for item in whole["items"]}


def replica_of(deployment: str) -> psutil.Process:
    """The process of the one replica of a deployment of the spread application, once there is one."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        below = psutil.Process().children(recursive=True)
        found[:] = [one for one in below if f"ServeReplica:spread:{deployment}" in " ".join(_command(one))]
        return len(found) == 1

    eventually(is_there)
    return found[0]


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize(("deployment", "stage"), [("retrieval", "retrieve"), ("ranking", "rank")])
def test_a_deployment_that_dies_or_hangs_costs_no_answer(
    server: Server, deployment: str, stage: str, how: signal.Signals
) -> None:
    promote(server, 1)
    eventually(lambda: server.recommend("spread", user_id=103)["skipped"] == [])
    before = server.recommend("spread", user_id=103)
    replica = replica_of(deployment)
    replica.send_signal(how)
    skipped, deadline = [], time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = server.recommend("spread", user_id=103)
        assert len(answer["items"]) == 10
        skipped.append([one["stage"] for one in answer["skipped"]])
        if stage == "retrieve" and skipped[-1]:
            assert answer["items"] == before["items"]  # found before, ranked now
            refused = server.ask("/spread/items/i42/similar?k=4")[0]
            assert refused in (200, 503)
        if [stage] in skipped and not skipped[-1]:
            break
    assert [stage] in skipped
    assert skipped[-1] == [], "it did not come back within 60 s"
    assert {tuple(each) for each in skipped} <= {(), (stage,)}


def test_what_one_replica_is_told_all_of_them_know(server: Server) -> None:
    """The last one that asks: what is told stays known. Told to the fused one, whose hub both share."""
    promote(server, 1)
    later = NOW + 86_400

    def items(placement: str, **fields: Any) -> list[str]:
        answer = server.json(f"{PATHS[placement]}/recommend", request_time=later, k=20, **fields)
        return [item["item_id"] for item in answer["items"]]

    before = {placement: items(placement, user_id=103) for placement in PATHS}
    assert before["fused"] == before["spread"]
    seen, gone = before["fused"][:2]
    events = [{"user_id": user, "item_id": seen, "time": NOW + 60} for user in (103, "a stranger")]
    status, body = server.ask("/events", json.dumps({"events": events}).encode())
    assert status == 202
    assert json.loads(body)["accepted"] == 2
    connection = http.client.HTTPConnection(server.address, timeout=30)
    connection.request("PUT", f"/items/{gone}", b'{"available": false}', {"content-type": "application/json"})
    assert connection.getresponse().status == 202
    connection.close()
    for placement in PATHS:
        eventually(lambda p=placement: not {seen, gone} & set(items(p, user_id=103)))
        path, stranger = f"{PATHS[placement]}/recommend", {"request_time": later, "user_id": "a stranger"}
        eventually(lambda p=path, s=stranger: server.json(p, **s)["fallback"] == "history")
        assert server.json(f"{PATHS[placement]}/health")["known_until"]


def test_new_items_are_known_to_both_placements(server: Server) -> None:
    """Told of at one, they are found, shown, read and left out at both, with and without the ranker."""
    promote(server, 1)
    new = {"title": "Film of tomorrow", "genres": ["drama"], "year": 2000}
    for name in ("new-1", "new-2"):
        status, body = server.ask(f"/items/{name}", json.dumps(new).encode(), method="PUT")
        assert status == 202, body
    for path in PATHS.values():
        eventually(lambda path=path: server.ask(f"{path}/items/new-2/similar")[0] == 200)
    eventually(lambda: server.json("/spread/items/new-2/similar")["items"] != [])
    near = [server.json(f"{path}/items/new-1/similar?k=8")["items"] for path in PATHS.values()]
    assert near[0] == near[1]
    assert len(near[0]) == 8

    def shown(placement: str, **fields: Any) -> list[str]:
        answer = server.recommend(placement, k=300, **fields)
        titles = {item["item_id"]: item["title"] for item in answer["items"]}
        assert titles.get("new-1", new["title"]) == new["title"]
        return list(titles)

    for placement in PATHS:
        eventually(lambda placement=placement: "new-1" in shown(placement, user_id=103))
        assert not {"new-1", "new-2"} & set(shown(placement, user_id=103, exclude=["new-1", "new-2"]))
        stranger = server.recommend(placement, history=["new-1"], strict=True)
        assert stranger["fallback"] == "history"
        assert "new-1" not in shown(placement, history=["new-1"], strict=True)
    eventually(lambda: shown("fused", user_id=103) == shown("spread", user_id=103))
    reasons = [server.recommend(p, user_id=103, k=50, explain=True)["candidates"] for p in PATHS]
    assert reasons[0] == reasons[1]
    late = server.recommend("spread", user_id=103, k=300, budget_ms=1)
    assert late["skipped"]
    assert "new-1" in {item["item_id"] for item in late["items"]}
    event = {"user_id": 103, "item_id": "new-1", "time": NOW + 5}
    status, _ = server.ask("/spread/events", json.dumps({"events": [event]}).encode())
    assert status == 202
    for placement in PATHS:
        eventually(
            lambda placement=placement: "new-1" not in shown(placement, user_id=103, request_time=NOW + 9)
        )
    status, body = server.ask("/spread/items/new-1", b'{"yaer": 1}', method="PUT")
    assert (status, json.loads(body)["message"]) == (
        422,
        "yaer: the items have no such column, did you mean 'year'?",
    )
    promote(server, 2)
    for placement in PATHS:
        assert "new-2" in shown(placement, user_id=103)


def test_a_canary_is_shown_judged_and_ended(server: Server, placement: str) -> None:
    """All replicas send the same users to the same arms, and one desk knows what came of it."""
    promote(server, 1)
    path, on = PATHS[placement], Operations(server.store, APPLICATION)
    on.canary(2, ramp="30%", force=True)
    users = [f"visitor-{placement}-{n}" for n in range(60)]

    def arms() -> dict[str, str]:
        found = {}
        for user in users:
            answer = server.json(f"{path}/recommend", user_id=user)
            arm = found[user] = answer.get("arm", {}).get("arm", "production")
            assert answer["version"]["ranker"]["version"] == (2 if arm == "canary" else 1)
        return found

    eventually(lambda: len(set(arms().values())) == 3)
    first = arms()
    assert arms() == first
    clicked = next(user for user in users if first[user] == "canary")
    answer = server.json(f"{path}/recommend", user_id=clicked)
    click = {"user_id": clicked, "item_id": answer["items"][0]["item_id"], "request_id": answer["request_id"]}
    status, _ = server.ask(f"{path}/events", json.dumps({"events": [click]}).encode())
    assert status == 202
    eventually(lambda: server.json(f"{path}/traffic")["outcomes"].get("claimed", 0) >= 1)
    of_arms = server.json(f"{path}/traffic")["experiments"][0]["numbers"]["arms"]
    assert of_arms["canary"]["requests"] >= 2 * list(first.values()).count("canary")
    on.promote(2, force=True)
    eventually(lambda: server.json(f"{path}/health")["serving"]["ranker"]["version"] == 2)
    eventually(lambda: server.json(f"{path}/traffic")["experiments"] == [])


def killed(name: str, namespace: str) -> None:
    """Ends an actor's process as the kernel would; Ray starts another one."""
    actor = ray.get_actor(name, namespace)
    os.kill(ray.get(actor.__ray_call__.remote(lambda _: os.getpid())), signal.SIGKILL)


def test_what_was_acknowledged_is_never_lost(server: Server) -> None:
    """The processes of the log and of the hub are killed while eight clients tell them of events."""
    told, acknowledged, is_over = itertools.count(), list[str](), threading.Event()

    def tell() -> None:
        while not is_over.is_set():
            event = {
                "user_id": "139",
                "item_id": "i290",
                "event_id": f"told-{next(told)}",
                "kind": "impression",
            }
            body, status = json.dumps({"events": [event]}).encode(), 0
            while status != 202 and not is_over.is_set():
                status, _ = server.ask("/events", body)
                assert status in (202, 503)
            if status == 202:
                acknowledged.append(event["event_id"])

    node = ray.get_runtime_context().get_node_id()
    with ThreadPoolExecutor(8) as clients:
        running = [clients.submit(tell) for _ in range(8)]
        try:
            for _ in range(3):
                before = len(acknowledged)
                eventually(lambda before=before: len(acknowledged) > before + 50)
                killed(f"{APPLICATION}@{node}", log_actor.NAMESPACE)
        finally:
            is_over.set()
        for each in running:
            each.result()
    log = read(log_folder(server.store, APPLICATION))
    ids = log.events["event_id"].to_list()
    assert len(ids) == len(set(ids))
    assert set(acknowledged) <= set(ids)

    event = json.dumps({"events": [{"user_id": "139", "item_id": "i1", "event_id": "last"}]}).encode()
    eventually(lambda: server.ask("/events", event)[0] == 202)
    killed(APPLICATION, hub_actor.NAMESPACE)

    def is_known() -> bool:
        try:
            kept = ray.get(ray.get_actor(APPLICATION, hub_actor.NAMESPACE).after.remote(0, "")).told
        except ray.exceptions.ActorUnavailableError:  # not yet
            return False
        return any(getattr(one, "event_id", "") == "last" for one in kept)

    eventually(is_known)


def test_start_says_what_is_missing(ray_cluster: None, tmp_path: Path) -> None:
    from recray.serve.place.deployments import start

    with pytest.raises(ConfigError, match="no bundle 'nothing'"):
        start(ServiceConfig(application="nothing", store=str(tmp_path)), port=free_port())


def test_start_says_why_a_replica_does_not_start(server: Server, world: World, tmp_path: Path) -> None:
    from recray.serve.place.deployments import start

    store = Store(tmp_path)
    nameless = dataclasses.replace(world, users=world.users.rename({"raw_id": "id"}))
    publish_retriever(store, nameless)
    store.promote(RETRIEVER, 1)
    with pytest.raises(ConfigError, match=r'does not start: .*"raw_id"'):
        start(
            ServiceConfig(application=RETRIEVER, store=str(tmp_path)), port=int(server.address.split(":")[1])
        )


@pytest.mark.parametrize("name", ["two_stage", "two_stage_spread"])
def test_the_config_files_are_valid(name: str) -> None:
    import yaml
    from ray.serve.schema import ServeDeploySchema

    from recray.serve.place.application import build

    content = yaml.safe_load((REPO / "serve_apps" / f"{name}.yaml").read_text())
    ServeDeploySchema(**content)
    application = content["applications"][0]
    assert application["import_path"] == "recray.serve.place.application:build"
    build(application["args"])
