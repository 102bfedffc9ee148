"""The one training loop: batches in, checkpoints out. It knows neither Ray nor any model.

Randomness is a pure function of (seed, step, rank) and batches are a pure function of (epoch, step),
so a checkpoint holds no generator state and a resumed run repeats the uninterrupted one bit for bit.
A report that is the best so far carries a ``score``: whoever keeps checkpoints keeps that one too. One with
an evaluation carries what the steps since the last were like: ``train_loss`` (mean, over all workers),
``grad_norm`` (mean) and ``grad_norm_max``, both of the averaged gradient before it is clipped.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, Protocol, Self, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recray import checkpoint
from recray.config import ConfigError
from recray.contract import DrawsForAll, FusedOptimizer, Learner
from recray.train import stability
from recray.train.context import Context, Progress
from recray.train.leaving import Notice
from recray.train.optim import OptimConfig, build_optimizer, learning_rate

log = logging.getLogger(__name__)
Sums = Mapping[str, tuple[float, float]]  # metric -> (sum, count): reduced over workers, divided once
PROGRESS_EVERY_S = 0.5
MIN_STEPS = 20  # per epoch, where there is data for it


class TrainingError(ConfigError):
    """Training cannot go on; the message says at which step and why."""


class Batch(Protocol):
    """A worker's share of a global batch."""

    @property
    def size(self) -> int:
        """Terms of the loss's mean: rows, pairs, sessions."""

    @property
    def total(self) -> int:
        """The same of the global batch; 0: every worker's share is equal."""

    def to(self, device: torch.device) -> Self: ...


class BatchSource(Protocol):
    """Batches addressed by position, so that a run can continue at any of them."""

    def num_steps(self) -> int:
        """Steps per epoch."""

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> Batch:
        """This rank's share of the global batch."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long to train and when to look."""

    epochs: int = 50
    """Passes over the training data, at most."""
    batch_size: int = 2048
    """Global batch size, the sum over workers, at most: small data gets 20 steps an epoch (of 64 or more)."""
    metric: str = "ndcg@10"
    """Validation metric that early stopping and the best weights go by."""
    goal: Literal["max", "min"] = "max"
    """Whether a higher or a lower metric is better."""
    patience: int = 5
    """Stop after this many evaluations without a better one; 0 never stops early."""
    evaluate_every: int = 1
    """Epochs between evaluations."""
    checkpoint_every_steps: int = 0
    """Steps between checkpoints within an epoch; 0 saves with each evaluation only."""
    stop_after: int = 0
    """End after this many epochs, with the learning rates of a run of ``epochs``; 0: do them all."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 uses automatic mixed precision."""
    accumulate: int = 1
    """Parts that a worker's share of a batch is computed in, one after the other: memory for time."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "evaluate_every", "accumulate"):
            if getattr(self, name) < 1:
                raise ConfigError(f"loop.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("patience", "checkpoint_every_steps", "stop_after"):
            if getattr(self, name) < 0:
                raise ConfigError(f"loop.{name} must not be negative, got {getattr(self, name)}")

    @property
    def last_epoch(self) -> int:
        """Epochs that are done at most."""
        return min(self.epochs, self.stop_after or self.epochs)

    def batch_size_for(self, count: int, *, least: int = 64) -> int:
        """The batch size for ``count`` rows: smaller than asked for where the data is small.

        Else an epoch would be a step or two, and early stopping counts epochs.
        """
        return min(self.batch_size, max(least, count // MIN_STEPS))


@dataclass
class Position:
    """Where a run is. Everything else follows from it, the data and the weights."""

    epoch: int = 0
    step: int = 0  # within the epoch
    best: float = -math.inf  # the metric, or its opposite where lower is better
    best_epoch: int = -1
    evaluations_since_best: int = 0
    metrics: dict[str, float] = field(default_factory=dict)  # of the best evaluation
    data: str = ""  # what the batches are made of


class _Loss(nn.Module):
    """``model.loss`` as a forward pass: the form in which DistributedDataParallel averages gradients."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return cast(Learner[Batch], self.model).loss(batch)


