"""``python -m recray.cluster.guard``: on every pod, the ceiling and the time to live, whoever is watching.

Each pod knows when it ends and deletes itself then, with the key that the provider gives it for itself alone.
On the head, once `ray up` has told it the account's key, it sees to the whole cluster: hands Ray's token to
new workers, adds up what all pods cost, says so at half and at nine tenths, and at the end deletes workers,
then the head. What cannot be deleted is tried again until it is.
"""

import fcntl
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

from recray.cluster.api import KEY, UNTIL, Pod, RefusedError, RunPod
from recray.cluster.defaults import TOKEN
from recray.cluster.plan import Limits, limits
from recray.cluster.pods import CLUSTER, ENDING, KIND, SETTLE_S, Pods, leads
from recray.cluster.ssh import Shell
from recray.cluster.telling import tell
from recray.config import ConfigError, UnavailableError
from recray.paths import LAUNCHED
from recray.redaction import hidden

log = logging.getLogger(__name__)
SELF = "RUNPOD_POD_ID"
LOOK_S = 10.0
TRIES = 5  # to delete a worker that is locked, before its head goes without it
DAY_S = 86400.0  # that a pod has which was given no time
ALONE_S = 1800.0  # after which a pod that nobody has set up is of no use
LOCK = Path("~/recray-guard.lock")
HEAD_KEY = "~/ray_bootstrap_key.pem"


class Own:
    """A pod's guard of itself."""

    def __init__(self, service: RunPod, pod_id: str, until: float, ready: Path) -> None:
        self.service, self.pod_id, self.until, self.ready = service, pod_id, until, ready
        self.started = service.clock()

    def look(self) -> bool:
        """Whether this pod's time is over; then it is deleted."""
        now = self.service.clock()
        forgotten = not self.ready.expanduser().exists() and now - self.started > ALONE_S
        if not forgotten and now < self.until:
            return False
        self.service.delete_pod(self.pod_id)
        return True


class Cluster:
    """The head's guard of all pods.

    Args:
        bounds: asked at every look: a ceiling may be raised meanwhile, the end does not move.
        own: the head's id: it goes last.
        hand: gives a worker Ray's token, and says whether it has it.
    """

    def __init__(
        self,
        pods: Pods,
        bounds: Callable[[], Limits],
        until: float,
        own: str,
        hand: Callable[[Shell], bool] | None = None,
    ) -> None:
        self.pods, self.bounds, self.until, self.own = pods, bounds, until, own
        self.began = pods.service.clock()
        self.hand = hand or hand_token
        self._handing: dict[str, Future[bool]] = {}
        self._hands = ThreadPoolExecutor(8)  # one that cannot be reached keeps no limit waiting

    def look(self) -> bool:
        """Whether the cluster's time or money is over; then it is ended."""
        found = self.pods.all(fresh=True)
        now, ceiling = self.pods.service.clock(), self.bounds().dollars
        spent = self.pods.journal.state().dollars(now)
        for pod in found:
            self._welcome(pod)
        if now >= self.until or spent >= ceiling:
            self._end(spent, "the time is over" if now >= self.until else "the money is spent")
            return True
        began = min([self.began, *(pod.created for pod in found if pod.id == self.own)])
        used = max(spent / ceiling, (now - began) / (self.until - began))
        for share, word in ((0.0, "started"), (0.5, "half"), (0.9, "nine tenths")):
            if used >= share:
                self._tell(word, f"{spent:.2f} of {ceiling:.2f} $, {len(found)} pods")
        return False

    def _end(self, spent: float, why: str) -> None:
        self.pods.journal.note(told=ENDING)
        self._tell("down", f"{why}: {spent:.2f} $ spent; every pod is deleted")
        tries = 0
        while others := [pod for pod in self.pods.all(fresh=True) if pod.id != self.own]:
            try:
                self.pods.end([pod.id for pod in others if not pod.cluster])
            except RefusedError as error:  # locked by somebody; it has a guard of its own
                log.warning("%s", error)
                if (tries := tries + 1) >= TRIES:
                    break
            for cluster in {pod.cluster for pod in others if pod.cluster}:
                self.pods.service.delete_cluster(cluster)  # this pod is one of them
            self.pods.service.sleep(SETTLE_S)
        self.pods.end([self.own])

    def _tell(self, word: str, text: str) -> None:
        if word not in self.pods.journal.state().told:
            self.pods.journal.note(told=word)
            tell(f"{self.pods.cluster}: {word}", text)

    def _welcome(self, pod: Pod) -> None:
        """Hands a new worker Ray's token; until then it waits."""
        word = f"token {pod.id}"
        if pod.env.get(KIND) != "worker" or pod.status != "RUNNING" or not pod.address:
            return
        if word in self.pods.journal.state().told:
            return
        handing = self._handing.get(pod.id)
        if handing is None:
            self._handing[pod.id] = self._hands.submit(self.hand, Shell(pod.address, 22, HEAD_KEY))
        elif handing.done():
            del self._handing[pod.id]
            if not handing.exception() and handing.result():
                self.pods.journal.note(told=word)
            else:
                log.warning(
                    "%s does not take the token (%s): tried again", pod.name, handing.exception() or "SSH"
                )


