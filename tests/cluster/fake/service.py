"""A RunPod of this machine: its REST v2 by its own description, its limits, its prices, and its bad days."""

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from tests.cluster.fake.description import Description
from tests.cluster.fake.records import Answer, Call, FakeError, Fault, Machines, Pod

WINDOWS = ((60, 60), (3600, 3000), (86400, 50000))
RESET = -1  # in the place of a status: the connection breaks
JUDGED = 200  # answers that are held against the description: a simulated day has tens of thousands
KEY = "account-key-of-the-fake"
PRICES = {"NVIDIA RTX A4000": 0.25, "NVIDIA L4": 0.43, "NVIDIA GeForce RTX 4090": 0.69, "NVIDIA H100": 2.99}


@dataclass
class Service:
    description: Description
    clock: Callable[[], float] = time.time
    machines: Machines | None = None
    start_s: float = 0.0
    """Until a pod runs, where no machine says so."""
    ssh_late_s: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    sold_out: set[str] = field(default_factory=set)
    prices: dict[str, float] = field(default_factory=lambda: dict(PRICES))
    billed: dict[str, float] = field(default_factory=dict)
    """What a type costs in truth, where not what the list says."""
    no_money: bool = False
    fails: str = ""
    """ERROR or EXITED: what pods made from now on come to."""
    locked: set[str] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    pods: dict[str, Pod] = field(default_factory=dict)
    clusters: dict[str, dict[str, Any]] = field(default_factory=dict)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    # Money and calls, as the tests look at them.

    def charged(self) -> float:
        """Dollars of all pods there were."""
        with self.lock:
            return sum(self._dollars(pod) for pod in self.pods.values())

    def _dollars(self, pod: Pod) -> float:
        if pod.fails == "EXITED":
            return 0.0
        return pod.rate * ((pod.gone or self.clock()) - pod.created) / 3600

    def there(self) -> list[Pod]:
        with self.lock:
            return [pod for pod in self.pods.values() if not pod.gone]

    def most(self, seconds: float) -> int:
        """Calls in the fullest window of that length."""
        times, most, first = [call.at for call in self.calls], 0, 0
        for last, at in enumerate(times):
            while times[first] <= at - seconds:
                first += 1
            most = max(most, last - first + 1)
        return most

    # The service.

    def handle(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        path, query = urlsplit(target).path, dict(parse_qsl(urlsplit(target).query))
        try:
            with self.lock:
                limited = self._limited()
                answer = limited or self._answer(
                    method, path, query, headers, body, self._fault(method, path)
                )
        except FakeError as error:
            answer = error.answer
        shown = "\n".join(f"{k}: {v}" for k, v in headers.items() if k.lower() != "authorization")
        with self.lock:
            self.calls.append(Call(self.clock(), method, target, answer.status, body.decode(), shown))
        return answer

    def _fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times and (fault.method, True) == (method, path.startswith(fault.path)):
                    fault.times -= 1
                    return fault
        return None

    def _limited(self) -> Answer | None:
        now = self.clock()
        for seconds, allowed in WINDOWS:
            if len(self.calls) >= allowed and (first := self.calls[-allowed].at) > now - seconds:
                wait = first + seconds - now
                error = {"title": "Too Many Requests", "status": 429, "detail": "rate limit"}
                return Answer(429, error, {"Retry-After": str(int(wait) + 1)})
        return None

    def _answer(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        headers: Mapping[str, str],
        body: bytes,
        fault: Fault | None,
    ) -> Answer:
        kind = fault.kind if fault else ""
        if kind == "429":
            error = {"title": "Too Many Requests", "status": 429, "detail": "rate limit"}
            return Answer(429, error, {"Retry-After": f"{fault.seconds:.0f}" if fault else ""})
        if kind in ("500", "503"):
            raise FakeError(int(kind), "the data centre is on fire")
        if kind in ("timeout", "reset"):
            return Answer(0 if kind == "timeout" else RESET)
        own = self._own(headers)
        schema, answer = self._routed(method, path, query, _json(body), own, fault)
        if schema and len(self.calls) < JUDGED and (wrong := self.description.wrong(schema, answer.body)):
            raise AssertionError(f"the fake answers outside the description: {method} {path}: {wrong}")
        if kind == "done_then_timeout":
            return Answer(0)
        if kind in ("done_then_500", "late"):
            raise FakeError(500, "something went wrong")
        return answer

    def _own(self, headers: Mapping[str, str]) -> str:
        """The pod whose key asks; empty: the account's."""
        given = {k.lower(): v for k, v in headers.items()}.get("authorization", "").removeprefix("Bearer ")
        if given == KEY:
            return ""
        for pod in self.pods.values():
            if pod.key == given:
                return pod.id
        raise FakeError(401, "missing or invalid bearer token")

    def _routed(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        body: Any,
        own: str,
        fault: Fault | None,
    ) -> tuple[str, Answer]:
        parts = path.strip("/").split("/")[1:]
        if own and parts[:2] != ["pods", own]:
            raise FakeError(403, "this key is of one pod")
        match (method, *parts):
            case ("GET", "pods"):
                shown = [
                    self._pod(pod)
                    for pod in self.there()
                    if pod.hidden_until <= self.clock()
                    and (not pod.cluster or query.get("includeClusterPods") == "true")
                ]
                return "ListPodsResponse", Answer(200, {"pods": shown})
            case ("POST", "pods"):
                pod = self._create(body)
                if fault and fault.kind == "late":
                    pod.hidden_until = self.clock() + fault.seconds
                return "Pod", Answer(201, self._pod(pod))
            case ("GET", "pods", pod_id):
                return "Pod", Answer(200, self._pod(self._known(pod_id)))
            case ("DELETE", "pods", pod_id):
                pod = self._known(pod_id)
                if pod.cluster or pod_id in self.locked:
                    raise FakeError(409, "pod belongs to a cluster" if pod.cluster else "pod is locked")
                self._gone(pod)
                return "", Answer(204)
            case ("GET", "clusters"):
                listed = [key for key, made in self.clusters.items() if made["hidden_until"] <= self.clock()]
                shown = [self._cluster(key) for key in listed]
                return "ListClustersResponse", Answer(200, {"clusters": shown})
            case ("POST", "clusters"):
                late = fault.seconds if fault and fault.kind == "late" else 0.0
                return "Cluster", Answer(201, self._create_cluster(body, self.clock() + late))
            case ("GET", "clusters", cluster_id, "pods"):
                members = [self._pod(pod) for pod in self.there() if pod.cluster == cluster_id]
                return "ListPodsResponse", Answer(200, {"pods": members})
            case ("DELETE", "clusters", cluster_id):
                if cluster_id not in self.clusters:
                    raise FakeError(404, "cluster not found")
                del self.clusters[cluster_id]
                for pod in self.there():
                    if pod.cluster == cluster_id:
                        self._gone(pod)
                return "", Answer(204)
            case ("GET", "catalog", "gpus"):
                return "ListGpuTypesResponse", Answer(200, {"gpus": list(map(self._gpu, self.prices))})
            case ("GET", "network-volumes"):
                return "ListNetworkVolumesResponse", Answer(200, {"networkVolumes": self.volumes})
        raise FakeError(404, f"no {method} {path} here")

    def _known(self, pod_id: str) -> Pod:
        if pod_id not in self.pods or self.pods[pod_id].gone:
            raise FakeError(404, "pod not found")
        return self.pods[pod_id]

    def _create(self, body: Any) -> Pod:
        if wrong := self.description.wrong("CreatePodRequest", body):
            raise FakeError(422, "the body does not match", wrong)
        if ("gpu" in body) == ("cpu" in body):
            raise FakeError(400, "exactly one of gpu and cpu")
        if self.no_money:
            raise FakeError(402, "insufficient balance")
        kind = body.get("gpu", {}).get("id", "")
        if kind in self.sold_out or (kind and kind not in self.prices):
            raise FakeError(400, f"no capacity for {kind}")
        rate = self.billed.get(kind, self.prices.get(kind, 0.08)) * body.get("gpu", {}).get("count", 1)
        return self._made(body, rate)

    def _made(self, body: dict[str, Any], rate: float, cluster: str = "", rank: int | None = None) -> Pod:
        pod_id = secrets.token_hex(7)
        made = Pod(
            pod_id, body, self.clock(), rate, f"rpa_{secrets.token_hex(16)}", cluster, rank, self.fails
        )
        self.pods[pod_id] = made
        if self.machines and not self.fails:
            env = {**body.get("env", {}), "RUNPOD_POD_ID": pod_id, "RUNPOD_API_KEY": made.key}
            self.machines.start(pod_id, env, rank or 0)
        return made

    def _create_cluster(self, body: Any, listed_from: float) -> dict[str, Any]:
        if wrong := self.description.wrong("CreateClusterRequest", body):
            raise FakeError(422, "the body does not match", wrong)
        compute, cluster_id = body["compute"], f"cluster_{secrets.token_hex(4)}"
        if compute["gpuTypeId"] in self.sold_out:
            raise FakeError(400, "no capacity")
        self.clusters[cluster_id] = {"body": body, "created": self.clock(), "hidden_until": listed_from}
        rate = self.prices[compute["gpuTypeId"]] * compute["gpuCountPerPod"]
        pod_body = {k: v for k, v in body.items() if k not in ("compute", "type")}
        pod_body["gpu"] = {"id": compute["gpuTypeId"], "count": compute["gpuCountPerPod"]}
        for rank in range(compute["podCount"]):
            self._made({**pod_body, "name": f"{body['name']}-{rank}"}, rate, cluster_id, rank)
        return self._cluster(cluster_id)

    def _gone(self, pod: Pod) -> None:
        pod.gone = self.clock()
        if self.machines:
            threading.Thread(target=self.machines.kill, args=(pod.id,), daemon=True).start()

    # As the description has things.

    def _status(self, pod: Pod) -> str:
        if pod.fails:
            return pod.fails
        if self.machines:
            return "RUNNING" if self.machines.door(pod.id) else "STARTING"
        age = self.clock() - pod.created
        return "RUNNING" if age >= self.start_s else "STARTING" if age >= self.start_s / 2 else "PROVISIONING"

    def _pod(self, pod: Pod) -> dict[str, Any]:
        status, networked = self._status(pod), bool(pod.body.get("globalNetworking")) or bool(pod.cluster)
        address = self.machines.address(pod.id) if self.machines else f"10.65.0.{len(self.pods) % 250 + 2}"
        door = self.machines.door(pod.id) if self.machines else ("127.0.0.1", 2222)
        late = self.clock() - pod.created < self.start_s + self.ssh_late_s
        direct = None
        if door and status == "RUNNING" and not late and "22/tcp" in pod.body.get("ports", []):
            direct = {"host": door[0], "port": door[1], "username": "root", "command": f"ssh root@{door[0]}"}
        network: dict[str, Any] = {"enabled": networked and not pod.cluster}
        if networked and not pod.cluster:
            network |= {"ip": address, "internalDns": f"{pod.id}.runpod.internal"}
        when = datetime.fromtimestamp(pod.created, UTC).isoformat()
        shown = {
            "id": pod.id,
            "name": pod.body["name"],
            "status": status,
            "actions": ["stop", "terminate"],
            "image": pod.body["image"],
            "args": "",
            "disk": pod.body.get("disk", 50),
            "mounts": pod.body.get("mounts", {}),
            "ports": pod.body.get("ports", []),
            "env": pod.body.get("env", {}),
            "registry": None,
            "cloud": pod.body.get("cloud", "SECURE"),
            "dataCenterId": (pod.body.get("dataCenterIds") or ["US-TX-3"])[0],
            "cudaVersion": "12.8",
            "ssh": {"proxy": None, "direct": direct},
            "template": None,
            "cost": 0.0 if status == "EXITED" else pod.rate,
            "locked": pod.id in self.locked,
            "runtime": None,
            "createdAt": when,
            "startedAt": when,
            "globalNetworking": network,
        }
        if "gpu" in pod.body:
            shown["gpu"] = pod.body["gpu"]
        else:
            shown["cpu"] = {**pod.body["cpu"], "memory": 8}
        if pod.cluster:
            shown["cluster"] = {"id": pod.cluster, "rank": pod.rank, "ip": address}
        return shown

    def _cluster(self, cluster_id: str) -> dict[str, Any]:
        made = self.clusters[cluster_id]
        its = [pod for pod in self.there() if pod.cluster == cluster_id]
        return {
            "id": cluster_id,
            "name": made["body"]["name"],
            "type": made["body"]["type"],
            "compute": made["body"]["compute"],
            "pods": {"total": len(its), "byStatus": {"RUNNING": len(its)}},
            "primary": self._primary(its),
            "createdAt": datetime.fromtimestamp(made["created"], UTC).isoformat(),
        }

    def _primary(self, members: list[Pod]) -> dict[str, Any]:
        first = next(pod for pod in members if pod.rank == 0)
        return {"podId": first.id, "status": self._status(first)}

    def _gpu(self, kind: str) -> dict[str, Any]:
        return {
            "id": kind,
            "name": kind,
            "pool": None,
            "manufacturer": "NVIDIA",
            "memory": 24,
            "secure": True,
            "community": False,
            "price": {"secure": self.prices[kind], "community": 0.0},
            "maxCount": {"secure": 8, "community": 0},
            "availability": "NONE" if kind in self.sold_out else "HIGH",
        }

    # How it is reached.

    def transport(self) -> httpx.MockTransport:
        """In this process, without a network."""

        def answer(request: httpx.Request) -> httpx.Response:
            said = self.handle(
                request.method, str(request.url.raw_path, "ascii"), request.headers, request.read()
            )
            if said.status == 0:
                raise httpx.ReadTimeout("no answer", request=request)
            if said.status == RESET:
                raise httpx.ReadError("connection reset", request=request)
            return httpx.Response(said.status, json=said.body, headers=dict(said.headers))

        return httpx.MockTransport(answer)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body or b"null")
    except ValueError as error:
        raise FakeError(400, "the body is no JSON") from error


@contextmanager
def served(service: Service, host: str = "127.0.0.1") -> Iterator[str]:
    """The service at an address, which is given."""

    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            said = service.handle(self.command, self.path, dict(self.headers), body)
            if said.status <= 0:
                time.sleep(3 if said.status == 0 else 0)
                self.close_connection = True
                return
            text = b"" if said.body is None else json.dumps(said.body).encode()
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = do

        def log_message(self, format: str, *words: object) -> None:
            pass

    server = ThreadingHTTPServer((host, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