class Loop:
    """One run of ``fit``; holds what its steps share."""

    def __init__(
        self,
        model: nn.Module,
        batches: BatchSource,
        validate: Callable[[nn.Module], Sums],
        *,
        config: LoopConfig,
        optim: OptimConfig,
        context: Context,
        seed: int,
        data: str,
    ) -> None:
        self.model, self.batches, self.validate = model.to(context.device), batches, validate
        self.config, self.optim, self.context, self.seed = config, optim, context, seed
        self.optimizer = build_optimizer(model, optim)
        self.fused = [module for module in model.modules() if isinstance(module, FusedOptimizer)]
        if self.fused and config.accumulate > 1:
            raise ConfigError(
                f"loop.accumulate {config.accumulate}: embedding tables update themselves in every backward "
                "pass, so their gradients cannot be added up first; set it to 1"
            )
        self.position = Position(data=(data := f"{data}, {batches.num_steps()} steps an epoch"))
        if (begun := context.resume_from or context.start_from) is not None:
            checkpoint.load(begun, model, self.optimizer)
        if context.resume_from is not None:
            self.position = Position(**checkpoint.progress(context.resume_from))
            if self.position.data != data:
                raise ConfigError(
                    f"the run was started on other data ({self.position.data}) than there is now ({data}): "
                    "bring the data back, or start a new run"
                )
            log.info("resumed at epoch %d, step %d", self.position.epoch, self.position.step)
        self.forward = _distribute(_Loss(model), context)
        self._draws_for_all = isinstance(model, DrawsForAll)
        self._saver = checkpoint.Saver(context.rank)
        self._tally, self._notice = stability.Tally(), Notice(context)
        self._unreported: dict[str, float] = {}
        self._last_shown_s, self._samples_since = time.monotonic(), 0
        self._trained, self._trained_s = 0, 0.0  # since the last report

    def run(self) -> None:
        while self.position.epoch < self.config.last_epoch and not self._exhausted():
            self.model.train()
            steps = self.batches.num_steps()
            while self.position.step < steps:
                self._step()
                self.position.step += 1
                if self._saver.busy and self._saver.done():
                    self._report()
                every, left = self.config.checkpoint_every_steps, steps - self.position.step
                due = every and self.position.step % every == 0
                if left and (due or self._notice.is_there()):
                    self._save({})
            self.position.epoch, self.position.step = self.position.epoch + 1, 0
            last = self.position.epoch == self.config.last_epoch
            if self.position.epoch % self.config.evaluate_every == 0 or last:
                self._evaluate()
        if self._saver.busy:
            self._report()

    def _exhausted(self) -> bool:
        return 0 < self.config.patience <= self.position.evaluations_since_best

    def _step(self) -> None:
        began_s, steps_per_epoch = time.monotonic(), self.batches.num_steps()
        total = steps_per_epoch * self.config.epochs
        global_step = self.position.epoch * steps_per_epoch + self.position.step
        self._set_learning_rate(learning_rate(self.optim, global_step, total))
        self.optimizer.zero_grad(set_to_none=True)
        value, samples = 0.0, 0
        for part in range(self.config.accumulate):
            loss, size = self._backward(part, global_step)
            value, samples = value + loss, samples + size
        norm = stability.gradient_norm(self.model)
        if not math.isfinite(norm_value := norm.item()):
            offender = self._blamed(stability.first_gradient_offender, global_step)
            said = stability.diagnosis(self.model, "gradient norm", norm_value, global_step, offender)
            raise TrainingError(said)
        if self.optim.max_grad_norm:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), self.optim.max_grad_norm, norm)
        self.optimizer.step()
        self._tally.add(value, norm_value)
        self._trained, self._trained_s = self._trained + samples, self._trained_s + time.monotonic() - began_s
        steps = steps_per_epoch * self.config.last_epoch
        self._show(global_step + 1, steps, value, samples * self.context.world_size)

    def _backward(self, part: int, global_step: int) -> tuple[float, int]:
        """Adds one part's gradients; returns (its share of this worker's loss, its size)."""
        self._seed(part, global_step)
        c, parts, batch = self.context, self.config.accumulate, self._batch(part)
        alone = isinstance(self.forward, DistributedDataParallel) and part < parts - 1
        if parts > 1 and batch.size == 0:
            raise ConfigError(
                f"loop.accumulate {parts} on {c.world_size} workers leaves part of step {global_step} empty: "
                "lower it, or raise loop.batch_size"
            )
        with cast(DistributedDataParallel, self.forward).no_sync() if alone else contextlib.nullcontext():
            with _autocast(self.config, c.device):
                loss = self.forward(batch)["loss"]
            if not math.isfinite(value := loss.item()):
                offender = self._blamed(stability.first_offender, global_step)
                raise TrainingError(stability.diagnosis(self.model, "loss", value, global_step, offender))
            # Gradients are averaged over workers: unequal shares must weigh what they hold.
            share = batch.size * c.world_size / batch.total if batch.total else 1.0 / parts
            (loss * share).backward()
        return value * share, batch.size

    def _seed(self, part: int, global_step: int) -> None:
        """What the parts of a worker's share draw goes on from part to part; what is drawn for the whole
        global batch is the same in each of them.
        """
        if self._draws_for_all:
            _seed_step(self.seed, global_step, 0)
        elif part == 0:
            _seed_step(self.seed, global_step, self.context.rank)

    def _batch(self, part: int) -> Batch:
        c, parts = self.context, self.config.accumulate
        share = c.rank * parts + part, c.world_size * parts
        return self.batches.batch(self.position.epoch, self.position.step, *share).to(c.device)

    def _blamed(self, find: Callable[[nn.Module, Callable[[], Tensor]], str], global_step: int) -> str:
        """What ``find`` says of this worker's step, repeated alone and with the same dropout."""
        if self.fused and self.context.world_size > 1:
            return "its tables are shared, so no worker can repeat the step alone and name a module"

        def repeated() -> Tensor:
            losses = []
            with _autocast(self.config, self.context.device):
                for part in range(self.config.accumulate):
                    self._seed(part, global_step)
                    losses.append(_Loss(self.model)(self._batch(part))["loss"])
            return torch.stack(losses).sum()

        return find(self.model, repeated)

    def _set_learning_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        for module in self.fused:
            module.scale_learning_rate(rate / self.optim.lr)

    def _show(self, step: int, total: int, loss: float, samples: int) -> None:
        self._samples_since += samples
        elapsed_s = time.monotonic() - self._last_shown_s
        if elapsed_s > PROGRESS_EVERY_S or step == total:
            rate = self._samples_since / max(elapsed_s, 1e-9)
            self.context.progress(Progress(step, total, self.position.epoch + 1, loss, rate))
            self._last_shown_s, self._samples_since = time.monotonic(), 0

    def _evaluate(self) -> None:
        self._notice.timed(reduce_sums(self._notice.took(), self.context)["step_s"])
        self.model.eval()
        with torch.no_grad():
            metrics = reduce_sums(self.validate(self.model), self.context)
        name, position = self.config.metric, self.position
        if not metrics:  # nothing is held out: the last weights are the best
            self._save({"score": float(position.epoch), **reduce_sums(self._tally.take(), self.context)})
            return
        if name not in metrics:
            raise ConfigError(f"loop.metric {name!r} is not measured; there is {sorted(metrics)}")
        if math.isnan(found := metrics[name]):
            raise TrainingError(
                f"validation {name} is not a number in epoch {position.epoch}: the validation part has "
                "nothing to tell apart (one label, no relevant item), or the model's scores are not finite"
            )
        position.evaluations_since_best += 1
        score = {}
        if (value := found if self.config.goal == "max" else -found) > position.best:
            position.best, position.best_epoch = value, position.epoch
            position.metrics, position.evaluations_since_best = metrics, 0
            score = {"score": position.best}
        if self.context.rank == 0:
            best = f"best {position.metrics[name]:.4f} in epoch {position.best_epoch}"
            log.info("epoch %d: validation %s %.4f, %s", position.epoch, name, found, best)
        self._save({**metrics, **score, **reduce_sums(self._tally.take(), self.context)})
        self._last_shown_s, self._samples_since = time.monotonic(), 0

    def _save(self, metrics: dict[str, float]) -> None:
        """Begins a checkpoint that continues exactly here; it is reported once it is written."""
        if self._saver.busy:
            self._report()
        self._saver.start(self.model, self.optimizer, asdict(self.position))
        best = {f"best_{k}": v for k, v in self.position.metrics.items()}
        position = {"epoch": float(self.position.epoch), "best_epoch": float(self.position.best_epoch)}
        self._unreported = {**metrics, **best, **position}
        self.context.trained(self._trained * self.context.world_size, self._trained_s)
        self._trained, self._trained_s = 0, 0.0

    def close(self) -> None:
        """Leaves nothing behind, whatever ended the run."""
        self._saver.discard()

    def _report(self) -> None:
        with self._saver.take() as folder:
            self.context.report(self._unreported, folder)


