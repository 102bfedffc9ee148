"""``python -m recray.cluster.node``: the options of ``ray start`` that only the pod itself knows."""

import os
import shutil
import socket
import subprocess
import sys

from recray.cluster.pods import HEAD, leads

PORT = 6379
LEAST_SHARED = 2**30  # bytes of /dev/shm that Ray's objects fit in; a container has 64 MB
_GLOBAL = "runpod.internal"


def options() -> list[str]:
    found = [f"--node-ip-address={address()}", "--disable-usage-stats"]
    if leads(os.environ, int(os.environ.get("NODE_RANK", 0))):
        found += [f"--port={PORT}", "--dashboard-host=127.0.0.1"]
    else:
        head = os.environ.get(HEAD) or f"{os.environ.get('PRIMARY_ADDR', '')}:{PORT}"
        found += [f"--address={head}"]
    if shutil.disk_usage("/dev/shm").total < LEAST_SHARED:
        found += ["--plasma-directory=/tmp"]
    if (cores := os.environ.get("RECRAY_CPUS")) is not None:
        found += [f"--num-cpus={cores}"]
    return found


def address() -> str:
    """Where the other nodes reach this one: never the internet's interface, which times out between pods."""
    if named := os.environ.get("NODE_ADDR"):  # of an Instant Cluster
        return named
    name = f"{os.environ.get('RUNPOD_POD_ID', '')}.{_GLOBAL}"
    try:
        return socket.gethostbyname(name)
    except OSError:  # a pod alone has no private network
        said = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
        return said[0] if said else "127.0.0.1"


if __name__ == "__main__":
    sys.stdout.write(" ".join(options()))
