"""What Ray Serve starts as HAProxy: HAProxy, closed to others, with a watcher who replaces it where it dies.

Ray writes HAProxy's configuration and has no option for what is mended here: its statistics listen on all
interfaces, any user may command it, a lost replica is answered with 500 and a route that Ray has not told
yet with 404, and a killed HAProxy is missed for half a minute.

Ray runs ``haproxy_keeper.py FOLDER HAPROXY ... -f CONFIG ...`` (``haproxy.use_haproxy`` arranges it), and
this process becomes HAProxy. Its watcher starts a deputy within a moment of its death, without the socket
by which Ray asks how it is: Ray misses it, and starts another, who takes over from the deputy. Whoever
connects meanwhile waits: the watcher holds a second socket at HAProxy's address (SO_REUSEPORT), which it
listens on from the moment of the death, and hands to the deputy. Standard library only, so that it starts at
once.
"""

import json
import math
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

CURRENT = "current"  # beside the configuration: the process that serves now
ROUTED = "routed.cfg"  # the last configuration that had routes
ENDING = "ending"  # in the folder: no more deputies
ADMISSION = "admission.json"  # in the folder: ``Admission``
FRONTEND = "frontend http_frontend\n"
# Who sends slowly holds no place in a replica (up to HAProxy's 16 KiB). What a lost replica was told is told
# another one under the same key, so that it counts once.
FRONT = """\
    option http-buffer-request
    timeout http-request 10s
    acl has_key req.hdr(idempotency-key) -m found
    http-request set-header idempotency-key %[uuid] if { path_end /events } !has_key
"""
ALWAYS_ADMITTED = ("/health", "/live", "/ready", "/metrics")
OWN_ANSWERS = {  # of HAProxy, which would write HTML: (status, error, message) by the status it knows
    408: ("408 Request Timeout", "request_too_late", "the request was not whole in time: send it faster"),
    502: ("503 Service Unavailable", "broken_off", "what answered this has died: ask again"),
    503: ("503 Service Unavailable", "not_ready", "nobody can answer now: ask again"),
    504: ("503 Service Unavailable", "answer_too_late", "the answer took too long: ask again"),
}
NEAR = "127.0.0.0/8 ::1"  # who stands there may speak for others
COUNTED_S = 10  # requests of a client are counted over so many seconds
SUCCESSOR_WITHIN_S = 60.0  # a HAProxy without Ray ends after that
BIND = re.compile(rf"({FRONTEND}(?: .*\n)*? *bind )(\S*):(\d+)")
MOST_WAITING = 4_096  # connections, for a deputy


class Admission(NamedTuple):
    """How many requests a replica is given, how many may wait for it (-1: all), and what others are told."""

    at_a_time: int
    queued: int
    retry_after_s: float
    requests_per_client_s: int = 0
    """Of one address; 0: any number."""
    connections_per_client: int = 0


def refusal(status: int, error: str, message: str, retry_after_s: float | None = None) -> str:
    """What HAProxy says in place of the application, in its words."""
    content = json.dumps({"error": error, "message": message})
    after = f" hdr Retry-After {math.ceil(retry_after_s)}" if retry_after_s is not None else ""
    return f"status {status} content-type application/json string '{content}'{after}"


def fair(config: str, admission: Admission) -> str:
    """The configuration with limits for each client: more connections are closed, more requests are a 429.

    A client is an address. Where a proxy on this machine stands in front, it is who that proxy names last in
    ``x-forwarded-for``; its connections are its own.
    """
    rules, tables = "", ""
    if (most := admission.connections_per_client) > 0:
        rules += "    tcp-request connection track-sc0 src table recray_connections\n"
        rules += f"    tcp-request connection reject if {{ sc_conn_cur(0) gt {most} }}\n"
        tables += "backend recray_connections\n    stick-table type ipv6 size 100k expire 1m store conn_cur\n"
    if (rate := admission.requests_per_client_s) > 0:
        message = f"more than {rate} requests a second come from this address"
        too_many = refusal(429, "too_many_requests", message, admission.retry_after_s)
        named = "req.hdr_ip(x-forwarded-for,-1)"
        rules += "    http-request set-var(txn.client) src\n"
        rules += f"    http-request set-var(txn.client) {named} if {{ src {NEAR} }} {{ {named} -m found }}\n"
        rules += "    http-request track-sc1 var(txn.client) table recray_requests\n"
        rules += (
            f"    http-request return {too_many} if "
            f"{{ sc_http_req_rate(1) gt {rate * COUNTED_S} }} !{{ path_end {' '.join(ALWAYS_ADMITTED)} }}\n"
        )
        tables += "backend recray_requests\n    stick-table type ipv6 size 100k expire 1m store "
        tables += f"http_req_rate({COUNTED_S}s)\n"
    return config.replace(FRONTEND, FRONTEND + rules) + tables


