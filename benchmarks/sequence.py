"""Sequence models beside what others use: epochs and time to quality against RecBole, scans against theirs.

``python -m benchmarks.sequence [--rounds 5] [--only scans memory epochs] [--gpu]``: 2 threads on both sides.
Scans take turns; RecBole trains its SASRec for two epochs first, in its own environment, and its validation
NDCG@10 after them, by recray's evaluation, is the quality that ours has to reach. Memory is the peak of a
process of its own per length. The last line is one JSON object.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks import scan_peers
from benchmarks.load import Load, watched
from benchmarks.turns import medians, ratio, taking_turns
from recray.batch import Jagged, SequenceBatch
from recray.config import ConfigError
from recray.contract import Learner
from recray.data.batches.sequences import SequenceBatches
from recray.models import build
from recray.ops.scans import Backend, s5_scan, selective_scan
from recray.peers.recbole import RecBoleRun, train_recbole
from recray.recipes import RECIPES
from recray.schema import FeatureSchema
from recray.train.context import Context
from recray.train.optim import build_optimizer

RESULT = Path(__file__).parent / "results" / "sequence.json"
TARGETS = {
    "sasrec_epoch_speedup": 50.0,
    "ss4rec_epoch_speedup": 50.0,
    "sasrec_time_to_quality_speedup": 10.0,
    "selective_scan_speedup": 8.0,
    "s5_scan_speedup": 4.0,
}
THREADS, DATASET = 2, "ml-100k"
ROWS, LENGTH = 64, 200  # of the scans
CHANNELS, STATES = 128, 32  # of the selective scan
WIDTH, POLES = 64, 32  # of S5
LENGTHS = (50, 100, 200, 400, 800)
MODELS = ("sasrec", "ss4rec")


def forward_backward(work: Callable[[], Tensor], leaves: list[Tensor]) -> Callable[[], object]:
    def step() -> None:
        torch.autograd.grad(work().sum(), leaves)
        if leaves[0].is_cuda:
            torch.cuda.synchronize()

    return step


def scans(rounds: int, backend: Backend = "auto", device: str = "cpu") -> dict[str, Any]:
    """Forward and backward, all inputs with gradients, rows of equal length."""
    result: dict[str, Any] = {}
    for name, sides in (("selective_scan", _selective_sides), ("s5_scan", _s5_sides)):
        times = taking_turns(sides(backend, torch.device(device)), rounds)
        result[name] = medians(times)
        result[f"{name}_speedup"] = ratio(times, "peer", "recray")
    return result


def gpu(rounds: int) -> dict[str, Any]:
    """The scans on a CUDA device, by backend, in milliseconds and against the card's bandwidth."""
    block = torch.empty(2**28, device="cuda")
    copied = taking_turns({"copy": _synchronised(block.clone)}, rounds)["copy"]
    result: dict[str, Any] = {"copy_gb_per_s": round(2 * block.nbytes / statistics.median(copied) / 1e6)}
    tokens = ROWS * LENGTH
    moved = {  # read and written at least: forward, then backward
        "selective_scan": 4 * tokens * (3 * CHANNELS + 2 * STATES + 5 * CHANNELS + 4 * STATES),
        "s5_scan": 4 * tokens * (2 * WIDTH + 3 * WIDTH),
    }
    backends: tuple[Backend, ...] = ("triton", "torch", "mamba_ssm")
    for backend in backends:
        try:
            found = scans(rounds, backend, "cuda")
        except ConfigError as error:
            found = {"not_run": str(error)}
        for name, size in moved.items():
            if name in found:
                found[name]["gb_per_s"] = round(size / found[name]["recray_ms"] / 1e6, 1)
        result[backend] = found
    return result


def _synchronised(work: Callable[[], object]) -> Callable[[], object]:
    def step() -> None:
        work()
        torch.cuda.synchronize()

    return step


