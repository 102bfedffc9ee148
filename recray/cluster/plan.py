"""What a cluster may be and what it costs: the node types of cluster.yaml, its limits, the live catalogue."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, cast

from recray.cluster.api import Json
from recray.config import ConfigError, UnavailableError, from_dict
from recray.redaction import is_secret_name

NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
REFERENCE = re.compile(r"\{\{ *RUNPOD_SECRET_\w+ *\}\}")  # to a secret that RunPod keeps
LEAST_HOURS = 0.1  # a pod is not made for the last minutes that the money pays
IMAGE = "recray/recray:latest"


@dataclass(frozen=True)
class Machine:
    """``node_config`` of a node type in cluster.yaml: one pod."""

    gpu: tuple[str, ...] = ()
    """Types as the catalogue names them, the best first: the first that is to be had is taken."""
    gpus: int = 1
    """Of each pod."""
    cpu: str = ""
    """A flavour such as cpu5c in the place of a GPU, for a cluster of one: only GPU pods share a network."""
    vcpus: int = 4
    """Of a CPU pod."""
    image: str = IMAGE
    """recray/cluster/image holds the recipe; a public registry's."""
    cloud: Literal["SECURE", "COMMUNITY"] = "SECURE"
    data_centers: tuple[str, ...] = ()
    """Where; empty: anywhere. A volume says it by itself."""
    disk: int = 50
    """GB of the container, lost with it."""
    volume: str = ""
    """Name or id of a network volume, mounted at ``mount`` on every node that names it."""
    mount: str = "/workspace"
    max_dollars_per_hour: float = 0.0
    """Of one pod; dearer offers are passed over. 0: no limit but the ceiling."""
    env: dict[str, str] = field(default_factory=dict)
    """Variables of the container, which the provider keeps and shows: none that is secret."""

    def __post_init__(self) -> None:
        if bool(self.gpu) == bool(self.cpu):
            raise ConfigError("node_config names either gpu (a list of types, the best first) or cpu")
        if self.gpus < 1 or self.vcpus < 2 or self.disk < 1:
            raise ConfigError("node_config: gpus is at least 1, vcpus 2, disk 1 GB")
        for name, value in self.env.items():
            if is_secret_name(name) and not REFERENCE.fullmatch(value):
                raise ConfigError(
                    f"node_config.env holds {name}, which RunPod's console shows: name it in "
                    "provider.secrets, and it goes from this environment to the head by SSH"
                )


@dataclass(frozen=True)
class Limits:
    """Where a cluster ends, whoever is watching."""

    dollars: float
    """All that its pods may cost."""
    hours: float
    """From the head's start to its end."""

    def __post_init__(self) -> None:
        if not (0 < self.dollars < math.inf and 0 < self.hours < math.inf):
            raise ConfigError(
                f"a cluster's limits are above 0, got {self.dollars} dollars, {self.hours} hours"
            )


class Offer(NamedTuple):
    """One machine that can be asked for."""

    gpu: str
    """Empty: a CPU pod."""
    dollars_per_hour: float
    """Of the whole pod, by the list; 0 where no list tells."""
    stock: str = ""


def machine(node_config: Mapping[str, object]) -> Machine:
    """
    Raises:
        ConfigError: an unknown key, or a value that cannot be.
    """
    return from_dict(Machine, {k: v for k, v in node_config.items() if k != "resources"})


def limits(provider: Mapping[str, object]) -> Limits:
    """Of cluster.yaml's ``provider``.

    Raises:
        ConfigError: one is missing or not a number above 0.
    """
    asked = cast(Mapping[str, object], provider.get("limits") or {})
    if not isinstance(asked, Mapping):
        raise ConfigError(f"provider.limits is a mapping, as {{dollars: 20, hours: 8}}; got {asked!r}")
    if missing := [name for name in ("dollars", "hours") if name not in asked]:
        raise ConfigError(
            f"cluster.yaml says no provider.limits.{missing[0]}: without it a forgotten cluster has no end; "
            "such as limits: {dollars: 20, hours: 8}"
        )
    return from_dict(Limits, asked)


