"""What a cluster.yaml for RunPod need not say: Ray fills nothing for a provider that is not its own."""

import copy
import os
import subprocess
from pathlib import Path
from typing import Any, cast

from recray.cluster.api import KEY, Json
from recray.cluster.plan import machine
from recray.config import ConfigError
from recray.redaction import NOTIFY

_LISTS = (
    "cluster_synced_files",
    "rsync_exclude",
    "rsync_filter",
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "worker_start_ray_commands",
)
TOKEN = "~/.ray/auth_token"
GUARD = "python -m recray.cluster.guard --detach"
START = "ray start --head --autoscaling-config=~/ray_bootstrap_config.yaml $(python -m recray.cluster.node)"


def completed(config: dict[str, Any]) -> dict[str, Any]:
    """With every key that Ray's checks and its monitor on the head read, and what each type has.

    Raises:
        ConfigError: a node_config cannot be.
    """
    config = copy.deepcopy(config)
    for name in _LISTS:
        config.setdefault(name, [])
    config.setdefault("file_mounts", {})
    config.setdefault("file_mounts_sync_continuously", False)
    config.setdefault("max_workers", 0)
    config.setdefault("auth", {}).setdefault("ssh_user", "root")
    config["provider"]["disable_node_updaters"] = True  # a worker starts Ray itself
    config["head_start_ray_commands"] = config.get("head_start_ray_commands") or [GUARD, START]
    for kind in config.get("available_node_types", {}).values():
        kind["resources"] = {**_resources(kind.get("node_config", {})), **kind.get("resources", {})}
    return config


def keyed(config: dict[str, Any]) -> dict[str, Any]:
    """With the key to log in with, and Ray's token as a file of every node.

    Raises:
        ConfigError: there is no such key, or it cannot be used.
    """
    config = copy.deepcopy(config)
    auth = config["auth"]
    auth.setdefault("ssh_private_key", str(private_key()))
    config["provider"]["public_key"] = public_key(auth["ssh_private_key"])
    if not any("auth_token" in path for path in config["file_mounts"]):
        config["file_mounts"][TOKEN] = str(token())
    return config


def secrets_of(provider: Json) -> list[str]:
    """Names of what the head is told: the account's key, where notices go, and what cluster.yaml names."""
    asked = cast(list[str], provider.get("secrets") or [])
    told = [NOTIFY] if os.environ.get(NOTIFY) else []
    return list(dict.fromkeys([KEY, *told, *asked]))


def _resources(node_config: Json) -> dict[str, int]:
    asked = machine(node_config)
    return {"CPU": asked.vcpus} if asked.cpu else {"GPU": asked.gpus}


def private_key() -> Path:
    """
    Raises:
        ConfigError: there is none.
    """
    for name in ("id_ed25519", "id_rsa", "id_ecdsa"):
        if (path := Path.home() / ".ssh" / name).exists():
            return path
    raise ConfigError(
        "no SSH key in ~/.ssh: `ssh-keygen -t ed25519` makes one, or auth.ssh_private_key names it"
    )


def public_key(private: str) -> str:
    """
    Raises:
        ConfigError: the file is no private key, or is locked by a word.
    """
    path = Path(private).expanduser()
    said = subprocess.run(["ssh-keygen", "-y", "-P", "", "-f", str(path)], capture_output=True, text=True)
    if said.returncode:
        why = said.stderr.strip().splitlines()
        raise ConfigError(f"auth.ssh_private_key {path} cannot be used: {why[-1] if why else 'no such file'}")
    return said.stdout.strip()


def token() -> Path:
    """Ray's, made where there is none, as a cluster without one is open to all; readable by its owner alone.

    Raises:
        ConfigError: RAY_AUTH_TOKEN_PATH names no file.
    """
    named = os.environ.get("RAY_AUTH_TOKEN_PATH", "")
    path = Path(named or TOKEN).expanduser()
    if named and not path.is_file():
        raise ConfigError(f"RAY_AUTH_TOKEN_PATH names {named}, and there is no such file")
    if not path.is_file():
        subprocess.run(["ray", "get-auth-token", "--generate"], check=True, capture_output=True)
    path.chmod(0o600)
    return path