def hand_token(shell: Shell) -> bool:
    """Writes this machine's token of Ray into the other's home, readable by nobody else."""
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN).expanduser().read_text()
    command = f"umask 077; mkdir -p ~/.ray; cat > {TOKEN}.new && mv {TOKEN}.new {TOKEN}"
    try:
        return shell.run(command, text=token, timeout_s=30).returncode == 0
    except UnavailableError:
        return False


def guard(variables: Mapping[str, str]) -> Own | Cluster:
    """Of the whole cluster, where the account's key is here; else of this pod alone.

    Raises:
        ConfigError: this is no pod of a cluster.
    """
    pod_id, cluster = variables.get(SELF, ""), variables.get(CLUSTER, "")
    if not pod_id or not cluster:
        raise ConfigError(f"{SELF} and {CLUSTER} are not set: this is no pod of a cluster")
    service, head = RunPod(), leads(variables, int(variables.get("NODE_RANK", 0)))
    until = float(variables.get(UNTIL) or service.clock() + DAY_S)
    try:
        service.pods()
    except RefusedError as error:
        if error.status not in (401, 403):
            raise
        return Own(service, pod_id, until, LAUNCHED if head else Path(TOKEN))  # the key of one pod
    _bounds()
    return Cluster(Pods(service, cluster), _bounds, until, pod_id)


def _bounds() -> Limits:
    config: dict[str, Any] = json.loads(LAUNCHED.expanduser().read_text())
    return limits(config["provider"])


def watch(made: Own | Cluster) -> None:
    """For ever: what was deleted dies anyway, and what was not is tried again."""
    while True:
        try:
            made.look()
        except Exception as error:  # whatever it is: nobody else ends this pod
            log.warning("%s: %s", type(error).__name__, hidden(str(error)))
        time.sleep(LOOK_S)


def main(args: list[str]) -> int:
    """``--detach``: in a process of its own, which outlives this one. ``--now``: this pod ends at once."""
    if "--detach" in args:
        rest = [word for word in args if word != "--detach"]
        log_file = Path("~/recray-guard.log").expanduser().open("a")
        subprocess.Popen(
            [sys.executable, "-m", "recray.cluster.guard", *rest],
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,
        )
        return 0
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if missing := [name for name in (KEY, SELF, CLUSTER) if not os.environ.get(name)]:
        log.warning("%s is not set here: nothing is guarded", missing[0])
        return 1
    if "--now" in args:
        watch(Own(RunPod(), os.environ[SELF], 0.0, Path("/")))
        return 0
    made = None
    while made is None:  # also where the service is away at this moment
        try:
            made = guard(os.environ)
        except Exception as error:
            log.warning("%s: %s", type(error).__name__, hidden(str(error)))
            time.sleep(LOOK_S)
    with LOCK.expanduser().open("w") as lock:
        if isinstance(made, Cluster) and not _first(lock):
            return 0  # another one reads the limits anew
        watch(made)
    return 0


def _first(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