def _selective_sides(backend: Backend, device: torch.device) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    shape = (ROWS, LENGTH)
    u, delta = torch.randn(*shape, CHANNELS, device=device), 0.1 * torch.rand(*shape, CHANNELS, device=device)
    a_ES = -torch.rand(CHANNELS, STATES, device=device) * STATES
    d_E = torch.ones(CHANNELS, device=device)
    b, c = torch.randn(*shape, STATES, device=device), torch.randn(*shape, STATES, device=device)
    leaves = [x.requires_grad_() for x in (u, delta, a_ES, b, c, d_E)]
    offsets_B = torch.arange(ROWS + 1, device=device) * LENGTH

    def ours() -> Tensor:
        u_NE, delta_NE, b_NS, c_NS = (x.flatten(0, 1) for x in (u, delta, b, c))
        return selective_scan(u_NE, delta_NE, a_ES, b_NS, c_NS, d_E, offsets_B, backend=backend)

    def theirs() -> Tensor:
        return scan_peers.selective_scan(u, delta, a_ES, b, c, d_E)

    torch.testing.assert_close(ours().view(*shape, CHANNELS), theirs(), rtol=1e-4, atol=1e-4)
    return {"recray": forward_backward(ours, leaves), "peer": forward_backward(theirs, leaves)}


def _s5_sides(backend: Backend, device: torch.device) -> dict[str, Callable[[], object]]:
    """S5 with its projections, against s5-pytorch's module with the same weights and steps of equal length.

    Steps may vary in ours at no cost; there they make matrices for every step, which is slower by far.
    """
    from s5 import S5

    torch.manual_seed(0)
    peer = S5(width=WIDTH, state_width=POLES).to(device)
    weights = peer.seq
    u_BTD = torch.randn(ROWS, LENGTH, WIDTH, device=device, requires_grad=True)
    intervals_N = torch.ones(ROWS * LENGTH, device=device)
    offsets_B = torch.arange(ROWS + 1, device=device) * LENGTH

    def ours() -> Tensor:
        u_ND = u_BTD.flatten(0, 1)
        into_DP = weights.B.permute(1, 0, 2).flatten(1)  # (real part, imaginary part) of each state
        inputs_NP = torch.view_as_complex((u_ND @ into_DP).view(len(u_ND), POLES, 2))
        rates_P = weights.log_step.flatten().exp()
        states_NP = s5_scan(inputs_NP, intervals_N, weights.Lambda, rates_P, offsets_B, backend=backend)
        out_PD = torch.view_as_real(weights.C.T.conj().resolve_conj()).transpose(1, 2).flatten(0, 1)
        found_ND: Tensor = torch.view_as_real(states_NP).flatten(1) @ out_PD + weights.D * u_ND
        return found_ND

    def theirs() -> Tensor:
        found: Tensor = peer(u_BTD)
        return found

    torch.testing.assert_close(ours().view(u_BTD.shape), theirs(), rtol=1e-4, atol=1e-4)
    leaves = [u_BTD, *peer.parameters()]
    return {"recray": forward_backward(ours, leaves), "peer": forward_backward(theirs, leaves)}


def memory(rows: int = 16) -> dict[str, Any]:
    """Peak bytes of a forward and backward pass over ``rows`` sequences, by model and length."""
    spawn = multiprocessing.get_context("spawn")
    result: dict[str, Any] = {}
    for model in MODELS:
        with spawn.Pool(1, maxtasksperchild=1) as pool:
            peaks = [pool.apply(_peak_bytes, (model, rows, length)) for length in LENGTHS]
        result[f"{model}_mib"] = [round(peak / 2**20, 1) for peak in peaks]
        result[f"{model}_growth"] = round(peaks[-1] / peaks[0], 2)
    return {"lengths": list(LENGTHS), "length_growth": LENGTHS[-1] / LENGTHS[0]} | result


def _peak_bytes(name: str, rows: int, length: int) -> int:
    torch.set_num_threads(1)
    run = RECIPES[name].presets[DATASET][1]
    schema = FeatureSchema(num_users=rows, num_items=1682)
    model = cast(Learner[SequenceBatch], build(name, replace(run.model, max_items=length), schema))
    _train_on(model, rows, 2)
    before = _high_water_bytes()
    _train_on(model, rows, length)
    return _high_water_bytes() - before