def admitting(config: str, admission: Admission) -> str:
    """The configuration with a 429 for whoever would wait too long, which costs a replica nothing."""
    # Not HAProxy's `maxconn` of a server: with it, half of all killed replicas cost a request.
    replicas = len(re.findall(r"(?m)^ *server SERVE_REPLICA\S+ .*check", config))
    most = (admission.at_a_time + admission.queued) * replicas
    if admission.queued < 0 or not replicas:
        return config
    first = re.search(r"(?m)^ *use_backend (\S+) if (is_\S+)$", config)
    if first is None:
        return config
    overloaded = refusal(
        429, "overloaded", "too many requests wait: ask again later", admission.retry_after_s
    )
    rule = (
        f"    http-request return {overloaded} "
        f"if {first[2]} {{ be_conn({first[1]}) ge {most} }} !{{ path_end {' '.join(ALWAYS_ADMITTED)} }}\n"
    )
    return config[: first.start()] + rule + config[first.start() :]


def write_own_answers(folder: Path) -> None:
    """What HAProxy says where it has nobody to ask, in files that ``narrowed`` names."""
    for known, (status, error, message) in OWN_ANSWERS.items():
        content = json.dumps({"error": error, "message": message})
        head = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(content)}"]
        head += ["connection: close", *(["retry-after: 1"] if status.startswith("503") else [])]
        (folder / f"{known}.http").write_text("\r\n".join([*head, "", content]), newline="")


def narrowed(config: str, folder: Path) -> str:
    """Ray's configuration of HAProxy, for this machine and this user alone, and honest in its answers.

    Args:
        folder: of the files that ``write_own_answers`` writes.
    """
    config = re.sub(r"((?:frontend prometheus|listen stats)\n\s*bind )\*?:", r"\g<1>127.0.0.1:", config)
    config = config.replace(" mode 666 level admin", " mode 600 level admin")
    config = re.sub(r"(?m)^ *errorfile 50[234] .*\n", "", config)  # Ray's, which say 500
    starting = refusal(503, "starting", "the application is not here yet: ask again later", 1.0)
    if not has_routes(config):
        config = re.sub(r"(?m)return status 404 .*$", lambda _: f"return {starting}", config)
    own = "".join(f"    errorfile {known} {folder / str(known)}.http\n" for known in OWN_ANSWERS)
    # Serve's own proxy, asked while there is no replica, may know the route later than HAProxy.
    unknown = (
        f"    http-response return {starting} if {{ status 404 }} {{ res.hdr(content-type) -m beg text/ }}\n"
    )
    return config.replace(FRONTEND, FRONTEND + FRONT + own + unknown)


def has_routes(config: str) -> bool:
    """Whether Ray has told where requests go: it does so a moment after HAProxy's start."""
    return re.search(r"(?m)^ *use_backend ", config) is not None


def prepared(args: Sequence[str], admission: Path) -> list[str]:
    """HAProxy's arguments: another file beside Ray's, and whom it takes over from where Ray has lost that."""
    at = args.index("-f") + 1
    file = Path(args[at])
    routed, own = file.with_name(ROUTED), file.with_name(f"own-{file.name}")
    write_own_answers(file.parent)
    config = narrowed(file.read_text(), file.parent)
    if admission.exists():
        limits = Admission(*json.loads(admission.read_text()))
        config = fair(admitting(config, limits), limits)
    if has_routes(config):
        routed.write_text(config)
    elif routed.exists():  # better than none, until Ray tells the new ones
        config = routed.read_text()
    own.write_text(config)
    serves = serving(file.parent)
    handed_over = ["-sf", str(serves)] if serves and "-sf" not in args else []
    command = [*args[:at], str(own), *args[at + 1 :], *handed_over]
    return [arg for arg in command if arg != "-dR"]  # a second socket at the same address is wanted


