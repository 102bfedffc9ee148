"""Ray Train workers around the one training loop. Only this folder imports ray.train."""

import functools
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import ray
import ray.train
import ray.train.torch
import torch

from recray import paths, storage
from recray.config import ConfigError, UnavailableError
from recray.folders import locked
from recray.launch.cluster import environment, join, needs, require_room, watched
from recray.launch.failures import Told, reason, taken, waited
from recray.launch.preflight import require_ready
from recray.launch.process_group import OnNodes
from recray.launch.runs import RunResult, Task
from recray.redaction import hidden
from recray.schema import DataError
from recray.track import history
from recray.track.console import ConsoleProgress, setup_logging
from recray.track.usage import Usage
from recray.train.context import Communicator, Context, LaunchConfig

log = logging.getLogger(__name__)
R = TypeVar("R")
Callbacks: TypeAlias = Sequence[ray.train.UserCallback]
NO_SCORE = -1e30  # below every score; infinity would not survive Ray's JSON


class Trainer(Protocol):
    """One of Ray Train's."""

    def fit(self) -> ray.train.Result: ...


def run(
    task: Task[R],
    config: R,
    launch: LaunchConfig,
    name: str,
    callbacks: Callbacks = (),
    communicator: Communicator = "torch",
) -> RunResult:
    """Runs the task on Ray Train's workers; a run of this name that was interrupted is continued.

    Args:
        callbacks: of Ray Train, told of each report.
        communicator: what joins the workers.
    Raises:
        ConfigError: the cluster cannot place the workers, or they failed more than
            ``launch.max_failures`` times; says what the last of them said.
    """
    join()
    _configure_ray_train()
    require_ready(launch)
    storage.erase(_refusal(name))
    with watched():
        values = {"task": task, "config": config, "launch": launch, "name": name}
        values["announced"] = bool(os.environ.get("RAY_ADDRESS"))  # whether a lost node may be
        places = _places(launch, name, callbacks)
        begin = functools.partial(_trainer(communicator, launch), _worker, train_loop_config=values, **places)
        result = _fit(begin, launch, name)
    if result.checkpoint is None:
        raise ConfigError(f"run {name!r} ended without a checkpoint")
    kept = [(metrics.get("score", -math.inf), each) for each, metrics in result.best_checkpoints or []]
    best = max(kept, key=lambda pair: pair[0])[1] if kept else result.checkpoint
    return RunResult(name, _folder_of(best, name), dict(result.metrics or {}))


def _trainer(communicator: Communicator, launch: LaunchConfig) -> Callable[..., Trainer]:
    if communicator == "torch":
        backend = OnNodes(backend="nccl" if launch.gpu else "gloo")
        return functools.partial(ray.train.torch.TorchTrainer, torch_config=backend)
    from ray.train.xgboost import XGBoostTrainer  # a second of every process that has no need of it

    trainer: Callable[..., Trainer] = XGBoostTrainer
    return trainer


def _fit(begin: Callable[[], Trainer], launch: LaunchConfig, name: str) -> ray.train.Result:
    """Ray Train takes a run up again after workers died, but not where they died, or did not come, while
    they were started: then it is begun again here, and goes on from its last checkpoint.
    """
    failures, waiting_since, reported = 0, math.inf, -1
    while True:
        try:
            return begin().fit()
        except ray.train.ControllerError as error:
            if (now := len(history.read(paths.runs_dir() / name))) > reported:  # it came further meanwhile
                failures, waiting_since, reported = 0, math.inf, now
            if waited(error):  # for nodes that are taken by others, or are lost
                waiting_since = min(waiting_since, time.monotonic())
                if time.monotonic() - waiting_since > launch.wait_s:
                    raise UnavailableError(
                        f"run {name!r} waited {launch.wait_s:.0f} s for room: others use the cluster "
                        "(`ray status`); the same command continues it"
                    ) from error
                log.warning("run %s waits for room: others use the cluster, or nodes are lost", name)
            elif failures == launch.max_failures:
                raise UnavailableError(f"run {name!r} failed: {reason(error)}") from error
            else:
                failures, waiting_since = failures + 1, math.inf
                log.warning(
                    "run %s: workers did not start together (%s); once more, %d of %d",
                    *(name, reason(error), failures, launch.max_failures),
                )
            require_room(launch, launch.wait_s)
        except ray.train.TrainingFailedError as error:
            kind = UnavailableError if taken(error) else ConfigError
            raise kind(f"run {name!r} failed: {reason(error)}") from error