def _train_on(model: Learner[SequenceBatch], rows: int, length: int) -> None:
    items = torch.randint(1682, (rows * (length + 1),))
    jagged = Jagged(items, torch.arange(rows + 1) * (length + 1))
    times_N = 60 * torch.arange(length + 1).repeat(rows)
    first = torch.ones(rows, dtype=torch.int64)
    model.loss(SequenceBatch(torch.zeros_like(first), jagged, times_N, first))["loss"].backward()


def _high_water_bytes() -> int:
    [line] = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


def epochs(rounds: int) -> dict[str, Any]:
    """Seconds of an epoch, and until the validation that RecBole has after two."""
    theirs = train_recbole(RecBoleRun(dataset=DATASET, model="SASRec", epochs=2, threads=THREADS))
    recbole_s = statistics.median(record.train_s for record in theirs.history)
    quality = theirs.history[-1].validation
    result: dict[str, Any] = {
        "recbole_epoch_s": round(recbole_s, 1),
        "recbole_two_epochs_s": round(theirs.history[-1].elapsed_s, 1),
        "quality": round(quality, 4),
    }
    for name in MODELS:
        times = [_epoch_s(name, epoch) for epoch in range(rounds + 1)][1:]
        result[f"{name}_epoch_s"] = round(statistics.median(times), 2)
        result[f"{name}_epoch_speedup"] = round(recbole_s / statistics.median(times), 1)
        reached_s, reached = _time_to(name, quality)
        result[f"{name}_to_quality_s"], result[f"{name}_reached"] = round(reached_s, 1), round(reached, 4)
        result[f"{name}_time_to_quality_speedup"] = round(theirs.history[-1].elapsed_s / reached_s, 1)
    return result


def _epoch_s(name: str, epoch: int) -> float:
    run = RECIPES[name].presets[DATASET][1]
    data = RECIPES[name].open(run)
    model = RECIPES[name].new(run, data).train()
    batches = SequenceBatches(data.dataset, data.split.train_N, run.loop.batch_size, run.model.max_items)
    optimizer = build_optimizer(model, run.optim)
    began = time.perf_counter()
    for step in range(batches.num_steps()):
        optimizer.zero_grad()
        model.loss(batches.batch(epoch, step))["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    return time.perf_counter() - began


class _ReachedError(Exception):
    pass


def _time_to(name: str, quality: float) -> tuple[float, float]:
    """(seconds of training and validation, NDCG@10) at the end of the first epoch that has the quality."""
    found: list[float] = []

    def report(metrics: dict[str, float], _: Path | None) -> None:
        found.append(metrics["ndcg@10"])
        if found[-1] >= quality:
            raise _ReachedError

    run = RECIPES[name].presets[DATASET][1]
    RECIPES[name].open(run)
    began = time.perf_counter()
    try:
        RECIPES[name].work(run, Context(report=report))
    except _ReachedError:
        return time.perf_counter() - began, found[-1]
    raise SystemExit(f"{name} did not reach {quality:.4f}, it reached {max(found):.4f}")


@watched
def main(load: Load) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=("scans", "memory", "epochs"))
    parser.add_argument("--gpu", action="store_true", help="the scans on a CUDA device, and nothing else")
    args = parser.parse_args()
    if args.gpu:
        load.finish(gpu(args.rounds), RESULT.with_stem("sequence-gpu"))
        return
    torch.set_num_threads(THREADS)
    chosen = args.only or ("epochs", "scans", "memory")
    result: dict[str, Any] = {"threads": THREADS}
    if "epochs" in chosen:
        result |= epochs(args.rounds)
    if "scans" in chosen:
        result |= scans(args.rounds)
    if "memory" in chosen:
        result["memory"] = memory()
    missed = {k: v for k, v in TARGETS.items() if result.get(k, v) < v}
    result["missed"] = missed
    load.finish(result, None if args.only else RESULT)


if __name__ == "__main__":
    main()
