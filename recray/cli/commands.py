"""Commands that print a table, of what is here, what is published, and what a name points at."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from recray.cli.cluster import Cluster
from recray.cli.events import Events
from recray.cli.lineage import Trace
from recray.cli.listing import Listing
from recray.cli.traffic import AB, Canary, Interleave, Pause, Refuse, Resume, Shadow, Stop, Traffic


@dataclass(frozen=True)
class Doctor:
    """Versions, optional backends and why they are (not) usable, machine, GPU, Ray, disk."""

    cluster: bool = False
    """Instead, the nodes of the Ray cluster: storage, network, room, code, and the seconds that each took."""
    workers: int = 1
    """Of --cluster: how many are to find room."""
    cpus_per_worker: int = 1
    """Of --cluster: cores for each."""
    gpu: bool = False
    """Of --cluster: a GPU for each."""
    memory_gib: float = 0.0
    """Of --cluster: memory for each."""
    accelerator: str = ""
    """Of --cluster: the kind of GPU, as Ray names it."""
    labels: tuple[str, ...] = ()
    """Of --cluster: that their nodes have, as in zone=a."""
    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> Listing:
        from recray.cli.doctor import examine, examine_cluster

        if self.cluster:
            from recray.train.context import LaunchConfig  # PyTorch takes seconds to import

            launch = LaunchConfig(
                workers=self.workers,
                cpus_per_worker=self.cpus_per_worker,
                gpu=self.gpu,
                memory_gib=self.memory_gib,
                accelerator=self.accelerator,
                labels=self.labels,
            )
            found = examine_cluster(launch)
            wrong = sum(row["status"] == "missing" for row in found)
            error = f"{wrong} things stop a run on this cluster" if wrong else ""
            return Listing("recray doctor --cluster", found, error=error)
        return Listing("recray doctor", [finding._asdict() for finding in examine()])


@dataclass(frozen=True)
class Datasets:
    """Data sets that can be prepared by name, and whether they are."""

    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> Listing:
        from recray.cli.catalogue import datasets

        return Listing("data sets", datasets())


@dataclass(frozen=True)
class Models:
    """Models, and the presets that each can be trained with."""

    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> Listing:
        from recray.cli.catalogue import models

        return Listing("models", models())


@dataclass(frozen=True)
class Runs:
    """Trainings: how far each came and how it ended; or all that is known of one."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """A run's name; empty lists all of them."""
    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> Listing:
        from recray.cli.runs import COLUMNS, run, runs

        return Listing(self.name, run(self.name)) if self.name else Listing("runs", runs(), COLUMNS)


@dataclass(frozen=True)
class Versions:
    """Published versions, by how they were measured; or all that one version says of itself."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """A bundle's name; empty lists all of them."""
    version: Annotated[str, tyro.conf.Positional] = ""
    """A number, a name such as production, or latest: card, metrics, settings, and what made it."""
    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> Listing:
        from recray.cli.catalogue import VERSION_COLUMNS, version, versions

        if self.version:
            return Listing(f"{self.name} {self.version}", version(self.name, self.version))
        title = f"versions of {self.name}" if self.name else "versions"
        return Listing(title, versions(self.name), VERSION_COLUMNS, "protocol")


@dataclass(frozen=True)
class Prune:
    """Delete versions that are not named, tried, rolled back to, or worked with. It asks for --yes."""

    name: tyro.conf.Positional[str]
    """The bundle's name, as `recray versions` lists it."""
    keep: int = 3
    """The newest ones that stay in any case."""
    yes: bool = False
    """It is meant; without, what would go is listed."""
    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> Listing:
        from recray.store.pruning import prune, unneeded
        from recray.store.store import Store

        store = Store()
        found = (prune if self.yes else unneeded)(store, self.name, self.keep)
        rows = [
            {
                "version": str(one.reference),
                "of": one.created_at[:10],
                "MiB": round(sum(file.size_bytes for file in one.files.values()) / 2**20, 1),
            }
            for one in found
        ]
        return Listing("deleted" if self.yes else f"{self.name}: --yes would delete", rows)


@dataclass(frozen=True)
class Clean:
    """Delete what is left of runs that ended: checkpoints, curves, settings. It asks for --yes."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Runs; none: all that ended so long ago."""
    older: str = "30d"
    """Since when nothing was heard of them: 12h, 30d."""
    yes: bool = False
    """It is meant; without, what would go is listed."""
    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> Listing:
        from recray.cli.runs import clean
        from recray.eval.ages import seconds

        rows = clean(self.names, seconds(self.older), really=self.yes)
        return Listing("deleted" if self.yes else "--yes would delete", rows)


