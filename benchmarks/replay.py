"""Whether a log can be replayed: bit-equal scores, features as served, and planted faults found by name.

python -m benchmarks.replay [--requests 10000] [--each 300]

A retriever and a ranker are served in a simulated world (``loop_world``), exploring, and told what happens
when it happens. All that was logged is replayed. Then each fault of ``replay_world.FAULTS`` is planted where
features are computed, one after the other, and served for ``--each`` requests: it is found where it is the
only feature that differs, and ``named`` where the cause in words is right too. The last line is one JSON
object.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.loop import home
from benchmarks.loop_world import EXPLORE, K, first_version, world_of, write_base
from benchmarks.replay_world import FAULTS, Fault, Visit, planted, serve
from recray import paths
from recray.data.sources.synthetic.world import World
from recray.pipelines.skew import ReplayConfig, ReplayReport, replay
from recray.serve.stages.listed import StagesConfig
from recray.store import Store

RESULT = Path(__file__).parent / "results" / "replay.json"
UNTIL = 2.0**33  # after everything
NOBODY_EVERY = 20  # so many visits one is of nobody in particular


class Shop:
    """A world, an application in it, and its visits."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.store, self.world = Store(), world_of(seed)
        self.application = first_version(write_base(folder, self.world), self.store)

    def visits(self, count: int) -> list[Visit]:
        return [visit for _, visit in zip(range(count), _visits(self.world), strict=False)]

    def serve(self, count: int) -> int:
        folder = paths.events_dir() / self.application
        return serve(
            self.store, self.application, folder, self.visits(count), self._react, rules=EXPLORE, k=K
        )

    def _react(self, visit: Visit, items: Sequence[str]) -> list[int]:
        """One place of the list, or two."""
        first = visit.at % len(items)
        return [first, (first + 3) % len(items)][: 1 + visit.at % 2]

    def replay(self, lists: int) -> ReplayReport:
        config = ReplayConfig(lists=lists, stages=StagesConfig(rules=EXPLORE))
        return replay(self.store, self.application, config, until=UNTIL)


def _visits(world: World) -> Iterator[Visit]:
    day = 0
    while True:
        visits = world.visits(day)
        for n, (user, at) in enumerate(zip(visits.users_V.tolist(), visits.times_V.tolist(), strict=True)):
            yield Visit(None if n % NOBODY_EVERY == 0 else f"u{user}", at)
        day += 1


def honest(shop: Shop, requests: int) -> ReplayReport:
    began = time.perf_counter()
    shop.serve(requests)
    served = time.perf_counter()
    report = shop.replay(requests)
    took = time.perf_counter() - served
    print(f"{requests} requests served in {served - began:.0f} s, replayed in {took:.0f} s")
    for skew in report.served:
        print(f"as served: {skew.name}: {skew.lists} lists, {skew.causes}, such as {skew.examples[0]}")
    for skew in report.offline:
        print(f"offline: {skew.name}: {skew.lists} lists, median {skew.median:.3g}: {skew.causes}")
    return report


def with_fault(shop: Shop, fault: Fault, requests: int) -> tuple[bool, bool]:
    """Whether it is found by name, and named."""
    with planted(fault):
        shop.serve(requests)
    report = shop.replay(requests)
    found = [skew.name for skew in report.served]
    causes = [list(skew.causes) for skew in report.served]
    print(
        f"{fault.kind}: planted in {fault.feature}; found {dict(zip(found, causes, strict=True))}", flush=True
    )
    is_found = found == [fault.feature]
    return is_found, is_found and fault.words in causes[0][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=300)
    parser.add_argument("--seed", type=int, default=4)
    args = parser.parse_args()
    with home() as folder:
        shop = Shop(folder, args.seed)
        report = honest(shop, args.requests)
        told = []
        for number, fault in enumerate(FAULTS):
            os.environ["RECRAY_HOME"] = str(folder / f"fault{number}")  # a log of its own; the store stays
            told.append(with_fault(shop, fault, args.each))
    result = {
        "requests": report.scores.answers,
        "replayed": report.scores.replayed,
        "bit_equal": report.scores.equal,
        "items": report.scores.items,
        "features_as_served": report.items * report.features - sum(skew.items for skew in report.served),
        "features": report.items * report.features,
        "planted": len(FAULTS),
        "found_of_planted": sum(found for found, _ in told),
        "named_of_planted": sum(named for _, named in told),
    }
    RESULT.write_text(json.dumps(result) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
