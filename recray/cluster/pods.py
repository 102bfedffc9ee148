"""The pods of one cluster: made once under a name of their own, found by it, and ended so that none is left.

What never changes of a pod lies in its variables (``RECRAY_CLUSTER`` and the rest), which the service keeps:
the list is the truth, the journal only remembers.
"""

import json
import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

from recray.cluster.api import GONE, UNTIL, Json, Pod, RefusedError, RunPod, UnsureError
from recray.cluster.journal import Journal
from recray.cluster.plan import Limits, Machine, Offer, offers
from recray.config import ConfigError, UnavailableError

log = logging.getLogger(__name__)
CLUSTER, KIND, TAGS, HEAD = "RECRAY_CLUSTER", "RECRAY_NODE", "RECRAY_TAGS", "RECRAY_HEAD"
"""Variables of a pod, beside UNTIL: its cluster, head or worker, Ray's tags as JSON, its head's address."""
ENDING = "ending"  # in the journal: from here on no pod is made
FRESH_S = 5.0  # that a list is good for
SETTLE_S = 6.0  # after which what was asked for before is listed, if it was made
PORTS = ("22/tcp",)
_DEAR = 1.02  # a pod that costs more than the list says is not kept


class Pods:
    """Args:
    cluster: its name, which no other cluster of the account has.
    """

    def __init__(self, service: RunPod, cluster: str) -> None:
        self.service, self.cluster, self.journal = service, cluster, Journal(cluster)
        self._lock = threading.RLock()
        self._listed: tuple[float, list[Pod]] = (-1e9, [])

    def all(self, *, fresh: bool = False) -> list[Pod]:
        """Pods that are there, whatever their status but TERMINATED; at most ``FRESH_S`` old."""
        with self._lock:
            at, pods = self._listed
            now = self.service.clock()
            if fresh or now - at >= FRESH_S:
                pods = [pod for pod in self.service.pods() if mine(pod, self.cluster)]
                self.journal.observe(pods, self.service.clock(), asked=now)
                self._listed = (now, pods)
            return pods

    def left(self, limits: Limits) -> float:
        """Dollars that may still be spent."""
        return limits.dollars - self.journal.state().dollars(self.service.clock())

    def make(
        self,
        asked: Machine,
        limits: Limits,
        node_type: str,
        env: Mapping[str, str],
        say: Callable[[str], None] = log.info,
    ) -> Pod:
        """One pod, of the first offer that is to be had.

        Raises:
            ConfigError: what is asked for cannot be, by the service's words.
            UnavailableError: sold out in every form, no money left, or the service is down. No pod is left.
        """
        if ENDING in self.journal.state().told:
            raise UnavailableError(f"{self.cluster} is being ended: no pod is made")
        catalogue = self.service.gpus() if asked.gpu else []
        refused, left = [], self.left(limits)
        for offer in offers(asked, catalogue, left):
            what = f"{asked.gpus} x {offer.gpu}" if offer.gpu else asked.cpu
            try:
                pod = self._once(self._body(asked, offer, node_type, self._timed(env, offer, left)), offer)
            except RefusedError as error:
                if error.status not in (400, 403):
                    raise
                refused.append(f"{what}: {error}")
                continue
            if offer.gpu and pod.dollars_per_hour > offer.dollars_per_hour * _DEAR:
                self.end([pod.id])
                refused.append(f"{what}: costs {pod.dollars_per_hour} $/h, listed {offer.dollars_per_hour}")
                continue
            say(f"pod {pod.name}: {what}, {pod.dollars_per_hour:.2f} $/h")
            return pod
        raise UnavailableError(f"no pod to be had: {'; '.join(refused)}")

    def _timed(self, env: Mapping[str, str], offer: Offer, left: float) -> dict[str, str]:
        """With an end that comes no later than the money's, if nobody ever guards the whole cluster."""
        if not offer.dollars_per_hour:
            return dict(env)
        paid = self.service.clock() + left / offer.dollars_per_hour * 3600
        return {**env, UNTIL: str(int(min(float(env.get(UNTIL) or paid), paid)))}

    def _once(self, body: Json, offer: Offer) -> Pod:
        """Makes it once, also where a call fails after the work was done."""
        name = str(body["name"])
        self.journal.note(asked=name)
        try:
            pod = self.service.create_pod(body)
        except UnsureError as error:
            log.warning("%s; looking whether it was made", error)
            pod = self._found(name, error)
        except BaseException:
            self._drop(name)
            raise
        self.journal.made(pod, offer.dollars_per_hour)
        with self._lock:
            self._listed = (-1e9, [])
        return pod

    def _found(self, name: str, error: UnsureError) -> Pod:
        """The pod of that name, where a call that failed has made it; none is left where it was not."""
        self.service.sleep(SETTLE_S)
        found = [pod for pod in self.service.pods() if pod.name == name]
        if not found:  # it may still come: then it is a pod of this cluster, which the next list shows
            raise UnavailableError(str(error)) from error
        for spare in found[1:]:
            self.service.delete_pod(spare.id)
        return found[0]

    def _drop(self, name: str) -> None:
        """Of a creation that was cut off: nothing of it stays."""
        for pod in self.service.pods():
            if pod.name == name:
                self.service.delete_pod(pod.id)
        self.journal.note(none=name)

    def _body(self, asked: Machine, offer: Offer, node_type: str, env: Mapping[str, str]) -> Json:
        body: Json = {
            "name": f"{self.cluster}-{node_type}-{secrets.token_hex(4)}",
            "image": asked.image,
            "cloud": asked.cloud,
            "disk": asked.disk,
            "ports": list(PORTS),
            "env": {**asked.env, **env, CLUSTER: self.cluster},
        }
        if offer.gpu:
            body |= {"gpu": {"id": offer.gpu, "count": asked.gpus}, "globalNetworking": True}
        else:
            body["cpu"] = {"id": asked.cpu, "vcpuCount": asked.vcpus}
        centers = list(asked.data_centers)
        if asked.volume:
            volume, center = self._volume(asked)
            body["mounts"] = {"network": [{"volumeId": volume, "path": asked.mount}]}
            centers = [center]
        if centers:
            body["dataCenterIds"] = centers
        return body

    def _volume(self, asked: Machine) -> tuple[str, str]:
        """Its id, and the data centre that it binds to."""
        known = self.service.volumes()
        for each in known:
            if asked.volume in (each["id"], each["name"]):
                center = str(each["dataCenter"])
                if asked.data_centers and center not in asked.data_centers:
                    raise ConfigError(f"volume {asked.volume} lies in {center}, not in {asked.data_centers}")
                return str(each["id"]), center
        raise ConfigError(f"no network volume {asked.volume!r}; there are {[each['name'] for each in known]}")

    def instant(self) -> list[str]:
        """Ids of Instant Clusters of this name that recray made: their pods say so, or there are none yet."""
        named = [str(each["id"]) for each in self.service.clusters() if each["name"] == self.cluster]
        members = {each: self.service.members(each) for each in named}
        return [each for each, pods in members.items() if all(mine(pod, self.cluster) for pod in pods)]

    def end(self, pod_ids: Iterable[str]) -> None:
        """Deletes them, and goes on after one that cannot be.

        Raises:
            ConfigError: one is locked, or the key may not.
            UnavailableError: the service does not answer.
        """
        wrong: list[ConfigError] = []
        for pod_id in pod_ids:
            try:
                self.service.delete_pod(pod_id)
                self.journal.note(gone=pod_id, at=self.service.clock())
            except ConfigError as error:
                wrong.append(error)
        with self._lock:
            self._listed = (-1e9, [])
        if wrong:
            raise wrong[0]

    def end_all(self, say: Callable[[str], None] = log.info) -> None:
        """The head first, which makes others; then all, until two looks in turn find none.

        Raises:
            ConfigError: a pod cannot be deleted; all others are.
            UnavailableError: as ``end``.
        """
        empty = 0
        while empty < 2:
            pods = sorted(self.all(fresh=True), key=lambda pod: not leads(pod.env, pod.rank))
            clusters = self.instant()
            if pods or clusters:
                say(f"{self.cluster}: ending {', '.join([*clusters, *(pod.name for pod in pods)])}")
            for each in clusters:
                self.service.delete_cluster(each)
            self.end([pod.id for pod in pods if not pod.cluster])
            empty = 0 if pods or clusters else empty + 1
            if empty < 2:
                self.service.sleep(SETTLE_S)


def mine(pod: Pod, cluster: str) -> bool:
    return pod.env.get(CLUSTER) == cluster and pod.status != "TERMINATED"


def alive(pods: Sequence[Pod]) -> list[Pod]:
    return [pod for pod in pods if pod.status not in GONE]


def head_of(pods: Sequence[Pod]) -> Pod | None:
    return next((pod for pod in alive(pods) if leads(pod.env, pod.rank)), None)


def leads(env: Mapping[str, str], rank: int) -> bool:
    """Whether a pod holds its cluster's head: of an Instant Cluster, the one of rank 0."""
    return env.get(KIND) == "head" or (env.get(KIND) == "member" and rank == 0)


def tags_of(pod: Pod) -> dict[str, str]:
    """Ray's tags that a pod was made with."""
    try:
        return cast(dict[str, str], json.loads(pod.env.get(TAGS, "{}")))
    except ValueError:
        return {}
