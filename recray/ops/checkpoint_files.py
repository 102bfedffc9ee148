"""The files of a checkpoint, by ``torch.distributed.checkpoint``, which takes half a second to import."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint._nested_dict import flatten_state_dict
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.checkpoint.state_dict_saver import save as dcp_save

from recray.ops.sharded import Sharded

__all__ = ["get_optimizer_state_dict", "read", "set_optimizer_state_dict", "write"]

State: TypeAlias = dict[str, Any]


def write(state: State, folder: Path, group: dist.ProcessGroup | None) -> None:
    """What this process holds of a state; all of the group write their shares, or one process without one.

    Raises:
        CheckpointException, OSError: it could not be written.
    """
    with _one_process_is_fine():
        dcp_save(
            state,
            checkpoint_id=str(folder),
            planner=_SavePlanner(),
            process_group=group,
            no_dist=group is None,
        )


def read(state: State, folder: Path, *, together: bool) -> None:
    """Fills a state in place.

    Args:
        together: all processes read at once, each its share.
    Raises:
        ValueError: the files hold another state; says what was wrong on the first rank where anything was.
    """
    try:
        with _one_process_is_fine():
            dcp_load(state, checkpoint_id=str(folder), planner=_LoadPlanner(), no_dist=not together)
    except (RuntimeError, ValueError, KeyError, CheckpointException) as error:
        raise ValueError(_first_line(error)) from error


def _first_line(error: BaseException) -> str:
    """What went wrong, on the first rank where anything did."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    return (str(error).splitlines() or [type(error).__name__])[0]


class _SavePlanner(DefaultSavePlanner):
    """Finds the pieces of a ``Sharded``, for which the default planner asks a tensor."""

    def lookup_object(self, index: MetadataIndex) -> object:
        value = self.state_dict[index.fqn]
        return value.piece(index) if isinstance(value, Sharded) else super().lookup_object(index)


class _LoadPlanner(DefaultLoadPlanner):
    """As ``_SavePlanner``."""

    def set_up_planner(
        self, state_dict: State, metadata: Metadata | None = None, is_coordinator: bool = False
    ) -> None:
        # Given the state itself, the default planner would put None for all that is no tensor.
        super().set_up_planner({}, metadata, is_coordinator)
        self.original_state_dict = state_dict
        self.state_dict, self.mappings = flatten_state_dict(state_dict)

    def lookup_tensor(self, index: MetadataIndex) -> Tensor:
        value = self.state_dict[index.fqn]
        return value.piece(index) if isinstance(value, Sharded) else super().lookup_tensor(index)


@contextmanager
def _one_process_is_fine() -> Iterator[None]:
    """PyTorch warns that a run without a process group is a run without a process group."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