def _places(launch: LaunchConfig, name: str, callbacks: Callbacks) -> dict[str, object]:
    """Where its workers are, and its checkpoints."""
    system, kept_in = storage.file_system(paths.runs_dir())
    return {
        "scaling_config": ray.train.ScalingConfig(
            num_workers=(launch.least, launch.workers) if launch.min_workers else launch.workers,
            elastic_resize_monitor_interval_s=launch.resize_s,
            use_gpu=launch.gpu,
            resources_per_worker=needs(launch),
            placement_strategy=launch.placement,
            label_selector=dict(launch.label_selector) or None,
        ),
        "run_config": ray.train.RunConfig(
            name=name,
            storage_path=kept_in,
            storage_filesystem=system,
            failure_config=ray.train.FailureConfig(
                max_failures=launch.max_failures, controller_failure_limit=0
            ),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=launch.keep, checkpoint_score_attribute="score", checkpoint_score_order="max"
            ),  # the last one stays besides
            callbacks=[Told(name, launch.max_failures), *callbacks],
            logging_config=ray.train.LoggingConfig(log_level="CRITICAL"),  # what matters is told in words
            worker_runtime_env={"env_vars": environment()},
        ),
    }


def _configure_ray_train() -> None:
    """Settings of Ray Train that suit short epochs; what the environment already says is kept."""
    # The controller fetches reports when it looks at its workers, every 2 s by default: that long each
    # epoch's report would hold training up.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    # Workers that find no room for so long are reported, so that somebody can say what is missing.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "20")
    if os.environ.get("RAY_ADDRESS"):  # a cluster, with a dashboard: let its Train page show the run
        os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")
    else:  # nobody takes this machine away, so one process less to start
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")


def _worker(values: dict[str, Any]) -> None:
    """One Ray Train worker: builds its context and runs the task."""
    setup_logging()
    # Ray Train logs each report of each worker in full, on two loggers; rank 0 says it in one line.
    for chatty in (logging.getLogger(), logging.getLogger("ray.train")):
        chatty.setLevel(logging.WARNING)
    launch: LaunchConfig = values["launch"]
    torch.set_num_threads(launch.cpus_per_worker)
    position, device = ray.train.get_context(), ray.train.torch.get_device()
    checkpoint = ray.train.get_checkpoint()
    context = Context(
        rank=position.get_world_rank(),
        world_size=position.get_world_size(),
        device=device,
        resume_from=_folder_of(checkpoint, values["name"]) if checkpoint else None,
        report=_report,
    )
    if values["announced"]:
        context = replace(context, is_leaving=lambda: ray.train.get_preemption_info() is not None)
    if context.rank == 0:
        folder = paths.runs_dir() / values["name"]
        usage = Usage(folder, device, launch.price_per_hour)
        context = replace(
            context,
            progress=ConsoleProgress(values["name"]),
            report=functools.partial(_note_and_report, folder, usage),
            trained=usage.trained,
        )
    refusal = _refusal(values["name"])
    storage.refresh(refusal)
    if refusal.exists():  # Ray tries again after any error, but this one would only come back
        raise ConfigError(refusal.read_text())
    try:
        values["task"](values["config"], context)
    except storage.UnreachableError:  # which another attempt may cure
        raise
    except (ConfigError, DataError) as error:
        refusal.write_text(hidden(str(error)))
        storage.send(refusal)
        raise


def _folder_of(checkpoint: ray.train.Checkpoint, run: str) -> Path:
    """Where it lies; of a home that is a bucket it is brought to this machine, once."""
    if not paths.address():
        return Path(checkpoint.path)
    folder = paths.runs_dir() / run / Path(checkpoint.path).name
    with locked(folder.parent / f".{folder.name}.lock"):
        if not folder.is_dir():
            staged = folder.with_name(f".{folder.name}.fetching")
            shutil.rmtree(staged, ignore_errors=True)
            checkpoint.to_directory(staged)
            staged.rename(folder)
    return folder


def _refusal(name: str) -> Path:
    """Where a run notes an error that no repetition can cure."""
    return paths.runs_dir() / name / "refused.txt"


def _note_and_report(folder: Path, usage: Usage, metrics: dict[str, float], checkpoint: Path | None) -> None:
    history.append(folder, {**metrics, **usage.take()})
    _report(metrics, checkpoint)


def _report(metrics: dict[str, float], checkpoint: Path | None) -> None:
    # Ray warns of every report that cannot be compared with the best.
    ray.train.report(
        {"score": NO_SCORE, **metrics},
        checkpoint=ray.train.Checkpoint.from_directory(str(checkpoint)) if checkpoint else None,
    )
