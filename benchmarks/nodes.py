"""Several machines on this one: each node has its own network, its own processes and its own raylet.

A node is a pair of namespaces (network and PID) joined to the others by a virtual cable and a bridge, so that
it can die as a whole (``kill``), lose its cable (``cut``), and has no address but its own. Its host name
resolves to loopback, as Debian's does. Needs root and the kernel's leave: ``why_not`` says why it cannot be.
"""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PORT = 6379
# Its own loopback, shared memory and folder of Ray's; what else lies on the disk, all nodes see.
_KEEP = (
    'ip link set lo up && mount -t tmpfs none /dev/shm && mkdir -p "$1" "$2" && mount --bind "$1" "$2" && '
    "echo up && exec sleep infinity"
)
# A node that is dead is known as dead after some five seconds, not after thirty.
_RAY = {
    "RAY_raylet_start_wait_time_s": "180",
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
# A head that finds a token in the user's home asks for it, and the others do not bring it of themselves.
_OPEN = {"RAY_AUTH_MODE": "disabled"}
_APART = ("unshare", "--net", "--pid", "--mount", "--fork", "--mount-proc")


def why_not() -> str:
    """Why this machine cannot be several; empty where it can."""
    if shutil.which("ip") is None or shutil.which("nsenter") is None:
        return "`ip` and `nsenter` (Debian: iproute2, util-linux) are not installed"
    bridge = ("ip", "link", "add", "rb0", "type", "bridge")
    tried = subprocess.run([*_APART, *bridge], capture_output=True, text=True)
    return tried.stderr.strip() and f"namespaces are not permitted here: {tried.stderr.strip()}"


class Node:
    """One machine: ``run`` and ``start`` do what is said there."""

    def __init__(self, name: str, address: str, cable: str, folder: Path, ray_folder: Path) -> None:
        self.name, self.address, self.cable, self.folder = name, address, cable, folder
        self.folder.mkdir(parents=True, exist_ok=True)
        keep = ("sh", "-c", _KEEP, name, str(folder / "ray"), str(ray_folder))
        self._alive = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *_APART, "--kill-child", *keep],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._alive.stdout is not None
        self._alive.stdout.readline()
        children = Path(f"/proc/{self._alive.pid}/task/{self._alive.pid}/children").read_text().split()
        self.pid = int(children[0])  # of the first process of the namespaces

    def command(self, *words: str) -> list[str]:
        inside = ["nsenter", "-t", str(self.pid), "--net", "--pid", "--mount", "--wd=" + os.getcwd()]
        return [*inside, *words]

    def start(
        self, *words: str, env: Mapping[str, str] | None = None, log: str = ""
    ) -> subprocess.Popen[str]:
        """A process of this node; its output goes to ``log`` in the node's folder, where one is named."""
        out = (self.folder / log).open("a") if log else subprocess.PIPE
        return subprocess.Popen(
            self.command(*words),
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            env={**_OPEN, **os.environ, **(env or {})},
            start_new_session=True,
        )

    def run(self, *words: str, env: Mapping[str, str] | None = None, timeout: float = 300) -> tuple[int, str]:
        """Exit status and output of a process of this node."""
        process = self.start(*words, env=env)
        try:
            said, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            return 124, said
        return process.returncode, said

    def alive(self) -> bool:
        return self._alive.poll() is None

    def kill(self) -> None:
        """Its power fails."""
        if not self.alive():
            return
        os.killpg(self._alive.pid, signal.SIGKILL)
        self._alive.wait()
        deadline = time.monotonic() + 10
        while _runs(self.pid) and time.monotonic() < deadline:
            time.sleep(0.05)


class Nodes:
    """Nodes on one bridge, the first of them Ray's head."""

    def __init__(self, folder: Path, subnet: str) -> None:
        self.folder, self.subnet, self.nodes = folder, subnet, dict[str, Node]()
        self.tag = secrets.token_hex(2)
        self.bridge = f"rb{self.tag}"
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("addr", "add", f"{subnet}.254/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")
        self._made = 0

    @property
    def head(self) -> Node:
        return self.nodes["n0"]

    def add(self, *, cpus: float = 1, core: int | None = None, env: Mapping[str, str] | None = None) -> Node:
        """One more node, with its raylet.

        Args:
            cpus: as Ray counts them.
            core: of this machine, the one that Ray's processes of this node are held on; None: any.
            env: of the raylet.

        Raises:
            RuntimeError: the raylet does not come up.
        """
        self._made += 1
        return self._plugged(self._made - 1, cpus, core, env)

    def again(self, node: Node, *, cpus: float = 1, env: Mapping[str, str] | None = None) -> Node:
        """The power of a node that died is back: its name, its address, its folder, and a raylet."""
        return self._plugged(int(node.name.removeprefix("n")), cpus, None, env)

    def _plugged(self, number: int, cpus: float, core: int | None, env: Mapping[str, str] | None) -> Node:
        name, address = f"n{number}", f"{self.subnet}.{number + 1}"
        cable = f"rv{self.tag}{number}"
        node = self.nodes[name] = Node(name, address, cable, self.folder / name, self.folder / "ray")
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(node.pid))
        _ip("link", "set", cable, "master", self.bridge, "up")
        for words in (
            ("addr", "add", f"{address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", f"{self.subnet}.254"),
        ):
            subprocess.run(node.command("ip", *words), check=True, capture_output=True)
        self.start(node, cpus=cpus, core=core, env=env)
        return node

    def start(
        self, node: Node, *, cpus: float = 1, core: int | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        """Its raylet, as ``add`` does; also where one has ended, as it does when it was given up."""
        held = [] if core is None else ["taskset", "-c", str(core)]
        status, said = node.run(*held, *self._raylet(node, cpus), env={**_RAY, **(env or {})})
        if status:
            raise RuntimeError(f"the raylet of {node.name} does not start: {said[-2000:]}")

    def _raylet(self, node: Node, cpus: float) -> list[str]:
        role = [f"--address={self.head.address}:{PORT}"]
        if node is self.head:
            role = ["--head", f"--port={PORT}", f"--temp-dir={self.folder}/ray"]
        words = ["ray", "start", *role, f"--node-ip-address={node.address}", f"--num-cpus={cpus}"]
        return [*words, "--disable-usage-stats", "--object-store-memory=100000000"]

    def cut(self, node: Node) -> None:
        """Takes the node's cable out."""
        _ip("link", "set", node.cable, "down")

    def mend(self, node: Node) -> None:
        _ip("link", "set", node.cable, "up")

    def end(self) -> None:
        for node in self.nodes.values():
            node.kill()
        _ip("link", "del", self.bridge)


@contextmanager
def nodes(cpus: Sequence[float], *, subnet: str = "10.9.0", folder: Path | None = None) -> Iterator[Nodes]:
    """Nodes with so many cores each, all of which see this machine's files; they end with the block."""
    where = folder or Path(tempfile.mkdtemp(prefix="nodes-"))
    made = Nodes(where, subnet)
    try:
        for each in cpus:
            made.add(cpus=each)
        yield made
    finally:
        made.end()
        if folder is None:
            shutil.rmtree(where, ignore_errors=True)


def _runs(pid: int) -> bool:
    """Whether a process is there, and not merely waiting for somebody to hear of its end."""
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
