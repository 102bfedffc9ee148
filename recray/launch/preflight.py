"""What would stop a run on several nodes, found before it starts: each fault in one sentence.

A process on every node says what it sees, and the driver compares. On one node there is nothing to compare,
and only the room is counted.
"""

import contextlib
import logging
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ray
from ray import cloudpickle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from recray import paths, storage
from recray.config import ConfigError
from recray.launch.cluster import Node, missing, needs, nodes, require_room, room
from recray.launch.probe import Facts, Probe
from recray.schema import DataError
from recray.train.context import LaunchConfig

log = logging.getLogger(__name__)
REQUIRED = ("recray", "torch", "ray", "numpy", "polars", "xgboost")
PACKAGES = (*REQUIRED, "torchrec", "torch-geometric")  # of the others some runs have no need
ANSWER_S = 60.0  # a node that starts no process within it is none
SKEW_S = 5.0
LEAST_FREE = 2**30  # bytes
_passed: set[tuple[frozenset[str], bool]] = set()  # nodes, and whether their GPUs were looked at


class Finding(NamedTuple):
    """One thing that was looked at."""

    check: str
    status: Literal["ok", "missing", "warning"]
    detail: str
    seconds: float = 0.0


def require_ready(launch: LaunchConfig) -> None:
    """Whether a run can be done on the cluster; nodes that were found in order are not asked again.

    Raises:
        ConfigError: all that is wrong, a sentence each.
        UnavailableError: nodes that were to come did not.
    """
    require_room(launch)
    there = frozenset(node.id for node in _concerned(launch))
    if len(there) == 1 or (there, launch.gpu) in _passed:
        return
    began = time.monotonic()
    findings = examine(launch)
    for found in findings:
        if found.status == "warning":
            log.warning("preflight: %s", found.detail)
    if wrong := [found.detail for found in findings if found.status == "missing"]:
        raise ConfigError(f"the cluster is not ready (`recray doctor --cluster`): {'; '.join(wrong)}")
    _passed.add((there, launch.gpu))
    log.info("preflight: %d nodes are in order (%.1f s)", len(there), time.monotonic() - began)


def examine(launch: LaunchConfig) -> list[Finding]:
    """All that can be said of the cluster that this process has joined, in the order of printing."""
    have = room(launch)
    found = Finding("room", "ok", f"for {have} workers")
    if have < launch.least:
        found = Finding("room", "missing", missing(launch, have))
    home = paths.home()
    try:
        if paths.address():
            storage.require_writable()
        home.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".preflight-", dir=home))
        look = _Preflight(_concerned(launch), launch, folder)
    except OSError as error:
        wrong = f"RECRAY_HOME ({home}) cannot be written here: {error.strerror or error}"
        return [found, Finding("home", "missing", wrong)]
    except (ConfigError, DataError) as error:
        return [found, Finding("home", "missing", str(error))]
    try:
        return [found, *look.findings()]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _concerned(launch: LaunchConfig) -> list[Node]:
    """The node of this process, and those on which a worker could be placed."""
    here, *others = nodes()
    return [
        here,
        *(node for node in others if node.holds(needs(launch)) and node.fits(launch.label_selector)),
    ]


