"""Pods that are machines: namespaces of this one, whose first process is the image's ``start.sh``."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

REPO = Path(__file__).absolute().parents[3]
START = REPO / "recray" / "cluster" / "image" / "start.sh"
_APART = ("unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--mount-proc", "--kill-child")
# Its own loopback, shared memory, /run, folder of Ray's, hosts and home; what else is on the disk, all see.
_KEEP = (
    'ip link set lo up && hostname "$1" && mount -t tmpfs none /dev/shm && mount -t tmpfs none /run && '
    'mkdir -p /tmp/ray && mount --bind "$2/ray" /tmp/ray && mount --bind "$3" /etc/hosts && '
    'mount --bind "$2/passwd" /etc/passwd && echo up && read -r _ && cd "$HOME" && exec "$4"'
)


class Machine:
    def __init__(self, number: int, address: str) -> None:
        self.number, self.address = number, address
        self.process: subprocess.Popen[str] | None = None
        self.relay: socket.socket | None = None
        self.dead = False


class Machines:
    """Args:
    folder: of homes and logs, one per pod.
    subnet: such as 10.8.0; this machine has .254 in it.
    """

    def __init__(self, folder: Path, subnet: str) -> None:
        self.folder, self.subnet, self.machines = folder, subnet, dict[str, Machine]()
        self.lock, self.tag, self.variables = threading.Lock(), secrets.token_hex(2), dict[str, str]()
        self.hosts = folder / "hosts"
        self.hosts.write_text("127.0.0.1 localhost\n")
        self.births = ThreadPoolExecutor(1)  # a machine dies with the thread that bore it
        self.born: list[Future[None]] = []
        self.bridge = f"pb{self.tag}"
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("addr", "add", f"{subnet}.254/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")

    def start(self, pod_id: str, env: Mapping[str, str], rank: int) -> None:
        """Begins it; those of a cluster follow each other by rank."""
        with self.lock:
            number = len(self.machines) + 1
            machine = self.machines[pod_id] = Machine(number, f"{self.subnet}.{number}")
            with self.hosts.open("a") as file:
                file.write(f"{machine.address} {pod_id}.runpod.internal {pod_id}\n")
        self.born.append(self.births.submit(self._start, machine, pod_id, env, rank))

    def _start(self, machine: Machine, pod_id: str, env: Mapping[str, str], rank: int) -> None:
        number = machine.number
        home = self.folder / pod_id
        (home / "ray").mkdir(parents=True)
        (home / "passwd").write_text(
            f"root:x:0:0:root:{home}:/bin/bash\nsshd:x:105:65534::/run/sshd:/usr/sbin/nologin\n"
        )
        variables = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(home),
            "PYTHONPATH": str(REPO),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "RAY_raylet_start_wait_time_s": "180",
            "RAY_USAGE_STATS_ENABLED": "0",
            "NODE_RANK": str(rank),
            "NODE_ADDR": machine.address,
            "PRIMARY_ADDR": f"{self.subnet}.{number - rank}",
            **self.variables,
            **env,
        }
        words = ["sh", "-c", _KEEP, "pod", pod_id, str(home), str(self.hosts), str(START)]
        machine.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *_APART, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(home / "start.log").open("w"),
            text=True,
            env=variables,
            start_new_session=True,
        )
        assert machine.process.stdout is not None
        assert machine.process.stdin is not None
        machine.process.stdout.readline()
        threading.Thread(target=machine.process.stdout.read, daemon=True).start()
        unshare = machine.process.pid
        inside = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()[0]
        cable = f"pv{self.tag}{number}"
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", inside)
        _ip("link", "set", cable, "master", self.bridge, "up")
        for words in (
            ["addr", "add", f"{machine.address}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["route", "add", "default", "via", f"{self.subnet}.254"],
        ):
            subprocess.run(["nsenter", "-t", inside, "--net", "ip", *words], check=True, capture_output=True)
        machine.process.stdin.write("\n")
        machine.process.stdin.flush()
        if machine.dead:  # ended while it began
            self.kill(pod_id)

    def address(self, pod_id: str) -> str:
        return self.machines[pod_id].address if pod_id in self.machines else f"{self.subnet}.250"

    def door(self, pod_id: str) -> tuple[str, int] | None:
        """Where its sshd is reached from outside, at another port than 22; None: not yet."""
        machine = self.machines.get(pod_id)
        if machine is None or machine.dead or not _listens(machine.address):
            return None
        if machine.relay is None:
            machine.relay = socket.create_server(("127.0.0.1", 0))
            threading.Thread(target=_relay, args=(machine.relay, machine.address), daemon=True).start()
        return "127.0.0.1", int(machine.relay.getsockname()[1])

    def kill(self, pod_id: str) -> None:
        """Its power is off."""
        machine = self.machines.get(pod_id)
        if machine is None:
            return
        machine.dead = True
        if machine.process:
            with suppress(ProcessLookupError):
                os.killpg(machine.process.pid, signal.SIGKILL)
            machine.process.wait()
        if machine.relay:
            machine.relay.close()

    def end(self) -> None:
        """
        Raises:
            Exception: a machine could not be started.
        """
        self.births.shutdown(cancel_futures=True)
        for pod_id in list(self.machines):
            self.kill(pod_id)
        _ip("link", "del", self.bridge)
        for birth in self.born:
            if not birth.cancelled():
                birth.result()


def _relay(door: socket.socket, address: str) -> None:
    with suppress(OSError):
        while True:
            near, _ = door.accept()
            far = socket.create_connection((address, 22), timeout=10)
            far.settimeout(None)
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _listens(address: str) -> bool:
    with socket.socket() as door:
        door.settimeout(0.5)
        return door.connect_ex((address, 22)) == 0


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
