"""A cluster's pods against a RunPod that answers by its description: made once, found, paid for, ended."""

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import httpx
import jsonschema  # type: ignore[import-untyped]
import pytest
import ray
import yaml
from click import ClickException

from recray.cluster import clusters, instant
from recray.cluster.api import UNTIL, RefusedError, RunPod
from recray.cluster.guard import Cluster, Own
from recray.cluster.instant import Instant
from recray.cluster.journal import Journal
from recray.cluster.plan import Limits, estimate, machine
from recray.cluster.pods import KIND, Pods
from recray.cluster.runpod import RunPodNodeProvider
from recray.config import ConfigError, UnavailableError
from tests.cluster.fake.description import description
from tests.cluster.fake.records import Fault, Kind
from tests.cluster.fake.service import KEY, PRICES, Service

REPO = Path(__file__).absolute().parents[2]
CONFIG = REPO / "cluster.yaml"
TYPES = list(PRICES)
POD = {"gpu": TYPES[:2], "image": "recray:test"}
needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen (openssh-client)")
HOURS = 1  # of a simulated day
BOUNDS = Limits(dollars=20, hours=8)


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(clock: Clock) -> Service:
    return Service(description(), clock=clock)


@pytest.fixture
def client(service: Service, clock: Clock) -> RunPod:
    return RunPod(KEY, transport=service.transport(), clock=clock, sleep=clock.sleep)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    monkeypatch.delenv("RECRAY_NOTIFY", raising=False)


def env(kind: str = "worker", **more: str) -> dict[str, str]:
    return {KIND: kind, "RECRAY_TAGS": json.dumps({"ray-node-type": kind}), **more}


def make(pods: Pods, kind: str = "worker", **changes: Any) -> str:
    return pods.make(machine({**POD, **changes}), BOUNDS, kind, env(kind)).id


def live(pods: Pods) -> None:
    for kind in ("head", "worker", "worker", "worker"):
        make(pods, kind)
    pods.end_all()


def welcome(shell: object) -> bool:
    """Of pods that are none: they have the token."""
    return True


# What a call that goes wrong leaves.


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("429", 1),
        ("done_then_500", 1),
        ("done_then_timeout", 1),
        ("500", 0),
        ("503", 0),
        ("timeout", 0),
        ("reset", 0),
        ("late", 0),
    ],
)
def test_a_creation_that_goes_wrong_leaves_one_pod_or_none(
    kind: Kind, made: int, service: Service, client: RunPod, clock: Clock
) -> None:
    service.faults.append(Fault("POST", "/v2/pods", kind, seconds=30))
    pods = Pods(client, "shop")
    if made:
        pod = make(pods)
        assert [pod] == [each.id for each in service.there()]
    else:
        with pytest.raises(UnavailableError):
            make(pods)
    clock.sleep(60)  # a late one is listed by now: of this cluster, so its end ends it
    assert len(pods.all()) == len(service.there()) == (made or (kind == "late"))
    pods.end_all()
    assert service.there() == []
    assert pods.journal.state().dollars(clock()) == pytest.approx(service.charged(), abs=0.01)


def test_every_other_call_is_asked_again(service: Service, client: RunPod, clock: Clock) -> None:
    pods = Pods(client, "shop")
    make(pods)
    kinds: tuple[Kind, ...] = ("429", "500", "503", "timeout", "reset", "done_then_timeout", "done_then_500")
    for kind in kinds:
        service.faults += [Fault("GET", "/v2/pods", kind, 2), Fault("DELETE", "/v2/pods", kind)]
        assert len(pods.all(fresh=True)) == 1
    pods.end_all()
    assert service.there() == []
    service.faults.append(Fault("GET", "/v2/pods", "500", 10**6))
    with pytest.raises(UnavailableError, match="HTTP 500.*asked [0-9]+ times"):
        pods.all(fresh=True)


