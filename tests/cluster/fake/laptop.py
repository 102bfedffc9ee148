"""A laptop before a RunPod of its own: a home, a key, a cluster.yaml of small pods, commands as one types."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.fake.description import description
from tests.cluster.fake.machines import REPO, Machines
from tests.cluster.fake.service import KEY, Service, served

NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")
KEEP = ("PATH", "LANG", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED", "OMP_NUM_THREADS")


class Laptop:
    def __init__(self, folder: Path, service: Service, url: str) -> None:
        self.home, self.service = folder / "laptop", service
        for name in (".ssh", "tmp", "work"):
            (self.home / name).mkdir(parents=True)
        self.work = self.home / "work"
        key = self.home / ".ssh" / "id_ed25519"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        self.planted = {f"MY_{NAMES[i % 4]}_{i}": f"planted-{secrets.token_hex(8)}" for i in range(19)}
        self.env = {
            **{name: os.environ[name] for name in KEEP if name in os.environ},
            **self.planted,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPO),
            "HOME": str(self.home),
            "TMPDIR": str(self.home / "tmp"),
            "RECRAY_HOME": str(self.home / "recray"),
            "RUNPOD_API_KEY": KEY,
            "RUNPOD_API_URL": url,
            "RAY_AUTH_MODE": "token",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def write(self, **limits: float) -> dict[str, Any]:
        """The repository's cluster.yaml, of pods that are small and soon idle."""
        config: dict[str, Any] = yaml.safe_load((REPO / "cluster.yaml").read_text())
        config["provider"]["limits"] |= limits
        config["provider"]["secrets"] = list(self.planted)[:3]
        kinds = config["available_node_types"]
        for kind, gpu in (("head", "NVIDIA RTX A4000"), ("gpu", "NVIDIA L4")):
            kinds[kind]["resources"] = {"CPU": 1, "GPU": 1}
            kinds[kind]["node_config"] = {**kinds[kind]["node_config"], "gpu": [gpu]}
            kinds[kind]["node_config"]["env"] = {"RECRAY_HOME": str(self.home.parent / "volume")}
        kinds["gpu"]["idle_timeout_s"] = 8
        (self.work / "cluster.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        return config

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            words,
            cwd=self.work,
            env={**self.env, **more.pop("env", {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **more,
        )

    def run(self, *words: str, typed: str = "", env: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Exit status and output of a command."""
        process = self.start(*words, stdin=subprocess.PIPE, env=env or {})
        said, _ = process.communicate(typed, timeout=600)
        return process.returncode, said


@contextmanager
def laptop(folder: Path, subnet: str) -> Iterator[tuple[Laptop, Service]]:
    machines = Machines(folder, subnet)
    service = Service(description(), machines=machines)
    try:
        with served(service, f"{subnet}.254") as url:
            machines.variables["RUNPOD_API_URL"] = url
            yield Laptop(folder, service, url), service
    finally:
        machines.end()
