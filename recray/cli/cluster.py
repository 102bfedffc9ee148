"""``recray cluster``: GPUs of RunPod as a Ray cluster, from its start to no dollar an hour."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from recray.cli.listing import Listing
from recray.config import ConfigError, UnavailableError

if TYPE_CHECKING:
    from recray.cluster.api import RunPod

FILE = Path("cluster.yaml")
Json = Annotated[bool, tyro.conf.arg(help="Print JSON instead of a table.")]


@dataclass(frozen=True)
class _OfOne:
    """What names one cluster."""

    file: Path = FILE
    """The cluster's file."""
    name: str = ""
    """Its name, in the place of a file."""
    json: Json = False


@dataclass(frozen=True)
class Up:
    """Make the cluster, or bring it up to date: `ray up`, with its price before and its limits held."""

    file: Path = FILE
    """The cluster's file."""
    yes: bool = False
    """Do not ask."""
    instant: bool = False
    """An Instant Cluster instead of pods: machines of one kind with a fast network, no autoscaler."""
    name: str = ""
    """Of --instant: its name."""
    gpu: str = ""
    """Of --instant: a type as the catalogue names it."""
    gpus: int = 8
    """Of --instant: on each node."""
    nodes: int = 2
    """Of --instant: how many."""
    dollars: float = 0.0
    """Of --instant: all that it may cost."""
    hours: float = 0.0
    """Of --instant: until it ends by itself."""
    image: str = ""
    """Of --instant: what its pods start from."""
    volume: str = ""
    """Of --instant: id of a network volume."""
    json: Json = False

    def __call__(self) -> Listing:
        from recray.cluster import clusters
        from recray.cluster.api import RunPod

        if self.instant:
            return self._instant(RunPod())
        if replace(self, file=FILE, yes=False, json=False) != Up():
            raise ConfigError(f"{self.file} says all of the cluster: options beside --file are for --instant")
        clusters.up(_priced(self.file, RunPod(), self.yes))
        return Status(file=self.file)()

    def _instant(self, service: "RunPod") -> Listing:
        from recray.cluster import instant
        from recray.cluster.plan import IMAGE, Limits

        asked = instant.Instant(
            self.name,
            self.gpu,
            Limits(self.dollars, self.hours),
            gpus=self.gpus,
            nodes=self.nodes,
            image=self.image or IMAGE,
            volume=self.volume,
        )
        price = instant.dollars_per_hour(asked, service)
        most = min(self.dollars, price * self.hours)
        _confirm(f"{self.name}: {price:.2f} $/h; it costs at most {most:.2f} $", self.yes)
        shell = instant.up(asked, service, _say)
        forward = " ".join(shell.words("-N", "-L", "8265:127.0.0.1:8265", "-L", "8000:127.0.0.1:8000"))
        _say(f"dashboard and Serve: {forward}")
        _say(
            "then: RAY_ADDRESS=http://127.0.0.1:8265 ray job submit --working-dir . -- python jobs/train.py …"
        )
        return Status(name=self.name)()


@dataclass(frozen=True)
class Status(_OfOne):
    """Every pod that a cluster has had, and what it has cost until now."""

    def __call__(self) -> Listing:
        from recray.cluster import clusters
        from recray.cluster.api import RunPod

        name, key = _which(self.file, self.name)
        rows = [row._asdict() for row in clusters.status(name, RunPod(), key)]
        spent = sum(row["dollars"] for row in rows)
        rate = sum(row["dollars_per_hour"] for row in rows if row["status"] != "gone")
        return Listing(f"{name}: {spent:.2f} $ spent, now {rate:.2f} $/h", rows)


@dataclass(frozen=True)
class Down(_OfOne):
    """End every pod of a cluster; afterwards nothing of it costs anything."""

    def __call__(self) -> Listing:
        from recray.cluster import clusters
        from recray.cluster.api import RunPod

        name, key = _which(self.file, self.name)
        service = RunPod()
        clusters.require_known(name, service)
        spent = clusters.down(name, service, key, _say)
        return Listing(f"{name} is down", [{"cluster": name, "dollars": round(spent, 4), "pods": 0}])


@dataclass(frozen=True)
class Reap:
    """End what nobody ends any more: pods of any cluster over their time, without a head, or stopped."""

    all: bool = False
    """Also those that are in use."""
    yes: bool = False
    """Do not ask, where all are meant."""
    json: Json = False

    def __call__(self) -> Listing:
        from recray.cluster import clusters
        from recray.cluster.api import RunPod

        if self.all:
            _confirm("every pod of every cluster of recray's is ended, also those in use", self.yes)
        reaped = clusters.reap(RunPod(), everything=self.all, say=_say)
        return Listing("reaped", [{"cluster": name} for name in reaped])