def test_retry_after_is_kept(service: Service, client: RunPod, clock: Clock) -> None:
    service.faults.append(Fault("GET", "/v2/pods", "429", seconds=17))
    before = clock()
    client.pods()
    assert clock() - before >= 17


@pytest.mark.parametrize(("status", "sentence"), [("ERROR", "ERROR"), ("EXITED", "EXITED")])
def test_a_pod_that_fails_is_deleted_and_is_no_node(
    status: str, sentence: str, service: Service, client: RunPod, caplog: pytest.LogCaptureFixture
) -> None:
    service.fails = status
    provider = RunPodNodeProvider({"limits": {"dollars": 9, "hours": 1}}, "shop", Pods(client, "shop"))
    pod = make(provider.pods)
    assert provider.is_terminated(pod)
    assert provider.non_terminated_nodes({}) == []
    assert sentence in caplog.text
    assert service.there() == []


# What is to be had, and what it costs.


def test_the_first_type_that_is_to_be_had_is_taken(service: Service, client: RunPod) -> None:
    pods = Pods(client, "shop")
    service.sold_out = {TYPES[0]}
    make(pods)
    assert [pod.body["gpu"]["id"] for pod in service.there()] == [TYPES[1]]
    service.sold_out = set(TYPES)
    with pytest.raises(UnavailableError, match=f"no pod to be had: 1 x {TYPES[0]}.*no capacity"):
        make(pods)


def test_no_pod_that_is_too_dear(service: Service, client: RunPod) -> None:
    pods = Pods(client, "shop")
    with pytest.raises(ConfigError, match=r"no pod within 0.20 dollars an hour: .* 0.25 \$/h"):
        make(pods, max_dollars_per_hour=0.2)
    service.billed = {TYPES[0]: 9.0}  # the list says a quarter
    make(pods)
    assert [pod.body["gpu"]["id"] for pod in service.there()] == [TYPES[1]]
    service.no_money = True
    with pytest.raises(RefusedError, match="insufficient balance"):
        make(pods)