@dataclass(frozen=True)
class Promote:
    """Point a name at a version; running applications follow within a second or two."""

    name: tyro.conf.Positional[str]
    """The bundle's name, as `recray versions` lists it."""
    version: tyro.conf.Positional[int]
    """The version's number."""
    to: str = "production"
    """The name to move: production, candidate or shadow."""
    why: str = ""
    """It stands in the journal, as does who did it."""
    force: bool = False
    """Also where it was measured to make lists worse once its newest event is old, or was rolled back."""
    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> Listing:
        from recray.bundles.promotion import promote
        from recray.store.store import Store

        store = Store()
        promote(store, self.name, self.version, self.to, force=self.force, why=self.why)
        return Listing("promoted", [{"name": self.name, **store.names(self.name)}])


@dataclass(frozen=True)
class Gate:
    """What a version reached is not to be lost: `promote` refuses less. Without a metric: what is asked."""

    name: tyro.conf.Positional[str]
    """The bundle's name, as `recray versions` lists it."""
    metric: Annotated[str, tyro.conf.Positional] = ""
    """Such as ndcg@10."""
    tolerance: float = 0.02
    """Share of it that may be lost."""
    version: str = "production"
    """That reached it: a number, a name, or latest."""
    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> Listing:
        from recray.bundles.gate import gate_of, set_gate
        from recray.store.store import Store

        store = Store()
        if self.metric:
            set_gate(store, self.name, self.metric, self.tolerance, self.version)
        gate = gate_of(store, self.name)
        rows = [{"metric": gate.metric, "value": gate.value, "tolerance": gate.tolerance}] if gate else []
        return Listing(f"gate of {self.name}", rows)


@dataclass(frozen=True)
class Rollback:
    """Point a name back at the version before."""

    name: tyro.conf.Positional[str]
    """The bundle's name, as `recray versions` lists it."""
    of: str = "production"
    """The name to move back: production, candidate or shadow."""
    why: str = ""
    """It stands in the journal, as does who did it."""
    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> Listing:
        from recray.store.store import Store

        store = Store()
        store.rollback(self.name, self.of, why=self.why)
        return Listing("rolled back", [{"name": self.name, **store.names(self.name)}])


@dataclass(frozen=True)
class Codes:
    """Semantic ids: the codes of an item, or the items of codes."""

    name: tyro.conf.Positional[str]
    """The map's name, such as amazon-beauty-semantic-ids."""
    what: tyro.conf.Positional[str]
    """An item's raw id, or codes joined by '-' (the first of them lists all items that share them)."""
    version: str = "latest"
    """A number, a name such as production, or latest."""
    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> Listing:
        from recray.cli.semantic_ids import codes

        return Listing(f"semantic ids of {self.what}", codes(self.name, self.what, self.version))


@dataclass(frozen=True)
class Push:
    """Copy a published version to a repository of the HuggingFace Hub."""

    name: tyro.conf.Positional[str]
    """The bundle's name, as `recray versions` lists it."""
    repo: tyro.conf.Positional[str]
    """owner/name; it is made where there is none."""
    version: str = "latest"
    """A number, a name such as production, or latest."""
    public: bool = False
    """A repository that this makes is visible to everyone."""
    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> Listing:
        from recray.store.hub import push_bundle
        from recray.store.store import Store

        bundle = Store().open(self.name, self.version)
        return Listing(
            "pushed",
            [
                {
                    "bundle": str(bundle.reference),
                    "to": push_bundle(bundle, self.repo, private=not self.public),
                }
            ],
        )


@dataclass(frozen=True)
class Pull:
    """Install the bundle of a HuggingFace Hub repository under its own name and number."""

    repo: tyro.conf.Positional[str]
    """owner/name."""
    revision: str | None = None
    """Branch, tag or commit; absent: the head."""
    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> Listing:
        from recray.store.hub import pull_bundle

        return Listing("pulled", [{"bundle": str(pull_bundle(self.repo, revision=self.revision).reference)}])


GROUPS: dict[str, tuple[type, ...]] = {
    "what is here": (Doctor, Datasets, Models, Runs, Clean, Versions, Prune, Codes),
    "what is in production": (Promote, Rollback, Gate, Push, Pull),
    "machines": (Cluster,),
    "live traffic": (Traffic, Canary, AB, Interleave, Shadow, Pause, Resume, Stop, Refuse, Events, Trace),
}
"""Heading of the help -> its commands."""

Command = (
    Doctor
    | Datasets
    | Models
    | Runs
    | Clean
    | Versions
    | Prune
    | Promote
    | Gate
    | Rollback
    | Trace
    | Traffic
    | Canary
    | AB
    | Interleave
    | Shadow
    | Pause
    | Resume
    | Stop
    | Refuse
    | Events
    | Cluster
    | Codes
    | Push
    | Pull
)
