"""A cluster as a whole, from anywhere: up, what it is and has cost, down, and what nobody ends any more."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from click import ClickException

from recray.cluster.api import GONE, UNTIL, Pod, RunPod
from recray.cluster.defaults import private_key
from recray.cluster.journal import Journal, parsed
from recray.cluster.plan import Estimate, estimate, limits, machine, require_name
from recray.cluster.pods import CLUSTER, KIND, Pods, head_of
from recray.cluster.ssh import Shell
from recray.cluster.telling import tell
from recray.config import ConfigError, UnavailableError

log = logging.getLogger(__name__)
Say = Callable[[str], None]
FAR_JOURNAL = "$HOME/.recray/clusters"  # on the head, whose volume outlives it
KEYS = ("cluster_name", "provider", "available_node_types", "head_node_type")


class Row(NamedTuple):
    """One pod, alive or gone."""

    pod: str
    status: str
    gpu: str
    dollars_per_hour: float
    hours: float
    dollars: float


def named(path: Path) -> dict[str, Any]:
    """A cluster.yaml that says a name, whatever else it says: enough to end the cluster.

    Raises:
        ConfigError: there is none, it is no YAML, or says no cluster_name.
    """
    try:
        config = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"no file {path}: a checkout has a cluster.yaml to begin with") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(config, dict) or "cluster_name" not in config:
        raise ConfigError(f"{path} says no cluster_name")
    return config


def read(path: Path) -> dict[str, Any]:
    """A whole cluster.yaml.

    Raises:
        ConfigError: it lacks what every cluster says, or says what cannot be.
    """
    config = named(path)
    if missing := [key for key in KEYS if key not in config]:
        raise ConfigError(f"{path} says no {missing[0]}")
    for key in ("provider", "available_node_types"):
        if not isinstance(config[key], dict):
            raise ConfigError(f"{path}: {key} is a mapping, got {config[key]!r}")
    _require_numbers(path, "cluster", config)
    if not isinstance(config.get("auth") or {}, dict):
        raise ConfigError(f"{path}: auth is a mapping, got {config['auth']!r}")
    secrets = config["provider"].get("secrets") or []
    if not isinstance(secrets, list) or not all(isinstance(name, str) for name in secrets):
        raise ConfigError(f"{path}: provider.secrets is a list of names, got {secrets!r}")
    for name, kind in config["available_node_types"].items():
        _require_numbers(path, name, kind if isinstance(kind, dict) else {})
        if not isinstance(kind, dict) or not isinstance(kind.get("node_config"), dict):
            raise ConfigError(f"{path}: available_node_types.{name} says no node_config")
        machine(kind["node_config"])
    limits(config["provider"])
    if str(config["head_node_type"]) not in config["available_node_types"]:
        raise ConfigError(f"{path}: head_node_type {config['head_node_type']!r} is no available_node_type")
    require_name(str(config["cluster_name"]))
    return config


def _require_numbers(path: Path, what: str, values: Mapping[str, Any]) -> None:
    for key in ("min_workers", "max_workers"):
        if not isinstance(values.get(key, 0), int) or values.get(key, 0) < 0:
            raise ConfigError(f"{path}: {key} of {what} is a number from 0 on, got {values[key]!r}")
    if values.get("min_workers", 0) > values.get("max_workers", values.get("min_workers", 0)):
        raise ConfigError(f"{path}: min_workers of {what} is above its max_workers")


def price(config: Mapping[str, Any], service: RunPod) -> Estimate:
    return estimate(config, service.gpus())


def up(config: dict[str, Any]) -> None:
    """What `ray up` does; a cluster that is there is brought up to date.

    Raises:
        UnavailableError: the head cannot be made or set up; what was made is still there.
    """
    from ray.autoscaler.sdk import create_or_update_cluster

    try:
        create_or_update_cluster(config, no_config_cache=True)
    except ClickException as error:
        raise ConfigError(error.message) from error
    except SystemExit as error:
        raise UnavailableError(
            f"{config['cluster_name']} is not up: Ray's lines above say why. `recray cluster down` ends what "
            "there is of it; by itself it ends at its time to live"
        ) from error


def status(cluster: str, service: RunPod, key: str) -> list[Row]:
    """Every pod that the cluster has had, with what it has cost until now."""
    pods = Pods(service, cluster)
    there = {pod.id: pod for pod in pods.all(fresh=True)}
    try:
        fetch(pods, key)
    except (ConfigError, OSError, ValueError) as error:
        log.warning("what gone workers have cost is not known: %s", error)
    now = service.clock()
    rows = []
    for pod_id, span in pods.journal.observe(there.values(), now).spans.items():
        pod = there.get(pod_id)
        state = pod.status if pod else "gone"
        rows.append(
            Row(
                span.name,
                state,
                pod.gpu if pod else "",
                span.dollars_per_hour,
                round(((span.gone or now) - span.created) / 3600, 3),
                round(span.dollars(now), 4),
            )
        )
    return rows


def fetch(pods: Pods, key: str) -> None:
    """Takes over what the head has noted: only there the workers' ends are known."""
    head = head_of(pods.all())
    if head is None or head.ssh is None or not key:
        return
    said = Shell(*head.ssh, key).run(f'cat "{FAR_JOURNAL}/{pods.cluster}"/journal.jsonl', timeout_s=60)
    if said.returncode == 0:
        pods.journal.take(parsed(said.stdout))


