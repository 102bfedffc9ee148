"""Two workers keep one codebook: codes that neither used are revived alike on both."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from recray.models.quantizer import QuantizerConfig, ResidualQuantizer

CONFIG = QuantizerConfig(levels=2, codebook_size=4, revive_every=2)


def work(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(CONFIG, dim=2)
    with torch.no_grad():  # code 0 is rank 0's, code 1 is rank 1's, the others are nobody's
        quantizer.codes_LCD[0] = torch.tensor([[0.0, 0.0], [10.0, 10.0], [90.0, 90.0], [99.0, 99.0]])
    torch.manual_seed(rank)  # as the loop seeds: each rank draws for itself
    for _ in range(3):
        quantizer(torch.randn(20, 2) + 10 * rank)
    torch.save(quantizer.codes_LCD.detach(), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_workers_revive_the_same_codes(tmp_path: Path) -> None:
    spawn(work, args=(tmp_path,), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert torch.equal(first, second)
    assert first[0, :2].tolist() == [[0.0, 0.0], [10.0, 10.0]]  # each was used by one of them: stays
    assert float(first[0, 2:].max()) < 20  # moved to rows
