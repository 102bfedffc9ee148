"""RQ-VAE: trained on item content, resumed bit for bit, stopped where a level collapses."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from recray.config import ConfigError
from recray.data.content.vectors import ContentConfig
from recray.data.events.split_data import DataConfig
from recray.models.quantizer import QuantizerConfig
from recray.models.rqvae import RQVAE, RQVAEConfig
from recray.recipes.rqvae import RQVAE_RECIPE, RQVAERun
from recray.track import history
from recray.train.context import Context
from recray.train.loop import LoopConfig, TrainingError


def run_of(**quantizer: Any) -> RQVAERun:
    codes = QuantizerConfig(codebook_size=16, revive_every=5, **quantizer)
    return RQVAERun(
        data=DataConfig(dataset="synthetic"),
        content=ContentConfig(dim=32),
        model=RQVAEConfig(hidden_dims=(32,), latent_dim=8, quantizer=codes),
        loop=LoopConfig(epochs=4, batch_size=256, metric="reconstruction", goal="min", patience=0),
    )


class Interrupted(Exception):
    pass


def trained(run: RQVAERun, folder: Path, resume: Path | None = None, stop_after: int = 99) -> RQVAE:
    """Trains, keeping each checkpoint as ``folder/<epoch>``, and what it reports."""

    def report(metrics: dict[str, float], checkpoint: Path | None) -> None:
        assert checkpoint is not None
        history.append(folder, metrics)
        shutil.copytree(checkpoint, folder / f"{metrics['epoch']:.0f}")
        if metrics["epoch"] == stop_after:
            raise Interrupted

    return RQVAE_RECIPE.work(run, Context(resume_from=resume, report=report))


def test_resume_continues_temperature_weights_and_curve(tmp_path: Path) -> None:
    run = run_of(estimator="gumbel", temperature_steps=20)
    for part in ("whole", "parts"):
        (tmp_path / part).mkdir()
    whole = trained(run, tmp_path / "whole")
    with pytest.raises(Interrupted):
        trained(run, tmp_path / "parts", stop_after=2)
    resumed = trained(run, tmp_path / "parts", resume=tmp_path / "parts" / "2")
    assert resumed.quantizer.temperature() == whole.quantizer.temperature()
    assert resumed.quantizer.temperature() < run.model.quantizer.temperature_start
    assert int(resumed.quantizer.step) == int(whole.quantizer.step) > 0
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    curve = history.read(tmp_path / "whole")
    assert [report["epoch"] for report in curve] == [1, 2, 3, 4]
    assert history.read(tmp_path / "parts") == curve


def test_a_collapse_stops_the_run_and_names_the_level() -> None:
    run = replace(run_of(), alarm=1.0, alarm_after_steps=1)
    codes = replace(run.model.quantizer, codebook_size=600, revive_every=0)  # too many for these items
    run = replace(run, model=replace(run.model, quantizer=codes))
    with pytest.raises(TrainingError, match=r"level \d collapsed: \d+\.\d% of its codes are in use"):
        RQVAE_RECIPE.work(run, Context())


def test_the_alarm_waits_for_its_step() -> None:
    run = replace(run_of(), alarm=1.0, alarm_after_steps=1000)
    codes = replace(run.model.quantizer, codebook_size=600, revive_every=0)
    run = replace(run, model=replace(run.model, quantizer=codes), loop=replace(run.loop, epochs=1))
    trained = RQVAE_RECIPE.work(run, Context())
    assert 0 < int(trained.quantizer.step) < 1000  # it came to its end, unalarmed


def test_presets_name_their_data_and_refuse_nonsense() -> None:
    assert all(
        run.data.dataset == name for name, (_, run) in RQVAE_RECIPE.presets.items() if name != "custom"
    )
    with pytest.raises(ConfigError, match="alarm must be a share"):
        replace(run_of(), alarm=2.0)
