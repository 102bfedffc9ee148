"""Ray Train workers around the one training loop. Only this folder imports ray.train."""

import functools
import logging
import math
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import ray
import ray.train
import ray.train.torch
import ray.train.xgboost
import torch

from recray import paths, storage
from recray.config import ConfigError
from recray.folders import locked
from recray.launch.runs import RunResult, Task
from recray.redaction import hidden
from recray.schema import DataError
from recray.track import history
from recray.track.console import ConsoleProgress, setup_logging
from recray.track.usage import Usage
from recray.train.context import Context, LaunchConfig

R = TypeVar("R")
NO_SCORE = -1e30  # below every score; infinity would not survive Ray's JSON


def run(task: Task[R], config: R, launch: LaunchConfig, name: str) -> RunResult:
    """Runs the task on PyTorch workers; a run of this name that was interrupted is continued.

    Raises:
        ConfigError: the cluster cannot place the workers, or they failed more than
            ``launch.max_failures`` times; says what the last of them said.
    """
    backend = ray.train.torch.TorchConfig(backend="nccl" if launch.gpu else "gloo")
    return _run(ray.train.torch.TorchTrainer, {"torch_config": backend}, task, config, launch, name)


def run_boosted(task: Task[R], config: R, launch: LaunchConfig, name: str) -> RunResult:
    """As ``run``, on workers that are joined by XGBoost's communicator instead of PyTorch's."""
    return _run(ray.train.xgboost.XGBoostTrainer, {}, task, config, launch, name)


def _run(
    trainer: Any, backend: dict[str, Any], task: Task[R], config: R, launch: LaunchConfig, name: str
) -> RunResult:
    if not ray.is_initialized():
        ray.init(log_to_driver=True, logging_level=logging.WARNING)
    _configure_ray_train()
    _require_room(launch)
    storage.erase(_refusal(name))
    system, kept_in = storage.file_system(paths.runs_dir())
    started = trainer(
        _worker,
        train_loop_config={"task": task, "config": config, "launch": launch, "name": name},
        scaling_config=ray.train.ScalingConfig(
            num_workers=launch.workers,
            use_gpu=launch.gpu,
            resources_per_worker={"CPU": launch.cpus_per_worker, **({"GPU": 1} if launch.gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=kept_in,
            storage_filesystem=system,
            failure_config=ray.train.FailureConfig(max_failures=launch.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=launch.keep, checkpoint_score_attribute="score", checkpoint_score_order="max"
            ),  # the last one stays besides
        ),
        **backend,
    )
    try:
        result = started.fit()
    except ray.train.TrainingFailedError as error:
        raise ConfigError(f"run {name!r} failed: {_reason(error)}") from error
    if result.checkpoint is None:
        raise ConfigError(f"run {name!r} ended without a checkpoint")
    kept = [(metrics.get("score", -math.inf), each) for each, metrics in result.best_checkpoints or []]
    best = max(kept, key=lambda pair: pair[0])[1] if kept else result.checkpoint
    return RunResult(name, _folder_of(best, name), dict(result.metrics or {}))


def _reason(error: Exception) -> str:
    """The last line of the last worker's traceback, which is what it said."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if re.match(r"[\w.]+(Error|Exception)?: ", line)]
    return (said or lines or [type(error).__name__])[-1]


def _configure_ray_train() -> None:
    """Settings of Ray Train that suit short epochs; what the environment already says is kept."""
    # The controller fetches reports when it looks at its workers, every 2 s by default: that long each
    # epoch's report would hold training up.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    if os.environ.get("RAY_ADDRESS"):  # a cluster, with a dashboard: let its Train page show the run
        os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")
    else:  # nobody takes this machine away, so one process less to start
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")


def _require_room(launch: LaunchConfig) -> None:
    """Workers that can never be placed would wait for ever: say so at once."""
    have = ray.cluster_resources()
    for kind, each in (("CPU", launch.cpus_per_worker), ("GPU", int(launch.gpu))):
        if launch.workers * each > have.get(kind, 0):
            raise ConfigError(
                f"{launch.workers} workers with {each} {kind} each need {launch.workers * each} {kind}, "
                f"the Ray cluster has {have.get(kind, 0):g}: lower launch.workers or add nodes"
            )


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