def test_no_pod_beyond_the_ceiling(service: Service, client: RunPod, clock: Clock) -> None:
    pods = Pods(client, "shop")
    make(pods)
    clock.sleep(3600 * 4 * 19.99)
    with pytest.raises(UnavailableError, match="0.0. dollars are left"):
        make(pods)
    assert len(service.there()) == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"gpu": ["RTX 9999"]}, "RunPod has no GPU 'RTX 9999'"),
        ({"gpus": 9}, "one pod has at most 8 of"),
        ({"gpu": []}, "names either gpu"),
        ({"volume": "mine"}, "no network volume 'mine'"),
        ({"env": {"WANDB_API_KEY": "x"}}, "WANDB_API_KEY, which RunPod's console shows"),
        ({"gpuz": 1}, "gpuz"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_no_pod(
    changes: dict[str, Any], sentence: str, service: Service, client: RunPod
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make(Pods(client, "shop"), **changes)
    assert service.there() == []


def test_a_volume_says_where_its_pods_go(service: Service, client: RunPod) -> None:
    service.volumes = [{"id": "v1", "name": "mine", "size": 50, "dataCenter": "EU-RO-1", "type": "STANDARD"}]
    pods = Pods(client, "shop")
    make(pods, volume="mine")
    [pod] = service.there()
    assert pod.body["dataCenterIds"] == ["EU-RO-1"]
    assert pod.body["mounts"] == {"network": [{"volumeId": "v1", "path": "/workspace"}]}
    with pytest.raises(ConfigError, match="volume mine lies in EU-RO-1"):
        make(pods, volume="mine", data_centers=["US-TX-3"])


def test_the_price_before(client: RunPod) -> None:
    config = yaml.safe_load(CONFIG.read_text())
    kinds = config["available_node_types"]
    kinds["head"]["node_config"]["gpu"], kinds["gpu"]["node_config"]["gpu"] = TYPES[:2], TYPES[2:]
    found = estimate(config, client.gpus())
    assert found.least_per_hour == 0.43
    assert found.most_per_hour == pytest.approx(0.43 + 2 * 2.99)
    assert found.most == 20  # 8 hours of all would be 51
    assert "costs at most 20.00 $" in found.words()


# Instant Clusters.


@needs_ssh
@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v2/clusters"), ("GET", "/v2/clusters"), ("DELETE", "/v2")]
)
def test_an_instant_cluster_that_goes_wrong_leaves_nothing(
    method: str, path: str, kind: Kind, service: Service, client: RunPod, clock: Clock, tmp_path: Path
) -> None:
    """There are no machines behind these pods: its head lets nobody in, so it is ended in any case."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    service.faults.append(Fault(method, path, kind, seconds=30))
    service.start_s = 20
    asked = Instant("big", TYPES[-1], Limits(100, 2), gpus=1, key=str(key))
    with pytest.raises(UnavailableError):
        instant.up(asked, client, lambda text: None)
    clock.sleep(60)
    clusters.down("big", client, str(key), lambda text: None)
    assert (service.there(), service.clusters) == ([], {})


# Limits, whoever is watching.


def test_the_guard_ends_the_cluster_at_its_time(service: Service, client: RunPod, clock: Clock) -> None:
    pods = Pods(client, "shop")
    head, _ = make(pods, "head"), make(pods)
    guard = Cluster(pods, lambda: BOUNDS, clock() + 8 * 3600, head, welcome)
    told = []
    while not guard.look():
        told = sorted(word for word in pods.journal.state().told if not word.startswith("token"))
        clock.sleep(600)
    assert told == ["half", "nine tenths", "started"]
    assert service.there() == []
    order = [call.path for call in service.calls if call.method == "DELETE"]
    assert order[-1].endswith(head)
    assert 8.0 <= (clock() - 1_800_000_000) / 3600 < 8.3
    with pytest.raises(UnavailableError, match="being ended"):
        make(pods)


def test_the_guard_ends_the_cluster_at_its_ceiling(service: Service, client: RunPod, clock: Clock) -> None:
    pods, bounds = Pods(client, "shop"), Limits(dollars=1.0, hours=100)
    head = make(pods, "head")
    guard = Cluster(pods, lambda: bounds, clock() + 3600 * 100, head, welcome)
    service.faults.append(Fault("DELETE", "/v2/pods", "500", 7))
    while not guard.look():
        clock.sleep(10)
    assert service.there() == []
    assert service.charged() == pytest.approx(1.0, abs=0.02)


def test_a_pod_ends_itself(service: Service, client: RunPod, clock: Clock, tmp_path: Path) -> None:
    pod = Pods(client, "shop").service.create_pod(
        {"name": "shop-gpu-1", "image": "x", "gpu": {"id": TYPES[0]}, "env": {"RECRAY_CLUSTER": "shop"}}
    )
    scoped = RunPod(service.pods[pod.id].key, transport=service.transport(), clock=clock, sleep=clock.sleep)
    with pytest.raises(RefusedError):
        scoped.pods()
    ready = tmp_path / "token"
    ready.touch()
    own = Own(scoped, pod.id, clock() + 3600, ready)
    assert not own.look()
    clock.sleep(3600)
    assert own.look()
    assert service.there() == []
    alone = make(Pods(client, "shop"))
    own = Own(client, alone, clock() + 10**6, tmp_path / "no-token")
    clock.sleep(1801)
    assert own.look()


def test_reap_ends_what_nobody_ends(service: Service, client: RunPod, clock: Clock) -> None:
    late, lost, fine = (Pods(client, name) for name in ("late", "lost", "fine"))
    for pods, kind, hours in ((late, "head", 1), (lost, "worker", 9), (fine, "head", 9), (fine, "worker", 9)):
        until = {UNTIL: str(int(clock() + 3600 * hours))}
        pods.make(machine(POD), BOUNDS, kind, {**env(kind), **until})
    service.pods["theirs"] = service._made({"name": "theirs", "image": "x", "gpu": {"id": TYPES[0]}}, 1.0)
    clock.sleep(3601)
    said: list[str] = []
    assert clusters.reap(client, everything=False, say=said.append) == ["late", "lost"]
    assert "late: its time is over" in said
    assert "lost: its head is gone" in said
    assert {pod.body["env"]["RECRAY_CLUSTER"] for pod in service.there() if "env" in pod.body} == {"fine"}
    assert clusters.reap(client, everything=True, say=said.append) == ["fine"]
    assert {pod.body["name"] for pod in service.there()} == {"theirs"}


@pytest.mark.parametrize("seed", range(20))
def test_whenever_a_process_dies_what_it_made_is_found(
    seed: int, service: Service, client: RunPod, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 at a random call: the rest of that process never happens, not even what handles an error."""
    chance, calls = random.Random(seed), 0
    dies, before = chance.randrange(1, 12), chance.random() < 0.5
    answer = service.handle

    class KilledError(BaseException):
        pass

    def handle(*words: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > dies or (calls == dies and before):
            raise KilledError
        said = answer(*words)
        if calls == dies:
            raise KilledError
        return said

    monkeypatch.setattr(service, "handle", handle)
    with pytest.raises(KilledError):
        live(Pods(client, "shop"))
    monkeypatch.setattr(service, "handle", answer)
    again = RunPod(KEY, transport=service.transport(), clock=clock, sleep=clock.sleep)
    spent = clusters.down("shop", again, "no-key", lambda text: None)
    assert service.there() == []
    assert spent == pytest.approx(service.charged(), abs=0.01)


def test_what_the_limits_of_the_service_allow(service: Service, client: RunPod, clock: Clock) -> None:
    """Twenty pods for some hours: Ray's autoscaler asks every five seconds, the guard every ten."""
    provider = RunPodNodeProvider({"limits": {"dollars": 999, "hours": 24}}, "shop", Pods(client, "shop"))
    head = make(provider.pods, "head")
    for _ in range(19):
        make(provider.pods)
    guard = Cluster(
        Pods(RunPod(KEY, transport=service.transport(), clock=clock, sleep=clock.sleep), "shop"),
        lambda: Limits(dollars=999, hours=24.5),
        clock() + 24.5 * 3600,
        head,
        welcome,
    )
    start, turn = clock(), 0
    while clock() < start + 3600 * HOURS:
        for node in provider.non_terminated_nodes({}):
            assert provider.is_running(node)
            provider.node_tags(node)
        if turn % 2 == 0:
            guard.look()
        turn += 1
        clock.sleep(5)
    assert len(service.there()) == 20
    assert service.most(60) <= 60
    assert service.most(3600) <= 3000
    assert service.most(86400) * 24 / HOURS <= 50000
    assert not [call for call in service.calls if call.status == 429]


def test_people_are_told_once_of_each(
    posted: list[dict[str, Any]], service: Service, client: RunPod, clock: Clock
) -> None:
    pods = Pods(client, "shop")
    guard = Cluster(pods, lambda: BOUNDS, clock() + 8 * 3600, make(pods, "head"), welcome)
    while not guard.look():
        clock.sleep(1800)
    assert [each["title"] for each in posted] == [
        "shop: started",
        "shop: half",
        "shop: nine tenths",
        "shop: down",
    ]
    assert posted[-1]["message"] == "the time is over: 2.00 $ spent; every pod is deleted"


def test_a_webhook_that_is_gone_harms_nothing(
    service: Service, client: RunPod, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECRAY_NOTIFY", "json://user:planted-password@127.0.0.1:9/hook?retry=0&wait=0")
    pods = Pods(client, "shop")
    guard = Cluster(pods, lambda: BOUNDS, clock() + 3600, make(pods, "head"), welcome)
    clock.sleep(3601)
    assert guard.look()
    assert service.there() == []


def test_ssh_that_is_late_is_waited_for(service: Service, client: RunPod, clock: Clock) -> None:
    service.start_s, service.ssh_late_s = 60, 300
    provider = RunPodNodeProvider({"limits": {"dollars": 9, "hours": 1}}, "shop", Pods(client, "shop"))
    pod, seen = make(provider.pods), []
    for _ in range(9):
        seen.append((provider.is_running(pod), provider.external_ip(pod), provider.ssh_port(pod)))
        clock.sleep(50)
    assert seen[0] == (False, None, 22)
    assert seen[2] == (True, None, 22)
    assert seen[-1] == (True, "127.0.0.1", 2222)


def test_a_second_life_has_money_of_its_own(
    service: Service, client: RunPod, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A head's journal lies on its own disk: that of the volume would outlive it."""
    monkeypatch.setenv("HOME", str(tmp_path / "pod"))
    monkeypatch.setenv("RUNPOD_POD_ID", "head")
    assert Journal("shop").path.is_relative_to(tmp_path / "pod")


def test_a_full_disk_holds_no_limit_up(
    service: Service, client: RunPod, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Journal, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "_write", full)
    pods, bounds = Pods(client, "shop"), Limits(dollars=1.0, hours=100)
    guard = Cluster(pods, lambda: bounds, clock() + 3600 * 100, make(pods, "head"), welcome)
    while not guard.look():
        clock.sleep(60)
    assert service.there() == []
    assert service.charged() == pytest.approx(1.0, abs=0.02)


def test_reap_is_not_kept_by_a_pod_that_is_locked(service: Service, client: RunPod, clock: Clock) -> None:
    late = {UNTIL: str(int(clock() + 60))}
    locked, _ = (
        Pods(client, name).make(machine(POD), BOUNDS, "head", env("head") | late) for name in ("a", "b")
    )
    service.locked.add(locked.id)
    clock.sleep(100)
    with pytest.raises(RefusedError, match="pod is locked"):
        clusters.reap(client, everything=False, say=lambda text: None)
    assert [pod.id for pod in service.there()] == [locked.id]


def test_a_head_goes_without_a_worker_that_is_locked(service: Service, client: RunPod, clock: Clock) -> None:
    pods = Pods(client, "shop")
    head, worker = make(pods, "head"), make(pods)
    service.locked.add(worker)
    guard = Cluster(pods, lambda: BOUNDS, clock() + 60, head, welcome)
    clock.sleep(60)
    assert guard.look()
    assert [pod.id for pod in service.there()] == [worker]


def test_what_ended_while_nobody_looked_cost_no_more_than_its_time(
    service: Service, client: RunPod, clock: Clock
) -> None:
    pods = Pods(client, "shop")
    until = clock() + 3600
    pods.make(machine(POD), BOUNDS, "head", env("head", **{UNTIL: str(int(until))}))
    clock.sleep(3600)
    [pod] = service.there()
    service._gone(pod)
    clock.sleep(64 * 3600)
    pods.all(fresh=True)
    assert pods.journal.state().dollars(clock()) == pytest.approx(service.charged(), abs=0.01)


def test_somebody_elses_instant_cluster_stays(service: Service, client: RunPod) -> None:
    compute = {"gpuTypeId": TYPES[0], "gpuCountPerPod": 1, "podCount": 2}
    client.create_cluster({"name": "shop", "type": "SLURM", "compute": compute, "image": "x"})
    Pods(client, "shop").end_all()
    assert len(service.there()) == 2


def test_a_proxys_page_ends_nothing(
    service: Service, client: RunPod, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = httpx.MockTransport(lambda request: httpx.Response(404, content=b"<html>"))
    behind = RunPod(KEY, transport=page, clock=clock, sleep=clock.sleep)
    with pytest.raises(UnavailableError, match="not of the service itself"):
        behind.delete_pod("pod")


# cluster.yaml, by Ray's own schema.


@needs_ssh
def test_cluster_yaml_is_one_of_rays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    config = clusters.read(CONFIG)
    jsonschema.validate(config, schema)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    (tmp_path / "token").write_text("t" * 64)
    with pytest.raises(ClickException, match="no SSH key"):
        RunPodNodeProvider.bootstrap_config(config)
    key = tmp_path / ".ssh" / "id_ed25519"
    key.parent.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    monkeypatch.setenv("RUNPOD_API_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("recray.cluster.api.PATIENCE_S", 0.1)
    whole = RunPodNodeProvider.bootstrap_config(config)
    needed = "file_mounts cluster_synced_files file_mounts_sync_continuously rsync_exclude rsync_filter "
    needed += "initialization_commands setup_commands head_setup_commands worker_setup_commands "
    needed += "head_start_ray_commands worker_start_ray_commands max_workers auth"
    assert set(needed.split()) <= set(whole)
    assert all("resources" in kind for kind in whole["available_node_types"].values())
    assert whole["provider"]["public_key"].startswith("ssh-ed25519 ")
    assert KEY not in json.dumps(whole)
    machine(config["available_node_types"]["head"]["node_config"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"cluster_name": "Shop"}, "begins with a letter; got 'Shop'"),
        ({"provider": None}, "provider is a mapping"),
        ({"provider": {}}, "provider.limits.dollars: without it a forgotten cluster has no end"),
        ({"provider": {"limits": {"dollars": -1, "hours": 1}}}, "above 0, got -1"),
        ({"available_node_types": {"head": None}}, "available_node_types.head says no node_config"),
        ({"available_node_types": {"head": {"node_config": {"gpus": 2}}}}, "names either gpu"),
        ({"available_node_types": {"head": {"node_config": {"gpu": ["x"], "disc": 9}}}}, "disc"),
        ({"max_workers": "two"}, "max_workers of cluster is a number from 0 on, got 'two'"),
        ({"max_workers": -3}, "max_workers of cluster is a number from 0 on, got -3"),
        ({"auth": "root"}, "auth is a mapping, got 'root'"),
        ({"provider": {"limits": 20}}, "provider.limits is a mapping"),
        ({"provider": {"secrets": "NAME"}}, "provider.secrets is a list of names, got 'NAME'"),
        ({"head_node_type": "boss"}, "'boss' is no available_node_type"),
    ],
)
def test_a_cluster_yaml_that_cannot_be_is_one_sentence(
    changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    config = yaml.safe_load(CONFIG.read_text()) | changes
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=sentence):
        clusters.read(tmp_path / "cluster.yaml")


@pytest.mark.parametrize("said", [b"<html>", b'{"pods": [', b"[]", b"{}"])
def test_an_answer_that_is_none_is_no_empty_list(
    said: bytes, service: Service, client: RunPod, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every pod would count as gone, and cost nothing any more."""
    pods = Pods(client, "shop")
    pod = make(pods)
    page = httpx.MockTransport(lambda request: httpx.Response(200, content=said))
    pods.service = RunPod(KEY, transport=page, clock=clock, sleep=clock.sleep)
    with pytest.raises(UnavailableError):
        pods.all(fresh=True)
    assert pods.journal.state().spans[pod].gone == 0


def test_a_list_says_nothing_of_a_pod_made_since(service: Service, client: RunPod, clock: Clock) -> None:
    pods = Pods(client, "shop")
    asked, before = clock(), client.pods()
    clock.sleep(2)
    pod = make(pods)
    clock.sleep(20)
    pods.journal.observe(before, clock(), asked=asked)
    assert pods.journal.state().spans[pod].gone == 0
    pods.journal.note(gone=pod, at=clock())  # of a list that came out of order
    pods.all(fresh=True)
    assert pods.journal.state().spans[pod].gone == 0


def test_half_a_line_of_the_journal_is_no_line() -> None:
    journal = Journal("shop")
    journal.note(told="half")
    with journal.path.open("a") as file:
        file.write('{"told": "nine')
    assert journal.state().told == {"half"}
    journal.note(told="down")
    assert journal.state().told == {"half", "down"}
