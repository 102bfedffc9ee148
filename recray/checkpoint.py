"""Save and load training state with ``torch.distributed.checkpoint``: any number of workers, any other.

A checkpoint folder holds tensors under their fully qualified names, so that a run saved on N workers
loads on M with its tables sharded in any other way, and ``progress.json``, which is written last: a
folder without it was never finished. Training goes on while a copy of the state is being written.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from recray.config import ConfigError
from recray.contract import FusedOptimizer
from recray.ops.sharded import Sharded

PROGRESS = "progress.json"
DISCARD_WAIT_S = 10.0
State = dict[str, Any]


class Saver:
    """Writes the checkpoints of a run in the background, one at a time.

    Every rank has one, made at the same point of the run, and calls its methods at the same points.
    """

    def __init__(self, rank: int = 0) -> None:
        self.rank = rank
        # Collectives of the writing thread and of the polls must not mix with those of training.
        self._writers, self._polls = (dist.new_group(backend="gloo") if _several() else None for _ in "12")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recray-checkpoint")
        self._written: Future[None] | None = None
        self._folder = Path()

    @property
    def busy(self) -> bool:
        """Whether a checkpoint was started and not yet taken."""
        return self._written is not None

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Mapping[str, Any]) -> None:
        """Copies this rank's share of the state into CPU memory and begins to write it.

        Args:
            progress: JSON-ready position of the run.
        """
        assert not self.busy, "take the last checkpoint first"
        state = _staged({"model": model.state_dict(), "optimizer": _optimizer_state(model, optimizer)})
        self._folder = Path(tempfile.mkdtemp(prefix="recray-checkpoint-"))
        self._written = self._thread.submit(self._write, self._folder, state, json.dumps(progress))

    def _write(self, folder: Path, state: State, progress: str) -> None:
        _files().write(state, folder, self._writers)
        if self.rank == 0:
            (folder / PROGRESS).write_text(progress)

    def done(self) -> bool:
        """Whether every rank has written its share of the checkpoint that was started."""
        assert self._written is not None, "start a checkpoint first"
        done = torch.tensor(int(self._written.done()))
        if self._polls is not None:
            dist.all_reduce(done, dist.ReduceOp.MIN, group=self._polls)
        return bool(done)

    @contextmanager
    def take(self) -> Iterator[Path]:
        """The folder of the checkpoint that was started, once it is written; removed afterwards.

        Raises:
            CheckpointException, OSError: it could not be written.
        """
        assert self._written is not None, "start a checkpoint first"
        try:
            self._written.result()
            yield self._folder
        finally:
            self.discard()

    def discard(self) -> None:
        """Forgets a checkpoint that nobody takes; safe at any time."""
        if self._written is not None:
            written, self._written = self._written, None
            # What is still being written would come back after its folder was removed; a writer that
            # waits for a dead peer cleans up when it gives up.
            wait([written], timeout=DISCARD_WAIT_S)
            folder = self._folder
            written.add_done_callback(lambda _: shutil.rmtree(folder, ignore_errors=True))


@contextmanager
def saved(model: nn.Module) -> Iterator[Path]:
    """A checkpoint of a model that was made in one pass, by one process; removed afterwards.

    ``load_model`` reads it; there is nothing to continue from it.
    """
    with tempfile.TemporaryDirectory(prefix="recray-checkpoint-") as name:
        _files().write({"model": _staged(model.state_dict())}, Path(name), None)
        (Path(name) / PROGRESS).write_text("{}")
        yield Path(name)


def load(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Restores model and optimizers in place, on any number of workers and with either table backend.

    Raises:
        ConfigError: the folder is no finished checkpoint, or one of another model.
    """
    # AdamW has no state before its first step; reading it lays it out so that it can be loaded into.
    state = {"model": model.state_dict(), "optimizer": _optimizer_state(model, optimizer)}
    _load(folder, state)
    _files().set_optimizer_state_dict(model, optimizer, state["optimizer"]["dense"])


def load_model(folder: Path, model: nn.Module) -> None:
    """Fills ``model`` with the weights of a checkpoint; one process alone may ask.

    Raises:
        ConfigError: as ``load``.
    """
    state = model.state_dict()
    _load(folder, {"model": state})
    model.load_state_dict(state)  # read in place already; some models derive something from what they load


def progress(folder: Path) -> dict[str, Any]:
    """The position that a checkpoint was saved at.

    Raises:
        ConfigError: the folder is no finished checkpoint.
    """
    if not (folder / PROGRESS).exists():
        raise ConfigError(f"{folder} is not a finished checkpoint: it has no {PROGRESS}")
    values: dict[str, Any] = json.loads((folder / PROGRESS).read_text())
    return values


def _optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Of the optimizer of the dense parameters, and of the modules that update their own weights."""
    fused = {name: m for name, m in model.named_modules() if isinstance(m, FusedOptimizer)}
    return {
        "dense": _files().get_optimizer_state_dict(model, optimizer),
        "fused": {name: module.optimizer_state() for name, module in fused.items()},
    }


def _staged(state: Mapping[str, Any]) -> State:
    """A copy of all tensors in CPU memory, which training may not change."""
    staged: State = {}
    for key, value in state.items():
        if isinstance(value, Mapping):
            staged[key] = _staged(value)
        elif isinstance(value, Sharded):
            staged[key] = value.map(_on_cpu)
        else:
            staged[key] = _on_cpu(value) if isinstance(value, Tensor) else value
    return staged


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def _load(folder: Path, state: State) -> None:
    progress(folder)
    try:
        _files().read(state, folder, together=_several())
    except ValueError as error:
        raise ConfigError(
            f"{folder} does not fit this model ({error}): resume with the config and data "
            "that the run was started with, or start a new run"
        ) from error


def _several() -> bool:
    return dist.is_initialized() and dist.get_world_size() > 1


def _files() -> ModuleType:
    """Imported when a checkpoint is written or read: whoever only starts, counts or serves does without."""
    from recray.ops import checkpoint_files

    return checkpoint_files