def require_name(cluster: str) -> None:
    if not NAME.fullmatch(cluster):
        raise ConfigError(
            f"a cluster's name has up to 40 of a-z, 0-9 and -, and begins with a letter; got {cluster!r}"
        )


def offers(asked: Machine, catalogue: Sequence[Json], left: float) -> list[Offer]:
    """What may be asked for, in this order: as the machine wishes, what is said to be sold out last.

    Args:
        left: dollars that may still be spent.

    Raises:
        ConfigError: no such type, or none within the limits.
        UnavailableError: the money is spent.
    """
    if left <= 0:
        raise UnavailableError("nothing is left of provider.limits.dollars")
    if asked.cpu:  # no list says what it costs: the pod does
        return [Offer("", 0.0)]
    known = {str(each["id"]): each for each in catalogue}
    if unknown := [gpu for gpu in asked.gpu if gpu not in known]:
        near = [name for name in known if unknown[0].split()[-1].lower() in name.lower()]
        raise ConfigError(f"RunPod has no GPU {unknown[0]!r}; it has {', '.join(near or sorted(known)[:12])}")
    found = [_offer(asked, known[gpu]) for gpu in asked.gpu]
    most = asked.max_dollars_per_hour or float("inf")
    if not (right := [each for each in found if each.dollars_per_hour <= most]):
        raise ConfigError(f"no pod within {most:.2f} dollars an hour: {_priced(found)}")
    if not (paid := [each for each in right if each.dollars_per_hour * LEAST_HOURS <= left]):
        raise UnavailableError(
            f"{max(left, 0):.2f} dollars are left of provider.limits.dollars, which pays no "
            f"{LEAST_HOURS * 60:.0f} minutes of {_priced(right)}"
        )
    return sorted(paid, key=lambda each: each.stock == "NONE")


def _offer(asked: Machine, listed: Json) -> Offer:
    cloud = asked.cloud.lower()
    most = cast(Mapping[str, int], listed["maxCount"])[cloud]
    if asked.gpus > most:
        raise ConfigError(
            f"one pod has at most {most} of {listed['id']} ({asked.cloud}), asked are {asked.gpus}"
        )
    price = cast(Mapping[str, float], listed["price"])[cloud]
    return Offer(str(listed["id"]), price * asked.gpus, str(listed.get("availability", "")))


def _priced(found: Iterable[Offer]) -> str:
    return ", ".join(f"{each.gpu} {each.dollars_per_hour:.2f} $/h" for each in found)


class Estimate(NamedTuple):
    """Before anything is made."""

    least_per_hour: float
    """With the nodes that are always there."""
    most_per_hour: float
    """With all that may be asked for."""
    hours: float
    ceiling: float

    @property
    def most(self) -> float:
        return min(self.ceiling, self.most_per_hour * self.hours)

    def words(self) -> str:
        return (
            f"{self.least_per_hour:.2f} $/h, at most {self.most_per_hour:.2f}; it ends after {self.hours:g} "
            f"h or {self.ceiling:.2f} $, so it costs at most {self.most:.2f} $"
        )


def estimate(config: Mapping[str, object], catalogue: Sequence[Json]) -> Estimate:
    """What a whole cluster.yaml costs by the list: the dearest of each type's choices, as any may be taken.

    Raises:
        ConfigError: as ``offers``.
        UnavailableError: as ``offers``.
    """
    bounds = limits(cast(Mapping[str, object], config["provider"]))
    types = cast(Mapping[str, Json], config["available_node_types"])
    head, room = str(config["head_node_type"]), int(cast(int, config.get("max_workers", 0)))
    least = most = 0.0
    for name, kind in types.items():
        asked = machine(cast(Json, kind["node_config"]))
        price = max(each.dollars_per_hour for each in offers(asked, catalogue, bounds.dollars))
        always = 1 if name == head else int(cast(int, kind.get("min_workers", 0)))
        up_to = 1 if name == head else min(room, int(cast(int, kind.get("max_workers", room))))
        if asked.cpu and (room or len(types) > 1):
            raise ConfigError(
                "a head of CPUs shares no network with workers: give it a GPU, or max_workers: 0"
            )
        least, most = least + always * price, most + up_to * price
    return Estimate(least, most, bounds.hours, bounds.dollars)
