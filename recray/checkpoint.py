"""Save and load training state with ``torch.distributed.checkpoint``: any number of workers, any other.

A checkpoint folder holds tensors under their fully qualified names, so that a run saved on N workers
loads on M, and ``progress.json``, which is written last: a folder without it was never finished.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from recray.config import ConfigError

PROGRESS = "progress.json"


def _tensors(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    state: dict[str, Any] = {"model": model.state_dict()}
    if optimizer is not None:
        state["optimizer"] = get_optimizer_state_dict(model, optimizer)
    return state


def save(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
    progress: dict[str, Any],
    rank: int = 0,
) -> None:
    """Writes this rank's share of the state into ``folder``; rank 0 adds ``progress.json`` last.

    Args:
        best: the weights of the best validation so far (same names as the model's).
        progress: JSON-ready position of the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {**_tensors(model, optimizer), "best": best}
    with _one_process_is_fine():
        dcp_save(state, checkpoint_id=str(folder), no_dist=not dist.is_initialized())
    if rank == 0:
        (folder / PROGRESS).write_text(json.dumps(progress))


def load(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Restores model and optimizer in place; returns the best weights.

    Raises:
        ConfigError: the folder is no finished checkpoint, or one of another model.
    """
    progress(folder)
    # AdamW has no state before its first step; this lays it out so that it can be loaded into.
    state = {
        **_tensors(model, optimizer),
        "best": {k: torch.empty_like(v) for k, v in model.state_dict().items()},
    }
    _load(folder, state)
    set_optimizer_state_dict(model, optimizer, state["optimizer"])
    best: dict[str, Tensor] = state["best"]
    return best


def load_best(folder: Path, model: nn.Module) -> None:
    """Fills ``model`` with the best weights of a checkpoint; needs no process group.

    Raises:
        ConfigError: as ``load``.
    """
    progress(folder)
    state = {"best": model.state_dict()}
    _load(folder, state)
    model.load_state_dict(state["best"])


def _load(folder: Path, state: dict[str, Any]) -> None:
    try:
        with _one_process_is_fine():
            dcp_load(state, checkpoint_id=str(folder), no_dist=not dist.is_initialized())
    except (RuntimeError, ValueError, KeyError, CheckpointException) as error:
        raise ConfigError(
            f"{folder} does not fit this model ({type(error).__name__}): resume with the config and data "
            "that the run was started with, or start a new run"
        ) from error


@contextmanager
def _one_process_is_fine() -> Iterator[None]:
    """PyTorch warns that a run without a process group is a run without a process group."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def progress(folder: Path) -> dict[str, Any]:
    """The position that a checkpoint was saved at.

    Raises:
        ConfigError: the folder is no finished checkpoint.
    """
    if not (folder / PROGRESS).exists():
        raise ConfigError(f"{folder} is not a finished checkpoint: it has no {PROGRESS}")
    values: dict[str, Any] = json.loads((folder / PROGRESS).read_text())
    return values