def fit(
    model: nn.Module,
    batches: BatchSource,
    validate: Callable[[nn.Module], Sums],
    *,
    config: LoopConfig,
    optim: OptimConfig,
    context: Context,
    seed: int = 0,
    data: str = "",
) -> Position:
    """Trains ``model`` in place and leaves it with its last weights; the best are in a checkpoint.

    Args:
        model: has ``loss(batch) -> {"loss": ...}``; the same on every rank.
        validate: this rank's share of the validation metrics as sums and counts; none where nothing is held
            out: then the last weights count as the best.
        context: from the launcher; carries rank, device, checkpoint to resume from.
        data: names what the batches are made of, such as its hash; a run is not resumed on other data.

    Raises:
        TrainingError: the loss or its gradient is not finite (names the step, the first module to blame
            and the parameter norms), or the validation metric is not a number.
        ConfigError: the checkpoint or the data does not fit, or the metric is not measured.
    """
    loop = Loop(model, batches, validate, config=config, optim=optim, context=context, seed=seed, data=data)
    try:
        loop.run()
    finally:
        loop.close()
    return loop.position


def reduce_sums(sums: Sums, context: Context) -> dict[str, float]:
    """(sum, count) over all workers, divided once; a metric that nobody counted is NaN."""
    if not sums:
        return {}
    names = sorted(sums)
    table = torch.tensor([sums[n] for n in names], dtype=torch.float64, device=context.device)
    if context.world_size > 1:
        dist.all_reduce(table)
    return {n: float(s / c) if c else math.nan for n, (s, c) in zip(names, table.tolist(), strict=True)}


def _distribute(module: _Loss, context: Context) -> nn.Module:
    if context.world_size == 1 or not any(weight.requires_grad for weight in module.parameters()):
        return module
    devices = [context.device] if context.device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=devices, forward_sync_buffers=False)


def _seed_step(seed: int, step: int, rank: int) -> None:
    # Large odd multipliers keep neighbouring steps and ranks apart.
    torch.manual_seed((seed * 0x9E3779B1 + step * 0x85EBCA77 + rank * 0xC2B2AE3D) % 2**63)


@contextlib.contextmanager
def _autocast(config: LoopConfig, device: torch.device) -> Iterator[None]:
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        yield