class _Preflight:
    """One look at all nodes, the one of this process first, which the others are compared with."""

    def __init__(self, nodes: Sequence[Node], launch: LaunchConfig, folder: Path) -> None:
        self.nodes, self.launch, self.home = nodes, launch, folder.parent
        self.content = secrets.token_hex(16)
        self.marker = f"{folder.name}/{secrets.token_hex(8)}"
        (self.home / self.marker).write_text(self.content)
        self.probes: dict[str, Any] = {}
        self.facts: dict[str, Facts] = {}

    def findings(self) -> Iterator[Finding]:
        self.began, self.began_s = time.time(), time.monotonic()
        yield from self._ask()
        self.answered = time.time()
        for node in self.nodes:
            if node.id in self.facts:
                yield from self._compared(node, self.facts[node.id])
        yield from self._connected()
        took_s = round(time.monotonic() - self.began_s, 1)
        yield Finding("preflight", "ok", f"{len(self.nodes)} nodes looked at", took_s)

    def _ask(self) -> Iterator[Finding]:
        by_value = sys.modules[Probe.__module__]  # so that a node without recray can be asked too
        cloudpickle.register_pickle_by_value(by_value)
        actor: Any = ray.remote(num_cpus=0, max_restarts=0)(Probe)
        waiting = {}
        for node in self.nodes:
            place = NodeAffinitySchedulingStrategy(node.id, soft=False)
            asked = self.probes[node.id] = actor.options(scheduling_strategy=place).remote()
            options = str(self.home), self.marker, node.address, PACKAGES, self.launch.gpu
            waiting[asked.facts.remote(*options)] = node
        cloudpickle.unregister_pickle_by_value(by_value)
        done, late = ray.wait(list(waiting), num_returns=len(waiting), timeout=ANSWER_S)
        for one in late:
            text = f"node {waiting[one].address} starts no process within {ANSWER_S:.0f} s"
            yield Finding("node", "missing", text)
        for one in done:
            try:
                self.facts[waiting[one].id] = Facts(*ray.get(one))
            except ray.exceptions.RayError as error:
                why = str(error).strip().splitlines()[-1]
                yield Finding("node", "missing", f"node {waiting[one].address} cannot be asked: {why}")

    def _compared(self, node: Node, said: Facts) -> Iterator[Finding]:
        wrong = [*self._storage(node, said), *self._machine(node, said), *self._software(node, said)]
        yield from wrong
        if not wrong:
            sees = f", {said.gpus} GPU" if said.gpus >= 0 else ""
            text = f"{said.interface}, {said.free_home / 2**30:.0f} GiB free{sees}; home and code as here"
            yield Finding(f"node {node.address}", "ok", text, round(said.took_s, 2))

    def _storage(self, node: Node, said: Facts) -> Iterator[Finding]:
        name = f"node {node.address}"
        if paths.address():
            pass  # each node keeps a cache of its own
        elif said.marker != self.content:
            text = f"{name} does not see what was written into RECRAY_HOME ({self.home}: {said.marker[:60]})"
            yield Finding("home", "missing", f"{text}: it must be one storage for all nodes")
        elif said.writes:
            text = f"{name} cannot write into RECRAY_HOME ({self.home}: {said.writes})"
            yield Finding("home", "missing", text)
        for where, free in (("RECRAY_HOME", said.free_home), ("its temporary folder", said.free_temp)):
            if free < LEAST_FREE:
                text = f"{name} has {free / 2**20:.0f} MiB free in {where}: checkpoints need more"
                yield Finding("disk", "missing", text)

    def _machine(self, node: Node, said: Facts) -> Iterator[Finding]:
        name, promised = f"node {node.address}", node.resources.get("GPU", 0)
        if not said.interface:
            text = f"{name} has no network interface with the address that Ray knows it by"
            yield Finding("interface", "missing", f"{text}: start its raylet with --node-ip-address")
        if self.launch.gpu and said.gpus < promised:
            text = f"{name} promises {promised:g} GPU, and PyTorch there sees {said.gpus}"
            yield Finding("gpu", "missing", text)
        skew = min(0.0, said.clock - self.began) + max(0.0, said.clock - self.answered)
        if abs(skew) > SKEW_S:
            text = f"the clock of {name} is {skew:+.0f} s off: times of reports and events will be wrong"
            yield Finding("clock", "warning", text)

    def _software(self, node: Node, said: Facts) -> Iterator[Finding]:
        name, here = f"node {node.address}", self.facts.get(self.nodes[0].id, said)
        for package in ("python", *PACKAGES):
            found = (versions.get(package, "none") for versions in (here.versions, said.versions))
            mine, theirs = (version.partition("+")[0] for version in found)  # +cpu and +cu130 are one version
            if mine != theirs:
                text = f"{name} has {package} {theirs}, here it is {mine}: install the same"
                yield Finding("packages", "missing" if package in {"python", *REQUIRED} else "warning", text)
        if said.code != here.code:
            text = f"{name} has {'other code of recray than here' if said.code else 'no recray'}"
            yield Finding("code", "missing", f"{text}: submit with --working-dir, or install the same there")

    def _connected(self) -> Iterator[Finding]:
        """Every node asks for every other: collectives go between all of them."""
        asked = [node for node in self.nodes if node.id in self.facts and self.facts[node.id].interface]
        ports = _came({node.address: self.probes[node.id].listen.remote(node.address) for node in asked})
        tries = {}
        for node in asked:
            others = [door for door in ports.items() if door[0] != node.address]
            tries[node.address] = self.probes[node.id].reach.remote(others)
        found = _came(tries)
        failed = [(address, *one) for address, said in found.items() for one in said]
        for address, other, why in failed:
            text = f"node {address} cannot reach node {other} ({why})"
            yield Finding("network", "missing", f"{text}: workers need all ports between all nodes")
        lost = tries.keys() - (ports.keys() & found.keys())
        for address in sorted(lost):
            yield Finding("network", "missing", f"node {address} was lost while it was asked")
        if not failed and not lost:
            yield Finding("network", "ok", f"all {len(asked) * (len(asked) - 1)} pairs reach each other")


def _came(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What nodes answered in time, by address, without those that did not."""
    done, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_S)
    found = {}
    for address, reference in asked.items():
        with contextlib.suppress(ray.exceptions.RayError):
            if reference in done:
                found[address] = ray.get(reference)
    return found
