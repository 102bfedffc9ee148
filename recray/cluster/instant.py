"""Instant Clusters: several machines of one kind with a fast network between them, made and ended as one.

No autoscaler: Ray's nodes are its pods, which `image/start.sh` joins to the one of rank 0.
"""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from recray.cluster.api import GONE, UNTIL, Json, Pod, RunPod, UnsureError
from recray.cluster.defaults import private_key, public_key, secrets_of, token
from recray.cluster.guard import hand_token
from recray.cluster.journal import forget
from recray.cluster.plan import IMAGE, LEAST_HOURS, Limits, require_name
from recray.cluster.pods import CLUSTER, KIND, PORTS, SETTLE_S, Pods
from recray.cluster.ssh import Shell, exports
from recray.config import ConfigError, UnavailableError
from recray.paths import LAUNCHED

Say = Callable[[str], None]
WAIT_S = 1200.0  # for every pod to run
LOOK_S = 10.0


@dataclass(frozen=True)
class Instant:
    """What an Instant Cluster is to be."""

    name: str
    gpu: str
    """A type as the catalogue names it, such as NVIDIA H100 80GB HBM3."""
    limits: Limits
    gpus: int = 8
    """Of each pod."""
    nodes: int = 2
    image: str = IMAGE
    disk: int = 100
    data_center: str = ""
    volume: str = ""
    """Id of a network volume of that data centre."""
    mount: str = "/workspace"
    key: str = ""
    """File of the private SSH key; empty: the one in ~/.ssh."""

    def __post_init__(self) -> None:
        require_name(self.name)
        if self.nodes < 2 or self.gpus < 1:
            raise ConfigError("an Instant Cluster has at least two nodes of one GPU; one machine is a pod")


def dollars_per_hour(asked: Instant, service: RunPod) -> float:
    """Of all its pods, by the list.

    Raises:
        ConfigError: no such type, or the ceiling does not pay its first minutes.
    """
    known = {str(each["id"]): each for each in service.gpus()}
    if asked.gpu not in known:
        raise ConfigError(f"RunPod has no GPU {asked.gpu!r}; it has {', '.join(sorted(known)[:12])}")
    price = cast(dict[str, float], known[asked.gpu]["price"])["secure"] * asked.gpus * asked.nodes
    if price * LEAST_HOURS > asked.limits.dollars:
        raise ConfigError(f"it costs {price:.2f} $/h, and the ceiling is {asked.limits.dollars:.2f} $")
    return price


def up(asked: Instant, service: RunPod, say: Say) -> Shell:
    """Makes it, waits until its Ray runs, and returns the way to its head.

    Raises:
        UnavailableError: it cannot be made, or a pod of it fails; then nothing of it is left.
    """
    exports(secrets_of({}))  # what is missing here is said before anything is made
    token()
    pods = Pods(service, asked.name)
    if pods.all(fresh=True) or pods.instant():
        raise ConfigError(f"there is a cluster {asked.name}: `recray cluster down --name {asked.name}`")
    forget(asked.name)  # another life, with money of its own
    wait_s = min(WAIT_S, asked.limits.dollars / dollars_per_hour(asked, service) * 3600)
    try:
        cluster_id = _made(asked, pods)
        members = _running(cluster_id, service, asked, wait_s, say)
        return _started(members, asked, say)
    except BaseException:
        pods.end_all(say)
        raise


def _made(asked: Instant, pods: Pods) -> str:
    service = pods.service
    key = asked.key or str(private_key())
    body: Json = {
        "name": asked.name,
        "type": "TRAINING",  # of RAY the service starts a Ray of its own, not the image's
        "compute": {"gpuTypeId": asked.gpu, "gpuCountPerPod": asked.gpus, "podCount": asked.nodes},
        "image": asked.image,
        "disk": asked.disk,
        "ports": list(PORTS),
        "env": {
            CLUSTER: asked.name,
            KIND: "member",
            UNTIL: str(int(service.clock() + asked.limits.hours * 3600)),
            "PUBLIC_KEY": public_key(key),
            "RAY_AUTH_MODE": "token",
        },
    }
    if asked.data_center:
        body["dataCenterIds"] = [asked.data_center]
    if asked.volume:
        body["mounts"] = {"network": [{"volumeId": asked.volume, "path": asked.mount}]}
    try:
        return str(service.create_cluster(body)["id"])
    except UnsureError:
        service.sleep(SETTLE_S)
        if found := pods.instant():
            return found[0]
        raise


def _running(cluster_id: str, service: RunPod, asked: Instant, wait_s: float, say: Say) -> list[Pod]:
    """Its pods by rank, once each runs and has its address."""
    until, told = service.clock() + wait_s, ""
    while service.clock() < until:
        members = sorted(service.members(cluster_id), key=lambda pod: pod.rank)
        if lost := [pod for pod in members if pod.status in GONE]:
            raise UnavailableError(f"{', '.join(f'{pod.name} is {pod.status}' for pod in lost)}")
        ready = [pod for pod in members if pod.status == "RUNNING" and pod.address and pod.rank >= 0]
        if len(ready) == asked.nodes and ready[0].ssh:
            return ready
        if (now := f"{asked.name}: {len(ready)} of {asked.nodes} pods run") != told:
            say(now)
            told = now
        service.sleep(LOOK_S)
    raise UnavailableError(f"{asked.name}: not every pod runs after {wait_s / 60:.0f} minutes")


def _started(members: list[Pod], asked: Instant, say: Say) -> Shell:
    key, (host, port) = asked.key or str(private_key()), cast(tuple[str, int], members[0].ssh)
    head = Shell(host, port, key)
    if not hand_token(head):
        raise UnavailableError(f"{members[0].name} does not let us in at {host}:{port}")
    bounds = {"provider": {"limits": {"dollars": asked.limits.dollars, "hours": asked.limits.hours}}}
    head.run(f"cat > {LAUNCHED}", text=json.dumps(bounds))
    start = "python -m recray.cluster.guard --detach; ray start --head $(python -m recray.cluster.node)"
    said = head.run(f'eval "$(cat)"; {start}', text=exports(secrets_of({})), timeout_s=300)
    if said.returncode:
        raise UnavailableError(f"Ray does not start on {members[0].name}: {said.stderr.strip()[-500:]}")
    jump = ("-o", f"ProxyCommand={shlex.join(head.words('-W', '%h:%p'))}")
    for pod in members[1:]:
        say(f"{pod.name} joins")
        if not hand_token(Shell(pod.address, 22, key, jump)):
            raise UnavailableError(f"{pod.name} cannot be reached from {members[0].name}")
    return head
