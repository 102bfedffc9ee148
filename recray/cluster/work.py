"""A command's whole way on a cluster: data there, submitted through a tunnel, followed, results home."""

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from recray.cluster.ssh import Shell
from recray.config import ConfigError, UnavailableError

Say = Callable[[str], None]
DASHBOARD = 8265
OPEN = ("PENDING", "RUNNING")
TRIES = 3  # to bring results home
AWAY_S, AGAIN_S = 600.0, 5.0  # that a head may be away while its job is followed, between tries
OPEN_S = 60.0  # for a tunnel to stand
FAR_HOME = "${RECRAY_HOME:-$HOME/.recray}"


@contextmanager
def tunnel(shell: Shell, far: int, near: int = 0) -> Iterator[int]:
    """The head's port ``far``, which listens to nobody else, at a port of this machine; 0: any that is free.

    Raises:
        UnavailableError: it does not stand within ``OPEN_S``.
    """
    near = near or _free()
    words = [*shell.words("-N", "-L", f"127.0.0.1:{near}:127.0.0.1:{far}")]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + OPEN_S
        while not _listens(near):
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                said = process.communicate()[1].strip()
                raise UnavailableError(f"no tunnel to {shell.host}:{shell.port}: {said or 'no answer'}")
            time.sleep(0.1)
        yield near
    finally:
        process.terminate()
        process.wait()


def require_ready(shell: Shell) -> None:
    """What `recray doctor --cluster` finds there.

    Raises:
        ConfigError: something would stop a run; says what.
    """
    said = shell.run("recray doctor --cluster --json", timeout_s=180)
    if said.returncode:
        raise ConfigError(
            f"{said.stderr.strip() or 'recray doctor fails on the head'}: {_missing(said.stdout)}"
        )


def _missing(text: str) -> str:
    try:
        rows = json.loads(text)
    except ValueError:
        return text.strip()[-300:]
    return "; ".join(" ".join(map(str, row.values())) for row in rows if row.get("status") == "missing")


def submit(shell: Shell, command: Sequence[str], folder: Path, say: Say) -> int:
    """Runs a command as a Ray job with this folder's files, and prints what it prints.

    Returns its exit status. A connection that breaks is made anew, the job goes on; Ctrl-C stops it.

    Raises:
        UnavailableError: the head cannot be asked for ``AWAY_S``.
    """
    name, heard = f"run-{secrets.token_hex(4)}", time.monotonic()
    words = ["submit", "--submission-id", name, "--working-dir", str(folder), "--", *command]
    while True:
        try:
            with tunnel(shell, DASHBOARD) as port:
                say(f"dashboard while it runs: http://127.0.0.1:{port}")
                address = f"http://127.0.0.1:{port}"
                status = _ray_job(address, *words)
                state = jobs(address).get(name, "")
        except KeyboardInterrupt:
            with tunnel(shell, DASHBOARD) as port:
                _ray_job(f"http://127.0.0.1:{port}", "stop", "--no-wait", name)
            raise
        except (OSError, RuntimeError, UnavailableError) as error:
            state = f"not known: {error}"
        else:
            heard = time.monotonic()
            if state not in OPEN:
                return 0 if state == "SUCCEEDED" else status or 1
        if time.monotonic() - heard > AWAY_S:
            raise UnavailableError(f"{name} was submitted, and its state is {state}")
        say(f"{name}: the connection broke; its state is {state}")
        words = ["logs", name, "--follow"]
        time.sleep(AGAIN_S)


def _ray_job(address: str, *words: str) -> int:
    env = {**os.environ, "RAY_ADDRESS": address, "RAY_AUTH_MODE": "token"}
    return subprocess.run(["ray", "job", *words], env=env).returncode


def jobs(address: str) -> dict[str, str]:
    """State of every job that was submitted, by its id.

    Raises:
        OSError, RuntimeError: nobody answers there.
    """
    from ray.job_submission import JobSubmissionClient  # Ray takes a second to import

    os.environ.setdefault("RAY_AUTH_MODE", "token")
    found = JobSubmissionClient(address).list_jobs()
    return {str(job.submission_id): str(job.status.value) for job in found if job.submission_id}


def at_work(shell: Shell) -> list[str]:
    """Jobs that somebody waits for."""
    with tunnel(shell, DASHBOARD) as port:
        return [name for name, state in jobs(f"http://127.0.0.1:{port}").items() if state in OPEN]


def send(shell: Shell, data: Sequence[Path], say: Say) -> None:
    """Files and folders into the head's ``RECRAY_HOME/raw``, what changed alone.

    Raises:
        UnavailableError: the copy breaks off; asked again it goes on there.
    """
    said = shell.run(f'mkdir -p "{FAR_HOME}/raw" && echo "{FAR_HOME}"')
    far = said.stdout.strip()
    for path in data:
        say(f"{path} -> {far}/raw")
        if status := shell.copy(str(path).rstrip("/"), f"{far}/raw/"):
            raise UnavailableError(
                f"{path} is not there as a whole (rsync says {status}): ask again, it goes on"
            )


def bring(shell: Shell, target: Path, say: Say) -> Path:
    """Runs and versions of the head's home, what changed alone, into a home of their own here.

    Raises:
        UnavailableError: the copy breaks off; asked again it goes on there.
    """
    far = shell.run(f'mkdir -p "{FAR_HOME}/runs" "{FAR_HOME}/store" && echo "{FAR_HOME}"').stdout.strip()
    target.mkdir(parents=True, exist_ok=True)
    for part in ("runs", "store"):
        status = 1
        for _ in range(TRIES):
            if not (status := shell.copy(f"{far}/{part}", str(target), back=True)):
                break
            time.sleep(AGAIN_S)
        if status:
            raise UnavailableError(f"{part} did not come home (rsync says {status}): ask again, it goes on")
    say(f"runs and versions are at {target}: RECRAY_HOME={target} recray versions")
    return target


def _free() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as door:
        door.settimeout(1)
        return door.connect_ex(("127.0.0.1", port)) == 0
