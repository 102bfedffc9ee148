"""Ray's node provider for RunPod: cluster.yaml names it as ``provider.module``.

On a laptop it makes and ends the head; on the head Ray's autoscaler makes and ends workers through it. A
worker starts Ray by itself once the head's ``guard`` has handed it the token.
"""

import json
import logging
import subprocess
import time
from typing import Any

from click import ClickException
from ray.autoscaler._private.cli_logger import cli_logger
from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import NODE_KIND_HEAD, TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

from recray.cluster.api import GONE, UNTIL, Pod, RunPod
from recray.cluster.defaults import completed, keyed, secrets_of
from recray.cluster.journal import forget
from recray.cluster.node import PORT
from recray.cluster.plan import Machine, estimate, limits, machine, require_name
from recray.cluster.pods import HEAD, KIND, SETTLE_S, TAGS, Pods, head_of, tags_of
from recray.cluster.ssh import PodRunner, exports
from recray.config import ConfigError

log = logging.getLogger(__name__)


class RunPodNodeProvider(NodeProvider):  # type: ignore[misc]
    def __init__(self, provider_config: dict[str, Any], cluster_name: str, pods: Pods | None = None) -> None:
        super().__init__(provider_config, cluster_name)
        require_name(cluster_name)
        self.limits = limits(provider_config)
        self.pods = pods or Pods(RunPod(), cluster_name)

    # What Ray asks about nodes is answered by the last list of pods.

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        pods = self.pods.all()
        if lost := [pod for pod in pods if pod.status in GONE]:
            for pod in lost:
                log.warning("pod %s is %s: it is deleted", pod.name, pod.status)
            self.pods.end([pod.id for pod in lost])
        there = [pod for pod in pods if pod.status not in GONE]
        return [pod.id for pod in there if tag_filters.items() <= self._tags(pod).items()]

    def nodes_for_teardown(self, tag_filters: dict[str, str]) -> list[str]:
        """With what shows a moment later: a head that is ended may have asked for a pod just before."""
        if found := self.non_terminated_nodes(tag_filters):
            return found
        self.pods.service.sleep(SETTLE_S)
        return self.non_terminated_nodes(tag_filters)

    def is_running(self, node_id: str) -> bool:
        pod = self._pod(node_id)
        return pod is not None and pod.status == "RUNNING"

    def is_terminated(self, node_id: str) -> bool:
        pod = self._pod(node_id)
        return pod is None or pod.status in GONE

    def node_tags(self, node_id: str) -> dict[str, str]:
        pod = self._pod(node_id)
        return self._tags(pod) if pod else {}

    def external_ip(self, node_id: str) -> str | None:
        """None until its sshd can be reached: Ray waits for it."""
        pod = self._pod(node_id)
        return pod.ssh[0] if pod and pod.ssh else None

    def internal_ip(self, node_id: str) -> str | None:
        pod = self._pod(node_id)
        return (pod.address or None) if pod else None

    def ssh_port(self, node_id: str) -> int:
        pod = self._pod(node_id)
        return pod.ssh[1] if pod and pod.ssh else 22

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        self.pods.journal.note(pod=node_id, tags=tags)

    # Making and ending.

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        return self.create_node_with_resources_and_labels(node_config, tags, count, {}, {})

    def create_node_with_resources_and_labels(
        self,
        node_config: dict[str, Any],
        tags: dict[str, str],
        count: int,
        resources: dict[str, float],
        labels: dict[str, str],
    ) -> dict[str, Any]:
        try:
            return self._create(machine(node_config), tags, count, resources, labels)
        except ConfigError as error:
            if tags[TAG_RAY_NODE_KIND] != NODE_KIND_HEAD:
                raise
            raise ClickException(str(error)) from error  # `ray up` says it in one line

    def _create(
        self,
        asked: Machine,
        tags: dict[str, str],
        count: int,
        resources: dict[str, float],
        labels: dict[str, str],
    ) -> dict[str, Any]:
        env = {
            TAGS: json.dumps(tags),
            KIND: tags[TAG_RAY_NODE_KIND],
            "PUBLIC_KEY": str(self.provider_config["public_key"]),
            "RAY_AUTH_MODE": "token",
            "RAY_NODE_TYPE_NAME": tags.get(TAG_RAY_USER_NODE_TYPE, ""),
        }
        if env[KIND] == NODE_KIND_HEAD:
            exports(secrets_of(self.provider_config))  # what is missing is said before anything is made
            if not self.pods.all(fresh=True):
                forget(self.cluster_name)  # another life, with money of its own
            env[UNTIL] = str(int(time.time() + self.limits.hours * 3600))
        else:
            env |= self._beside_the_head(resources, labels)
        made: dict[str, Any] = {}
        for _ in range(count):
            pod = self.pods.make(asked, self.limits, env["RAY_NODE_TYPE_NAME"], env, _say)
            made[pod.id] = {"name": pod.name}
        return made

    def _beside_the_head(self, resources: dict[str, float], labels: dict[str, str]) -> dict[str, str]:
        head = head_of(self.pods.all())
        if head is None or not head.address:
            raise ConfigError(f"{self.cluster_name} has no head in a private network to join")
        return {
            HEAD: f"{head.address}:{PORT}",
            UNTIL: head.env.get(UNTIL, ""),
            "RAY_OVERRIDE_RESOURCES": json.dumps(resources),
            "RAY_OVERRIDE_LABELS": json.dumps(labels),
        }

    def terminate_node(self, node_id: str) -> None:
        self.pods.end([node_id])

    def terminate_nodes(self, node_ids: list[str]) -> None:
        self.pods.end(node_ids)

    # What Ray's launcher asks before and between.

    @staticmethod
    def fillout_available_node_types_resources(cluster_config: dict[str, Any]) -> dict[str, Any]:
        return completed(cluster_config)

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        try:
            require_name(cluster_config["cluster_name"])
            config = keyed(completed(cluster_config))
            limits(config["provider"])
        except ConfigError as error:
            raise ClickException(str(error)) from error
        try:
            _say(f"{config['cluster_name']}: {estimate(config, RunPod().gpus()).words()}")
        except ConfigError as error:  # `ray down` must go on whatever the prices are
            cli_logger.warning("{}", str(error))
        return config

    def get_command_runner(
        self,
        log_prefix: str,
        node_id: str,
        auth_config: dict[str, Any],
        cluster_name: str,
        process_runner: Any = subprocess,
        use_internal_ip: bool = False,
        docker_config: dict[str, Any] | None = None,
    ) -> PodRunner:
        return PodRunner(
            lambda: 22 if use_internal_ip else self.ssh_port(node_id),
            secrets_of(self.provider_config),
            log_prefix=log_prefix,
            node_id=node_id,
            provider=self,
            auth_config=auth_config,
            cluster_name=cluster_name,
            process_runner=process_runner,
            use_internal_ip=use_internal_ip,
        )

    def _pod(self, node_id: str) -> Pod | None:
        return next((pod for pod in self.pods.all() if pod.id == node_id), None)

    def _tags(self, pod: Pod) -> dict[str, str]:
        return tags_of(pod) | self.pods.journal.state().tags.get(pod.id, {})


def _say(text: str) -> None:
    cli_logger.print("{}", text)
    log.info(text)
