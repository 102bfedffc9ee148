"""The Ray cluster that work is placed on: joined once, its room counted node by node, its changes told."""

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import ray
import yaml
from ray.autoscaler.sdk import request_resources

from recray import paths
from recray.config import ConfigError, UnavailableError
from recray.paths import LAUNCHED
from recray.train.context import LaunchConfig

log = logging.getLogger(__name__)
LOOK_S = 2.0  # between looks at the nodes
TELL_S = 30.0  # between words about what is waited for
ANSWER_S = 10.0  # within which a head is reached
SETTINGS = b"\x04"  # a frame's type, behind three bytes of its length
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + SETTINGS + b"\0" * 5
GIB = 2**30
TRAVELS = ("RECRAY_RAW_DIR", "OMP_NUM_THREADS", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")
"""Variables of the driver that hold on every node too, beside its home; secrets are each node's own."""


class Node(NamedTuple):
    """One machine of the cluster."""

    id: str
    address: str
    resources: Mapping[str, float]  # in all, whoever uses them
    labels: Mapping[str, str]

    def holds(self, each: Mapping[str, float]) -> int:
        """How often ``each`` fits on it."""
        return int(min(self.resources.get(kind, 0.0) / amount for kind, amount in each.items()) + 1e-9)

    def fits(self, labels: Mapping[str, str]) -> bool:
        return all(self.labels.get(key) == value for key, value in labels.items())


def join(*, log_to_driver: bool = True) -> bool:
    """Ray in this process: the cluster that RAY_ADDRESS names, or one of this machine alone.

    Returns whether it was not there yet.

    Raises:
        UnavailableError: the cluster that is named does not answer, or Ray does not start in time.
        ConfigError: it is no address, the cluster takes another token or has other versions, or Ray does
            not start on this machine.
    """
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS", "")
    try:
        _require_answer(address)
        ray.init(log_to_driver=log_to_driver, logging_level=logging.WARNING)
    except Exception as error:  # of whatever kind: Ray raises ValueError, OSError and bare ones too
        raise not_joined(address, error) from error
    return True


def _require_answer(address: str) -> None:
    """Ray would ask what is not there, or is something else, for many minutes.

    A head speaks gRPC, and who speaks that answers HTTP/2's greeting by its settings (RFC 9113, 3.4).
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S) as door:
        if os.environ.get("RAY_USE_TLS", "0") != "0":
            return
        door.sendall(GREETING)
        if door.makefile("rb").read(4)[3:] != SETTINGS:
            raise ConnectionError("what listens there is not Ray")


def not_joined(address: str, error: BaseException) -> ConfigError:
    """What keeps this process out of Ray, and the way out.

    Args:
        address: of the cluster; empty: Ray was to start on this machine.
        error: what Ray raised; what it was raised from says more.
    """
    said = [error]
    while (cause := said[-1].__cause__) and cause not in said:
        said.append(cause)
    why = _first_line(said[-1])
    for one in said:
        if "Version mismatch" in str(one):
            there, here = _versions(str(one))
            return ConfigError(
                f"the Ray cluster at {address} has {there}, this process {here}: install the same in both"
            )
        if isinstance(one, ray.exceptions.AuthenticationError) or "InvalidAuthToken" in str(one):
            return ConfigError(
                f"the Ray cluster at {address or 'this machine'} does not let this process in ({why}): set "
                "RAY_AUTH_MODE=token and the cluster's token (RAY_AUTH_TOKEN_PATH, else ~/.ray/auth_token)"
            )
    if not address and "timed out" in why:
        return UnavailableError(
            f"Ray did not start on this machine in time ({why}): give the same command again when others "
            "leave it more room"
        )
    if not address:
        return ConfigError(
            f"Ray does not start on this machine ({why}): its logs are in /tmp/ray/session_latest/logs; "
            "--launch.where local does without Ray"
        )
    if isinstance(said[-1], ValueError):
        return ConfigError(f"RAY_ADDRESS {address!r} is no address of a cluster ({why}): HOST:6379, or auto")
    return UnavailableError(
        f"no Ray cluster at {address} ({why}): is it up? Without RAY_ADDRESS a job starts its own"
    )


def _first_line(error: BaseException) -> str:
    """Of what is said; where that is a traceback, its last."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = lines[-1] if "Traceback (most recent call last)" in lines[0] else lines[0]
    return line.partition(". Ensure that the token")[0].rstrip(".:")  # Ray says that at length


def _versions(said: str) -> tuple[str, str]:
    """Of the cluster and of this process, as Ray lists both."""
    both = re.findall(r"Ray: (\S+)\s+Python: (\S+)", said)
    there, here = (f"Ray {version} on Python {python}" for version, python in both)
    return there, here


def nodes() -> list[Node]:
    """Those that are alive, the one of this process first."""
    here = ray.get_runtime_context().get_node_id()
    alive = [
        Node(one["NodeID"], one["NodeManagerAddress"], one["Resources"], one.get("Labels", {}))
        for one in ray.nodes()
        if one["Alive"]
    ]
    return sorted(alive, key=lambda node: (node.id != here, node.address))


def environment() -> dict[str, str]:
    """What processes on other nodes are to find in theirs: one home for all."""
    named = {name: value for name in TRAVELS if (value := os.environ.get(name))}
    return {"RECRAY_HOME": paths.address() or str(paths.home()), **named}


def needs(launch: LaunchConfig) -> dict[str, float]:
    """Ray's resources for one worker."""
    each: dict[str, float] = {"CPU": launch.cpus_per_worker}
    if launch.gpu:
        each["GPU"] = launch.gpu_share
    if launch.memory_gib:
        each["memory"] = launch.memory_gib * GIB
    if launch.accelerator:
        each[f"accelerator_type:{launch.accelerator}"] = 0.001
    return each


def room(launch: LaunchConfig) -> int:
    """Workers that the nodes could hold if nobody else used them: no worker stands on two nodes."""
    each = needs(launch)
    held = [node.holds(each) for node in nodes() if node.fits(launch.label_selector)]
    if launch.placement == "STRICT_PACK":
        return max(held, default=0)
    if launch.placement == "STRICT_SPREAD":
        return sum(map(bool, held))
    return sum(held)


def require_room(launch: LaunchConfig, wait_s: float | None = None) -> None:
    """Workers that can never be placed would wait for ever: say so at once, or after ``wait_s`` seconds.

    Nodes that an autoscaler may bring are asked for and waited for.

    Raises:
        ConfigError: there is no room for the fewest workers that the run asks for.
        UnavailableError: there is still none after ``wait_s``.
    """
    if (have := room(launch)) >= launch.least:
        return
    if grows := have + may_come(launch) >= launch.least:
        wait_s = launch.wait_s if wait_s is None else wait_s
    if wait_s is None:
        raise ConfigError(f"{missing(launch, have)}: lower launch.workers or add nodes")
    log.warning("%s: waiting up to %.0f s for nodes", missing(launch, have), wait_s)
    if grows:
        request_resources(bundles=[needs(launch)] * launch.least)
    try:
        _wait_for_room(launch, wait_s)
    finally:
        if grows:
            request_resources(bundles=[])


def _wait_for_room(launch: LaunchConfig, wait_s: float) -> None:
    began = told = time.monotonic()
    while (have := room(launch)) < launch.least:
        if (now := time.monotonic()) - began >= wait_s:
            raise UnavailableError(
                f"{missing(launch, have)}, {wait_s:.0f} s after nodes were missed: bring them back and give "
                "the same command with the same --launch.run; it continues from its last checkpoint"
            )
        if now - told > TELL_S:
            told = now
            log.warning("%s: waiting, %.0f s so far", missing(launch, have), now - began)
        time.sleep(LOOK_S)


def missing(launch: LaunchConfig, have: int) -> str:
    """What there is no room for, and what each node has."""
    wanted = needs(launch)
    each = ", ".join(_amount(kind, amount) for kind, amount in wanted.items())
    where = f" with the labels {','.join(launch.labels)}" if launch.labels else ""
    there = "; ".join(
        f"{node.address}: {', '.join(_amount(kind, node.resources.get(kind, 0)) for kind in wanted)}"
        for node in nodes()[:8]
    )
    return (
        f"{launch.least} workers with {each} each do not fit on the nodes of the Ray cluster{where}: "
        f"{have} would ({there})"
    )


def _amount(kind: str, amount: float) -> str:
    if kind == "memory":
        return f"{amount / GIB:.1f} GiB"
    if kind.startswith("accelerator_type:"):
        return f"{'a' if amount else 'no'} {kind.partition(':')[2]}"
    return f"{amount:g} {kind}"


def may_come(launch: LaunchConfig) -> int:
    """Workers for which an autoscaler may bring nodes: `ray up` leaves on the head what it may start.

    Ray itself tells nobody: its cluster's config stays with the autoscaler.
    """
    try:
        config = yaml.safe_load(LAUNCHED.expanduser().read_text())
    except OSError:
        return 0
    each, more = needs(launch), 0
    for kind in config.get("available_node_types", {}).values():
        node = Node("", "", kind.get("resources", {}), kind.get("labels", {}))
        at_most = min(kind.get("max_workers", 0), config.get("max_workers", 0))
        if node.fits(launch.label_selector):
            more += at_most * node.holds({k: v for k, v in each.items() if k in ("CPU", "GPU")})
    return more


@contextmanager
def watched() -> Iterator[None]:
    """Says when a node is gone or has come, for as long as it lasts."""
    over = threading.Event()

    def look() -> None:
        known = {node.id: node.address for node in nodes()}
        while not over.wait(LOOK_S):
            try:
                now = {node.id: node.address for node in nodes()}
            except Exception:  # the head is away; whoever waits for the work hears of that
                continue
            for id in known.keys() - now.keys():
                log.warning("node %s is gone; %d left", known[id], len(now))
            for id in now.keys() - known.keys():
                log.warning("node %s has come; %d in all", now[id], len(now))
            known = now

    thread = threading.Thread(target=look, name="recray-nodes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def gone(address: str) -> bool:
    """Whether no node of this address is alive."""
    return bool(address) and all(node.address != address for node in nodes())


def options(launch: LaunchConfig) -> dict[str, object]:
    """How Ray is asked for a process that may take what one worker takes."""
    each = needs(launch)
    custom = {kind: amount for kind, amount in each.items() if ":" in kind}
    return {
        "num_cpus": each["CPU"],
        "num_gpus": each.get("GPU", 0),
        **({"memory": int(each["memory"])} if "memory" in each else {}),
        **({"resources": custom} if custom else {}),
        **({"label_selector": dict(launch.label_selector)} if launch.labels else {}),
        "runtime_env": {"env_vars": environment()},
    }