def serving(folder: Path) -> int | None:
    """The HAProxy that serves now; none: it is not there (any more)."""
    with suppress(OSError, ValueError):
        pid = int((folder / CURRENT).read_text())
        if b"haproxy" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None


def spare_socket(config: str) -> socket.socket | None:
    """Beside the one that HAProxy listens on; connections come to it once it listens too."""
    if (bind := BIND.search(config)) is None:
        return None
    host = bind[2].strip("[]*")
    spare = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        spare.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        spare.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        spare.bind((host, int(bind[3])))
    except OSError:  # then connections are refused until the deputy is there
        spare.close()
        return None
    return spare


def start_deputy(haproxy: str, folder: Path, spare: socket.socket | None) -> "subprocess.Popen[bytes]":
    """On the spare socket, which it alone has from now on."""
    file = folder / "deputy.cfg"
    config = re.sub(r"(?m)^ *stats socket .*\n", "", (folder / ROUTED).read_text())
    if spare is None:
        file.write_text(config)
        return subprocess.Popen([haproxy, "-db", "-f", str(file)])
    with spare:
        file.write_text(BIND.sub(rf"\g<1>fd@{spare.fileno()}", config))
        return subprocess.Popen([haproxy, "-db", "-f", str(file)], pass_fds=[spare.fileno()])


class Watched(NamedTuple):
    """A HAProxy, from before it is one: its watcher may come late."""

    pid: int
    handle: int
    """Its file descriptor (pidfd)."""
    config: str
    spare: socket.socket | None


def watch(watched: Watched, haproxy: str, folder: Path, ending: Path) -> None:
    """Waits for the end of a HAProxy; if it is neither replaced nor meant to end, runs deputies."""
    current, spare = folder / CURRENT, watched.spare
    if not ended(watched):
        with suppress(ProcessLookupError):
            os.kill(watched.pid, signal.SIGTERM)  # nobody else ever would
        return
    served, deputy, deadline = watched.pid, None, time.monotonic() + SUCCESSOR_WITHIN_S
    while folder.exists() and not ending.exists() and time.monotonic() < deadline:
        if deputy is None or deputy.poll() is not None:
            if int(current.read_text()) != served:  # a successor, from Ray
                return
            if spare:
                spare.listen(MOST_WAITING)
            deputy = start_deputy(haproxy, folder, spare)
            served, spare = deputy.pid, spare_socket(watched.config)
            current.write_text(str(served))
        time.sleep(0.05)
    if deputy is not None:
        deputy.send_signal(signal.SIGUSR1)


def ended(watched: Watched) -> bool:
    """Returns when a HAProxy ends, or, false, when its parent has been gone for long."""
    parent, parted = parent_of(watched.pid), 0.0
    while not select.select([watched.handle], [], [], 1.0)[0]:
        parted = 0.0 if parent_of(watched.pid) == parent else parted + 1.0
        if parted > SUCCESSOR_WITHIN_S:
            return False
    return True


def parent_of(pid: int) -> int:
    with suppress(OSError):
        # "PID (any name) STATE PARENT ..."
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def main(own_folder: str, haproxy: str, *args: str) -> None:
    ending, folder = Path(own_folder) / ENDING, Path(args[args.index("-f") + 1]).parent
    command = prepared(args, Path(own_folder) / ADMISSION)
    pid = os.getpid()
    (folder / CURRENT).write_text(str(pid))
    if hasattr(os, "pidfd_open"):
        config = Path(command[command.index("-f") + 1]).read_text()
        watched = Watched(pid, os.pidfd_open(pid), config, spare_socket(config))
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:  # nobody's child: neither Ray nor HAProxy looks after it
                watch(watched, haproxy, folder, ending)
            os._exit(0)
    os.execv(haproxy, [haproxy, *command])


if __name__ == "__main__":
    main(*sys.argv[1:])
