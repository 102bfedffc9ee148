"""Sequence recipes: resumed bit for bit, the same on two workers, and no waits where there are no times."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from recray.config import ConfigError
from recray.data.events.split_data import DataConfig, open_split
from recray.models.gru4rec import GRU4RecConfig
from recray.models.hstu import HSTUConfig
from recray.models.sasrec import SASRecConfig
from recray.models.ss4rec import SS4RecConfig
from recray.recipes.sequence import (
    GRU4REC,
    HSTU,
    SASREC,
    SS4REC,
    GRU4RecRun,
    HSTURun,
    SASRecRun,
    SS4RecRun,
)
from recray.train.context import Context
from recray.train.loop import LoopConfig
from recray.train.optim import OptimConfig

NAMES = ["sasrec", "gru4rec", "hstu", "s5+mamba", "s5", "mamba"]


def run(name: str, file: Path, **model: Any) -> Any:
    shared: Any = {
        "data": DataConfig(dataset=str(file)),
        "loop": LoopConfig(batch_size=16, epochs=2),
        "optim": OptimConfig(lr=1e-2),
    }
    if name == "sasrec":
        return SASRecRun(model=SASRecConfig(dim=16, hidden_dim=16, max_items=5, dropout=0.0), **shared)
    if name == "gru4rec":
        return GRU4RecRun(model=GRU4RecConfig(dim=16, hidden_dim=16, max_items=5, dropout=0.0), **shared)
    if name == "hstu":
        narrow = {"dim": 16, "attention_dim": 8, "value_dim": 8, "max_items": 5, "dropout": 0.0}
        return HSTURun(model=HSTUConfig(**{**narrow, **model}), **shared)
    size = {"dim": 16, "s5_states": 4, "channels": 16, "mamba_states": 4, "max_items": 5, "dropout": 0.0}
    return SS4RecRun(model=SS4RecConfig(**{**size, "parts": name, **model}), **shared)


def train(run: Any, context: Context) -> Any:
    recipes: Any = {SASRecRun: SASREC, GRU4RecRun: GRU4REC, HSTURun: HSTU, SS4RecRun: SS4REC}
    return recipes[type(run)].work(run, context)


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 users with 3 to 12 events over 15 items."""
    generator = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("events") / "events.csv"
    lines = ["user,item,timestamp"]
    for user in range(40):
        waits = generator.integers(0, 10_000, generator.integers(3, 13))
        times = 10**9 + np.cumsum(waits)
        lines += [f"{user},{generator.integers(15)},{time}" for time in times]
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_ends_with_bit_equal_weights(name: str, events: Path, tmp_path: Path) -> None:
    kept: list[Path] = []

    def keep(_: dict[str, float], folder: Path | None) -> None:
        assert folder is not None
        kept.append(Path(shutil.copytree(folder, tmp_path / str(len(kept)))))

    whole: Any = train(run(name, events), Context(report=keep))
    resumed: Any = train(run(name, events), Context(resume_from=kept[0]))
    for weight, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[weight]), weight


def work(rank: int, events: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name in NAMES:
        model: Any = train(run(name, events), Context(rank=rank, world_size=2))
        torch.save(model.state_dict(), folder / f"{name}-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_learn_what_one_learns(events: Path, tmp_path: Path) -> None:
    open_split(DataConfig(dataset=str(events)))  # once, not by both at the same time
    spawn(work, args=(events, tmp_path), nprocs=2)
    for name in NAMES:
        first, second = (torch.load(tmp_path / f"{name}-{rank}.pt") for rank in range(2))
        alone: Any = train(run(name, events), Context())
        for weight, value in alone.state_dict().items():
            assert torch.equal(first[weight], second[weight]), (name, weight)
            torch.testing.assert_close(first[weight], value, rtol=1e-3, atol=1e-4, msg=f"{name} {weight}")


def test_waits_need_times(tmp_path: Path) -> None:
    file = tmp_path / "untimed.csv"
    file.write_text("user,item\n" + "".join(f"{n % 5},{n // 5}\n" for n in range(60)))
    with pytest.raises(ConfigError, match="has no times .*row numbers.*--model.interval none"):
        train(run("s5+mamba", file), Context())
    assert train(run("s5+mamba", file, interval="none"), Context()) is not None
    assert train(run("mamba", file), Context()) is not None
    with pytest.raises(ConfigError, match="has no times .*row numbers.*--model.no-time-bias"):
        train(run("hstu", file), Context())
    assert train(run("hstu", file, time_bias=False), Context()) is not None
    sequences = tmp_path / "ordered.txt"
    sequences.write_text("".join(f"u{n} {n % 7} {n % 5} {n % 3} {n % 11}\n" for n in range(12)))
    with pytest.raises(ConfigError, match="has no times .*positions in each user's sequence"):
        train(run("s5+mamba", sequences), Context())
