"""The training loop: exact resume, early stopping, and the errors of a run that cannot go on."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from torch import nn

from recray import checkpoint
from recray.batch import PairBatch, SequenceBatch
from recray.config import ConfigError
from recray.models.decoder import Decoder, DecoderConfig
from recray.models.two_tower import TwoTower, TwoTowerConfig
from recray.train.context import Context, Progress
from recray.train.loop import LoopConfig, Position, TrainingError, fit, reduce_sums
from recray.train.optim import OptimConfig, learning_rate
from tests.planted import SCHEMA, SEMANTIC_IDS, SEMANTIC_SCHEMA, PlantedBatches, planted_sequences

OPTIM = OptimConfig(lr=0.05, schedule="cosine", warmup_steps=5, weight_decay=0.01, max_grad_norm=1.0)


Validate: TypeAlias = Callable[[nn.Module], dict[str, tuple[float, float]]]


def model() -> TwoTower:
    torch.manual_seed(0)
    return TwoTower(TwoTowerConfig(embedding_dim=8, dropout=0.2), SCHEMA)


def falling(_: nn.Module) -> dict[str, tuple[float, float]]:
    return {"ndcg@10": (1.0, 2.0)}


class Interrupted(Exception):
    """Stands for a killed worker: nothing of the process survives but its checkpoints."""


class Keeper:
    """Keeps every reported checkpoint; after ``stop_after`` of them the process 'dies'."""

    def __init__(self, folder: Path, stop_after: int = 0) -> None:
        self.folder, self.stop_after = folder, stop_after
        self.kept: list[Path] = []
        self.metrics: list[dict[str, float]] = []

    def __call__(self, metrics: dict[str, float], folder: Path | None) -> None:
        assert folder is not None
        self.metrics.append(metrics)
        self.kept.append(Path(shutil.copytree(folder, self.folder / str(len(self.kept)))))
        if len(self.kept) == self.stop_after:
            raise Interrupted


def train(context: Context, validate: Validate = falling, **changes: Any) -> tuple[TwoTower, Position]:
    settings: dict[str, Any] = {"epochs": 4, "patience": 0, "checkpoint_every_steps": 3, **changes}
    config = LoopConfig(**settings)
    trained = model()
    position = fit(trained, PlantedBatches(), validate, config=config, optim=OPTIM, context=context, seed=7)
    return trained, position


def improving(m: nn.Module) -> dict[str, tuple[float, float]]:
    """A real measurement: what the model thinks of the planted pairs."""
    assert isinstance(m, TwoTower)
    return {"ndcg@10": (-float(m.loss(PlantedBatches().batch(99, 0))["loss"]), 1.0)}


@pytest.mark.parametrize("stop_after", [1, 3, 4, 9])
def test_a_resumed_run_ends_with_bit_equal_weights(tmp_path: Path, stop_after: int) -> None:
    whole, whole_position = train(Context(), improving)
    keeper = Keeper(tmp_path, stop_after)
    with pytest.raises(Interrupted):
        train(Context(report=keeper), improving)
    resumed, position = train(Context(resume_from=keeper.kept[-1]), improving)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert position == whole_position


def test_the_best_evaluation_is_reported_with_a_score_and_its_weights(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    scores = iter([0.1, 0.9, 0.2, 0.3, 0.4, 0.5])
    seen: list[dict[str, torch.Tensor]] = []

    def validate(m: nn.Module) -> dict[str, tuple[float, float]]:
        seen.append({k: v.clone() for k, v in m.state_dict().items()})
        return {"ndcg@10": (next(scores), 1.0)}

    context = Context(report=keeper)
    _, position = train(context, validate, epochs=6, patience=3, checkpoint_every_steps=0)
    assert (position.best, position.best_epoch, len(seen)) == (0.9, 2, 5)  # stopped after three worse ones
    assert [metrics.get("score") for metrics in keeper.metrics] == [0.1, 0.9, None, None, None]
    best = model()
    checkpoint.load_model(keeper.kept[1], best)
    assert all(torch.equal(v, seen[1][k]) for k, v in best.state_dict().items())


def test_stopping_after_some_epochs_is_the_beginning_of_the_whole_run(tmp_path: Path) -> None:
    shown: list[Progress] = []
    context = Context(progress=shown.append)
    stopped, position = train(context, improving, epochs=6, stop_after=2, checkpoint_every_steps=0)
    assert position.epoch == 2
    assert shown[-1].step == shown[-1].total_steps
    keeper = Keeper(tmp_path)
    train(Context(report=keeper), improving, epochs=6, checkpoint_every_steps=0)
    whole = model()
    checkpoint.load_model(keeper.kept[1], whole)  # of its second epoch
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in stopped.state_dict().items())


def test_where_nothing_is_held_out_the_last_weights_are_the_best(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    trained, _ = train(Context(report=keeper), lambda _: {}, epochs=3, patience=1, checkpoint_every_steps=0)
    assert [metrics["score"] for metrics in keeper.metrics] == [1, 2, 3]
    assert all("train_loss" in metrics for metrics in keeper.metrics)
    last = model()
    checkpoint.load_model(keeper.kept[-1], last)
    assert all(torch.equal(value, last.state_dict()[name]) for name, value in trained.state_dict().items())


def test_training_learns_and_reports_progress() -> None:
    shown: list[Progress] = []
    trained, _ = train(Context(progress=shown.append), improving, epochs=10)
    with torch.no_grad():
        before, after = improving(model())["ndcg@10"][0], improving(trained.train())["ndcg@10"][0]
    assert after > 0.7 * before
    assert shown[-1].step == shown[-1].total_steps == 100
    assert shown[-1].samples_per_s > 0


def test_a_loss_that_is_not_finite_stops_with_step_and_norms() -> None:
    class Exploding(TwoTower):
        def loss(self, batch: PairBatch) -> dict[str, torch.Tensor]:
            return {"loss": super().loss(batch)["loss"] * (float("nan") if self.calls() == 12 else 1)}

        def calls(self) -> int:
            self.count = getattr(self, "count", -1) + 1
            return self.count

    exploding = Exploding(TwoTowerConfig(embedding_dim=8), SCHEMA)
    with pytest.raises(TrainingError, match=r"loss is nan at step 12.*norms: .*ids.weight.*Lower optim.lr"):
        fit(exploding, PlantedBatches(), falling, config=LoopConfig(), optim=OPTIM, context=Context())


def test_lower_is_better_where_the_goal_says_so(tmp_path: Path) -> None:
    keeper, losses = Keeper(tmp_path), iter([0.5, 0.3, 0.4])

    def validate(_: nn.Module) -> dict[str, tuple[float, float]]:
        return {"logloss": (next(losses), 1.0)}

    changes = {"epochs": 3, "metric": "logloss", "goal": "min", "checkpoint_every_steps": 0}
    _, position = train(Context(report=keeper), validate, **changes)
    assert position.best_epoch == 2
    assert position.metrics == {"logloss": 0.3}
    assert [metrics.get("score") for metrics in keeper.metrics] == [-0.5, -0.3, None]


def test_a_metric_that_is_no_number_stops_the_run() -> None:
    with pytest.raises(TrainingError, match=r"validation ndcg@10 is not a number in epoch 1: .*one label"):
        train(Context(), lambda _: {"ndcg@10": (0.0, 0.0)})


def test_a_run_is_not_resumed_on_other_data(tmp_path: Path) -> None:
    def run(context: Context, data: str) -> None:
        config = LoopConfig(epochs=4, patience=0, checkpoint_every_steps=3)
        fit(model(), PlantedBatches(), falling, config=config, optim=OPTIM, context=context, data=data)

    keeper = Keeper(tmp_path, 2)
    with pytest.raises(Interrupted):
        run(Context(report=keeper), "events 1a2b")
    with pytest.raises(ConfigError, match=r"other data \(events 1a2b, 10 steps an epoch\) than there is now"):
        run(Context(resume_from=keeper.kept[-1]), "events ffff")


def test_a_run_that_fails_leaves_no_checkpoint_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(TrainingError):
        train(Context(report=lambda *_: None), lambda _: {"ndcg@10": (0.0, 0.0)})
    assert not list(tmp_path.glob("recray-checkpoint-*"))


def test_a_metric_that_is_not_measured_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'ndcg@5' is not measured; there is \['ndcg@10'\]"):
        train(Context(), metric="ndcg@5")


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, 1)
    with pytest.raises(Interrupted):
        train(Context(report=keeper))
    other = TwoTower(TwoTowerConfig(embedding_dim=16), SCHEMA)
    with pytest.raises(ConfigError, match="does not fit this model"):
        checkpoint.load_model(keeper.kept[0], other)
    (keeper.kept[0] / checkpoint.PROGRESS).unlink()
    with pytest.raises(ConfigError, match="not a finished checkpoint"):
        checkpoint.load_model(keeper.kept[0], model())


class UnevenSequences:
    """Sequences whose shares hold unequal numbers of targets."""

    def num_steps(self) -> int:
        return 4

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> SequenceBatch:
        whole = planted_sequences(31, seed=10 * epoch + step)
        rows = torch.arange(31)[rank::world_size]
        users_B, first_B = whole.user_ids_B[rows], whole.first_target_B[rows]
        times_N = whole.times_N[whole.items.positions_of(rows)]
        return SequenceBatch(users_B, whole.items.take(rows), times_N, first_B, whole.size)


def test_gradients_accumulated_over_parts_are_those_of_the_whole_batch() -> None:
    def trained(accumulate: int) -> list[torch.Tensor]:
        torch.manual_seed(0)
        config = DecoderConfig(dim=8, num_heads=2, feedforward_dim=8, dropout=0.0, user_dropout=0.0)
        decoder = Decoder(config, SEMANTIC_SCHEMA)
        decoder.set_semantic_ids(SEMANTIC_IDS)
        loop = LoopConfig(epochs=2, patience=0, accumulate=accumulate)
        optim = OptimConfig(method="sgd", lr=0.1)
        fit(decoder, UnevenSequences(), falling, config=loop, optim=optim, context=Context())
        return [weight.detach() for weight in decoder.parameters()]

    for parts in (2, 3):
        for whole, accumulated in zip(trained(1), trained(parts), strict=True):
            torch.testing.assert_close(accumulated, whole, atol=1e-6, rtol=1e-5)


def test_tables_that_update_themselves_do_not_accumulate() -> None:
    class Table(TwoTower):
        def scale_learning_rate(self, factor: float) -> None: ...

        def optimizer_state(self) -> dict[str, torch.Tensor]:
            return {}

    with pytest.raises(ConfigError, match=r"loop.accumulate 2: embedding tables update themselves"):
        fit(
            Table(TwoTowerConfig(embedding_dim=8), SCHEMA),
            PlantedBatches(),
            falling,
            config=LoopConfig(accumulate=2),
            optim=OPTIM,
            context=Context(),
        )


def test_learning_rate_schedules() -> None:
    config = OptimConfig(lr=1.0, schedule="linear", warmup_steps=4)
    rates = [learning_rate(config, step, 14) for step in range(14)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:6] == [1.0, 0.9]
    cosine = OptimConfig(lr=1.0, schedule="cosine")
    assert [round(learning_rate(cosine, s, 4), 4) for s in range(4)] == [1.0, 0.8536, 0.5, 0.1464]
    assert learning_rate(OptimConfig(lr=0.3), 999, 1000) == 0.3


def test_reduce_sums_divides_once() -> None:
    assert reduce_sums({"a": (3.0, 4.0), "b": (0.0, 0.0)}, Context())["a"] == 0.75


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (OptimConfig, {"lr": 0.0}, "lr must be a positive number, got 0.0"),
        (OptimConfig, {"weight_decay": -1.0}, "must not be negative"),
        (LoopConfig, {"epochs": 0}, "epochs must be at least 1, got 0"),
    ],
)
def test_configs_refuse_nonsense(
    kind: type[OptimConfig | LoopConfig], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**changes)


def test_two_towers_do_not_notice_how_many_parts_a_batch_has() -> None:
    """Nor how many workers: dropout, negatives and weights are those of the global batch."""

    def weights(accumulate: int) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = TwoTower(TwoTowerConfig(embedding_dim=8, dropout=0.3), SCHEMA)
        config = LoopConfig(epochs=2, patience=0, accumulate=accumulate)
        fit(
            model,
            PlantedBatches(),
            lambda _: {},
            config=config,
            optim=OptimConfig(lr=0.01),
            context=Context(),
            seed=3,
        )
        return list(model.parameters())

    for one, other in zip(weights(1), weights(2), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
