"""Generative retrieval against its plain forms: decoding, training on jagged rows, RQ-VAE, one HTTP request.

``python -m benchmarks.generative [--rounds 5] [--no-http]``: 12,101 items, 10 beams, histories of 20 items,
the sizes of a published orientation. Both sides of a ratio have the same weights and take turns, so that what
else the machine does falls on both; a ratio is the median over rounds. The last line is one JSON object.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import generative_peers as peers
from benchmarks import generative_world as world
from benchmarks.load import Load, watched
from benchmarks.load_client import run as run_clients
from benchmarks.turns import medians, ratio, taking_turns
from recray.batch import ContentBatch, SequenceBatch
from recray.models.decoder import Decoder, DecoderConfig
from recray.models.rqvae import RQVAE, RQVAEConfig
from recray.schema import ContentSchema
from recray.train.optim import OptimConfig, build_optimizer

RESULT = Path(__file__).parent / "results" / "generative.json"
TARGETS = {"decode_speedup": 10.0, "jagged_speedup": 1.5}
ORIENTATION = {
    "request_ms": 89.0,
    "batch_of_16_ms": 1410.0,
    "train_sequences_per_s": 36.0,
    "rqvae_items_per_s": 26_700.0,
}
"""A widely used public implementation at these sizes, on 2 cores."""
TRAIN_BATCH, RQVAE_BATCH, CONTENT_DIM = 64, 640, 768
HTTP_SECONDS = 10.0


def decoding(config: DecoderConfig, batch_size: int, rounds: int) -> dict[str, Any]:
    """Beam search with trie and cache, against a scan of all codes and no cache."""
    model, queries, k = world.decoder(config), world.queries(batch_size), world.BEAMS
    times = taking_turns(
        {
            "recray": lambda: model.generate(queries, k, beams=world.BEAMS),
            "no_cache": lambda: peers.decode(model, queries, k, world.BEAMS, encode_once=False),
            "no_cache_encode_once": lambda: peers.decode(model, queries, k, world.BEAMS, encode_once=True),
        },
        rounds,
    )
    return {
        **medians(times),
        "speedup": ratio(times, "no_cache", "recray"),
        "speedup_over_encode_once": ratio(times, "no_cache_encode_once", "recray"),
        "equal": equal_results(model, batch_size),
    }


def equal_results(model: Decoder, count: int) -> bool:
    """Whether both references find the same items in the same order, scores to 1e-4, for further queries."""
    queries, k, ids = world.queries(count, seed=1), world.BEAMS, world.semantic_ids()
    found = model.generate(queries, k, beams=k)
    for encode_once in (True, False):
        expected = peers.decode(model, queries, k, k, encode_once=encode_once)
        for row, beams in enumerate(expected):
            items = [ids.items(beam.codes)[0] for beam in beams]
            scores = np.array([beam.score for beam in beams])
            close = np.abs(scores - found.scores_BK[row].numpy()).max() < 1e-4
            if items != found.item_ids_BK[row].tolist() or not close:
                return False
    return True


def training(
    config: DecoderConfig, batches: list[SequenceBatch], rounds: int, *, bfloat16: bool = False
) -> dict[str, Any]:
    """Steps on jagged rows, against the same model in a loop that pads them."""
    config = replace(config, dropout=0.0, user_dropout=0.0, softmax="codebook")
    jagged, padded = world.decoder(config).train(), world.decoder(config).train()
    jagged_optimizer, padded_optimizer = (build_optimizer(m, OptimConfig(lr=1e-5)) for m in (jagged, padded))

    def jagged_steps() -> None:
        for batch in batches:
            with mixed(bfloat16):
                loss = jagged.loss(batch)["loss"]
            step(jagged_optimizer, loss)

    def padded_steps() -> None:
        for batch in batches:
            with mixed(bfloat16):
                loss = peers.padded_loss(padded, batch.user_ids_B, batch)
            step(padded_optimizer, loss)

    with torch.no_grad():
        losses = [float(jagged.loss(b)["loss"] - peers.padded_loss(padded, b.user_ids_B, b)) for b in batches]
    times = taking_turns({"jagged": jagged_steps, "padded": padded_steps}, rounds)
    milliseconds, rows = statistics.median(times["jagged"]), sum(len(b.user_ids_B) for b in batches)
    return {
        "sequences_per_s": round(1e3 * rows / milliseconds, 1),
        "targets_per_s": round(1e3 * sum(b.size for b in batches) / milliseconds, 1),
        "padded_sequences_per_s": round(1e3 * rows / statistics.median(times["padded"]), 1),
        "speedup": ratio(times, "padded", "jagged"),
        "equal": max(map(abs, losses)) < 1e-3,
    }


def mixed(bfloat16: bool) -> contextlib.AbstractContextManager[Any]:
    """The precision of ``loop.precision``."""
    return torch.autocast("cpu", torch.bfloat16, enabled=bfloat16)


def step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def rqvae_items_per_s(config: RQVAEConfig, steps: int, *, bfloat16: bool = False) -> float:
    """Items/s of training steps at batch 640: 768-512-256-128-32, 3 x 256 codes."""
    torch.manual_seed(0)
    content_IF = nn.functional.normalize(torch.randn(world.NUM_ITEMS, CONTENT_DIM), dim=1)
    model = RQVAE(config, ContentSchema(content_dim=CONTENT_DIM, content_digest=""))
    model.initialise(content_IF, 0)
    model.train()
    optimizer = build_optimizer(model, OptimConfig(lr=1e-3))
    began = 0.0
    for number in range(steps + 3):
        if number == 3:
            began = time.perf_counter()
        rows = torch.randint(0, world.NUM_ITEMS, (RQVAE_BATCH,))
        with mixed(bfloat16):
            loss = model.loss(ContentBatch(content_IF[rows]))["loss"]
        step(optimizer, loss)
    return round(steps * RQVAE_BATCH / (time.perf_counter() - began), 1)


def over_http(config: DecoderConfig) -> dict[str, float | int | None]:
    """One client of the served application, its requests one after another."""
    from recray.serve.http.haproxy import free_port, use_haproxy

    use_haproxy(drain_s=1.0)
    import ray

    from recray.serve.place.config import ServiceConfig
    from recray.serve.place.deployments import start, stop

    with tempfile.TemporaryDirectory(prefix="recray-bench-") as folder:
        root, bodies, port = Path(folder) / "store", Path(folder) / "bodies.json", free_port()
        world.publish(root, config)
        history = world.queries(200, seed=2).history
        asked = [[f"i{i}" for i in history.row(b).tolist()] for b in range(200)]
        bodies.write_text(json.dumps([{"history": row, "k": world.BEAMS} for row in asked]))
        ray.init(logging_level="WARNING")
        try:
            start(ServiceConfig(application=world.APPLICATION, store=str(root)), port=port)
            run_clients(port, 1, 2.0, bodies)  # warm-up
            found = run_clients(port, 1, HTTP_SECONDS, bodies)
            stop()
        finally:
            ray.shutdown()
    return {
        "p50_ms": found.p50_ms,
        "p95_ms": found.p95_ms,
        "requests": found.requests,
        "errors": found.errors,
    }


def beauty(every_position: bool) -> list[SequenceBatch]:
    return [world.sequences(TRAIN_BATCH, every_position, seed) for seed in range(2)]


def measure(rounds: int, http: bool) -> dict[str, Any]:
    causal = replace(world.SHAPES, encoder="causal")
    found: dict[str, Any] = {"decode": {}, "train": {}, "rqvae": {}}
    for name, config, size in (
        ("one request", replace(world.SHAPES, softmax="catalogue"), 1),
        ("one request, softmax over all codes", world.SHAPES, 1),
        ("batch of 16", world.SHAPES, 16),
        ("one request, default decoder", DecoderConfig(beams=world.BEAMS), 1),
    ):
        found["decode"][name] = decoding(config, size, rounds if size == 1 else max(1, rounds // 3))
        print(f"decode, {name}: {found['decode'][name]}", flush=True)
    fixed = [world.sequences(TRAIN_BATCH, False, length=world.HISTORY)]
    for name, config, batches in (
        ("one target, Beauty's lengths", world.SHAPES, beauty(False)),
        ("one target, 20 items each", world.SHAPES, fixed),
        ("every position, Beauty's lengths", causal, beauty(True)),
        ("every position, Beauty's lengths, default decoder", DecoderConfig(), beauty(True)),
    ):
        found["train"][name] = training(config, batches, max(2, rounds // 2))
        print(f"train, {name}: {found['train'][name]}", flush=True)
    name = "one target, Beauty's lengths, bfloat16"
    found["train"][name] = training(world.SHAPES, beauty(False), max(2, rounds // 2), bfloat16=True)
    print(f"train, {name}: {found['train'][name]}", flush=True)
    for name, rqvae in (("default", RQVAEConfig()), ("without spread", RQVAEConfig(spread=0.0))):
        found["rqvae"][name] = rqvae_items_per_s(rqvae, 20 * rounds)
    found["rqvae"]["default, bfloat16"] = rqvae_items_per_s(RQVAEConfig(), 20 * rounds, bfloat16=True)
    print(f"rqvae, items/s: {found['rqvae']}", flush=True)
    if http:
        found["http"] = over_http(world.SHAPES)
        print(f"http: {found['http']}", flush=True)
    return found


@watched
def main(load: Load) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-http", action="store_true")
    args = parser.parse_args()
    found = measure(args.rounds, not args.no_http)
    result = {
        "decode_speedup": found["decode"]["one request"]["speedup"],
        "results_equal": all(row["equal"] for row in (*found["decode"].values(), *found["train"].values())),
        "jagged_speedup": found["train"]["one target, Beauty's lengths"]["speedup"],
        **found,
        "orientation": ORIENTATION,
        "targets": TARGETS,
        "threads": torch.get_num_threads(),
    }
    load.finish(result, RESULT)


if __name__ == "__main__":
    main()