def require_known(cluster: str, service: RunPod) -> None:
    """
    Raises:
        ConfigError: nothing was ever heard of it: a name that is misspelt is not down.
    """
    pods = Pods(service, cluster)
    if not pods.all() and not pods.journal.path.exists() and not pods.instant():
        others = {pod.env[CLUSTER] for pod in service.pods() if pod.env.get(CLUSTER)}
        raise ConfigError(f"there is no cluster {cluster}; there are: {', '.join(sorted(others)) or 'none'}")


def down(cluster: str, service: RunPod, key: str, say: Say) -> float:
    """Ends every pod; returns what the cluster has cost, in dollars.

    Raises:
        ConfigError: a pod cannot be deleted; all others are.
    """
    pods = Pods(service, cluster)
    there = bool(pods.all(fresh=True))
    if there:
        try:
            fetch(pods, key)
        except (ConfigError, OSError, ValueError) as error:
            say(f"the head does not tell what gone workers have cost: {error}")
    pods.end_all(say)
    spent = pods.journal.state().dollars(service.clock())
    if there:
        tell(f"{cluster}: down", f"{spent:.2f} $ spent")
    return spent


def reap(service: RunPod, *, everything: bool, say: Say) -> list[str]:
    """Ends pods of recray's clusters that are over their time, stand still, or have lost their head.

    Args:
        everything: all of them, whatever their state.

    Returns the names of the clusters that lost pods.

    Raises:
        ConfigError: a pod cannot be deleted; all others are.
    """
    found: dict[str, list[Pod]] = {}
    for pod in service.pods():
        if pod.env.get(CLUSTER) and pod.status != "TERMINATED":
            found.setdefault(pod.env[CLUSTER], []).append(pod)
    reaped, wrong = list[str](), list[ConfigError]()
    for cluster, its in sorted(found.items()):
        why = "as asked" if everything else _over(its, service.clock())
        still = [pod.id for pod in its if pod.status in GONE]
        try:
            if why:
                say(f"{cluster}: {why}")
                Pods(service, cluster).end_all(say)
            elif still:
                Pods(service, cluster).end(still)
        except ConfigError as error:  # the others are not kept waiting
            wrong.append(error)
        if why or still:
            reaped.append(cluster)
    if wrong:
        raise wrong[0]
    return reaped


def _over(pods: Sequence[Pod], now: float) -> str:
    """Why a cluster should be no more; empty: it may be in use."""
    until = [float(pod.env[UNTIL]) for pod in pods if pod.env.get(UNTIL, "").isdecimal()]
    if until and now > min(until):
        return "its time is over"
    if head_of(pods) is None and not any(pod.env.get(KIND) == "member" for pod in pods):
        return "its head is gone"
    return ""


def shell(cluster: str, service: RunPod, key: str) -> Shell:
    """The head's.

    Raises:
        ConfigError: there is no key.
        UnavailableError: there is no head that can be reached.
    """
    head = head_of(Pods(service, cluster).all())
    if head is None or head.ssh is None:
        raise UnavailableError(f"{cluster} has no head that can be reached: `recray cluster up`")
    return Shell(*head.ssh, key or str(private_key()))


def key_of(config: Mapping[str, Any]) -> str:
    """The file of the SSH key; empty: there is none, which pods can be listed and ended without."""
    auth = config.get("auth")
    with suppress(ConfigError):
        return str((auth.get("ssh_private_key") if isinstance(auth, dict) else "") or private_key())
    return ""


def known() -> list[str]:
    """Clusters that this machine has a journal of."""
    folder = Journal("x").path.parent.parent
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