@dataclass(frozen=True)
class Run:
    """A command's whole way: up (or what is up), data there, submitted, followed, results home, down.

    recray cluster run --yes -- python jobs/train.py two_tower ml-1m
    """

    command: tyro.conf.Positional[tuple[str, ...]]
    """After --: what runs there, in this folder's files."""
    file: Path = FILE
    """The cluster's file."""
    data: tuple[Path, ...] = ()
    """Files and folders that are to lie in the cluster's RECRAY_RAW_DIR; what changed is copied."""
    keep: bool = False
    """Leave the cluster up afterwards."""
    yes: bool = False
    """Do not ask."""
    json: Json = False

    def __call__(self) -> Listing:
        from recray import paths
        from recray.cluster import clusters, work
        from recray.cluster.api import RunPod
        from recray.cluster.pods import Pods, head_of

        if not self.command:
            raise ConfigError(
                "say what is to run: recray cluster run -- python jobs/train.py two_tower ml-1m"
            )
        if missing := [path for path in self.data if not path.exists()]:
            raise ConfigError(f"--data {missing[0]}: there is no such file or folder")
        service = RunPod()
        name, key = _which(self.file, "")
        was_up = head_of(Pods(service, name).all()) is not None
        config, status = {} if was_up else _priced(self.file, service, self.yes), 1
        ends = not self.keep and not was_up
        try:
            if not was_up:
                clusters.up(config)
            shell = clusters.shell(name, service, key)
            work.require_ready(shell)
            work.send(shell, self.data, _say)
            try:
                status = work.submit(shell, self.command, Path.cwd(), _say)
                work.bring(shell, paths.clusters_dir() / name / "home", _say)
                if ends and (others := work.at_work(shell)):
                    raise UnavailableError(f"{', '.join(others)} still runs there")
            except UnavailableError as error:
                ends = False
                raise UnavailableError(
                    f"{error}. {name} is left up, until its limits: `recray cluster down` ends it"
                ) from error
        finally:
            if ends:  # by its name: the file may say another one by now
                clusters.down(name, service, key, _say)
        if status:
            raise SystemExit(status)
        return Status(self.file, name=name)()


@dataclass(frozen=True)
class Tunnel:
    """The dashboard and Serve of a cluster at this machine's ports, until Ctrl-C."""

    file: Path = FILE
    """The cluster's file."""
    name: str = ""
    """Its name, in the place of a file."""
    dashboard: int = 8265
    """This machine's port of the dashboard, where `ray job submit` goes too."""
    serve: int = 8000
    """This machine's port of Serve."""
    json: Json = False

    def __call__(self) -> Listing:
        import signal

        from recray.cluster import clusters, work
        from recray.cluster.api import RunPod

        name, key = _which(self.file, self.name)
        shell = clusters.shell(name, RunPod(), key)
        with work.tunnel(shell, work.DASHBOARD, self.dashboard), work.tunnel(shell, 8000, self.serve):
            here = f"dashboard http://127.0.0.1:{self.dashboard}, Serve http://127.0.0.1:{self.serve}"
            _say(f"{here}; Ctrl-C ends")
            signal.pause()
        return Listing(name, [])


@dataclass(frozen=True)
class Cluster:
    """GPUs of RunPod as a Ray cluster: its price before, its limits held there, nothing left behind."""

    do: tyro.conf.OmitArgPrefixes[tyro.conf.OmitSubcommandPrefixes[Up | Status | Down | Reap | Run | Tunnel]]

    @property
    def json(self) -> bool:
        return self.do.json

    def __call__(self) -> Listing:
        return self.do()


def _which(file: Path, name: str) -> tuple[str, str]:
    """A cluster's name and the file of the SSH key."""
    from recray.cluster import clusters
    from recray.cluster.plan import require_name

    config: dict[str, Any] = {"cluster_name": name} if name else clusters.named(file)
    require_name(str(config["cluster_name"]))
    return str(config["cluster_name"]), clusters.key_of(config)


def _priced(file: Path, service: "RunPod", yes: bool) -> dict[str, Any]:
    """A cluster.yaml whose price was agreed to."""
    from recray.cluster import clusters

    config = clusters.read(file)
    _confirm(f"{config['cluster_name']}: {clusters.price(config, service).words()}", yes)
    return config


def _confirm(words: str, yes: bool, ask: Callable[[str], str] = input) -> None:
    """
    Raises:
        ConfigError: nobody is there to say yes.
        UnavailableError: the answer is no.
    """
    _say(words)
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("nobody is here to confirm this: add --yes")
    if ask("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UnavailableError("nothing was done")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
