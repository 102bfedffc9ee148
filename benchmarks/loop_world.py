"""Two policies in the same simulated world: one is retrained on what it logged, the other stays as it was.

Shapes: V visits, K places of a list.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import polars as pl

from recray import paths
from recray.arrays import Bools, Float64s, Int64s
from recray.config import override
from recray.data.sources.synthetic.truth import SyntheticConfig, draw_events
from recray.data.sources.synthetic.words import GENRES
from recray.data.sources.synthetic.world import World, WorldConfig
from recray.event_log.records import Event
from recray.event_log.tables import encoded
from recray.event_log.writer import LogWriter
from recray.pipelines.train import train
from recray.recipes import RECIPES, run_for
from recray.serve.events.hub import LocalHub
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.serve.rules.explore import ExploreConfig
from recray.serve.rules.listed import Rules
from recray.serve.traffic.recorder import Given, exposure_of
from recray.store import Store
from recray.train.context import LaunchConfig

LOCAL = LaunchConfig(where="local")
K, TOGETHER = 10, 50  # items of a list; visits between two looks at what was told
NAME = "world"
EXPLORE = Rules(explore=ExploreConfig(policy="plackett_luce", temperature=3.0, among=40, seed=0))


Lie: TypeAlias = Callable[[Bools], Bools]  # of clicked_VK


class Told(NamedTuple):
    """What became of the lists of one visit after the other."""

    users_V: Int64s
    expected_V: Float64s  # clicks


def world_of(seed: int) -> World:
    return World(
        WorldConfig(
            truth=SyntheticConfig(num_users=400, num_items=1_500, events_per_user=9.0, days=90, seed=seed)
        )
    )


def write_base(folder: Path, world: World) -> str:
    """What a shop has before it logs: events and items as files; returns the data set's name."""
    truth = world.truth
    events, sessions, items = draw_events(truth), truth.sessions, truth.items
    names = list(GENRES)
    pl.DataFrame(
        {
            "user_id:token": [f"u{user}" for user in sessions.user_ids_S[events.session_ids_N]],
            "item_id:token": [f"i{item}" for item in events.item_ids_N],
            "rating:float": events.ratings_N,
            "timestamp:float": events.timestamps_N,
        }
    ).write_csv(folder / f"{NAME}.inter", separator="\t")
    pl.DataFrame(
        {
            "item_id:token": [f"i{item}" for item in range(len(items.popularity_I))],
            "class:token_seq": [
                " ".join(names[g] for g in pair if g >= 0) for pair in items.genres_I2.tolist()
            ],
        }
    ).write_csv(folder / f"{NAME}.item", separator="\t")
    return f"{folder / NAME}.inter?name={NAME}"


def first_version(dataset: str, store: Store) -> str:
    """Trains a retriever and a ranker on the base, and promotes them; returns the application."""
    changes: dict[str, object] = {"data.dataset": dataset, "data.split": "global-time"}
    retriever = train(
        RECIPES["item_knn"], override(run_for(RECIPES["item_knn"], dataset), changes), LOCAL, store
    )
    ranker_run = override(
        run_for(RECIPES["gbdt_ranker"], dataset), changes | {"retriever": retriever.bundle.manifest.name}
    )
    ranker = train(RECIPES["gbdt_ranker"], ranker_run, LOCAL, store).bundle.manifest
    store.promote(ranker.name, ranker.version)
    return ranker.name


class Policy:
    """A served version in a world of its own, with a log."""

    def __init__(self, store: Store, application: str, seed: int, *, log: bool) -> None:
        self.world = world_of(seed)
        config = ServiceConfig(
            application=application, store=str(store.root), rules=EXPLORE, record=False, poll_s=0.05
        )
        self.service = FusedService(config, LocalHub())
        self._folder = paths.events_dir() / application if log else None

    def serve(self, day: int, lie: Lie | None = None) -> Told:
        """All visits of a day.

        Args:
            lie: how clicks are mislabelled.
        """
        visits, expected = self.world.visits(day), list[Float64s]()
        log = LogWriter(self._folder) if self._folder else None
        for first in range(0, len(visits.users_V), TOGETHER):
            users_V = visits.users_V[first : first + TOGETHER]
            times_V = visits.times_V[first : first + TOGETHER]
            given = [self._ask(user, at) for user, at in zip(users_V.tolist(), times_V.tolist(), strict=True)]
            lists_VK = np.array([[int(i["item_id"][1:]) for i in g.made.answer["items"]] for g in given])
            expected.append(self.world.expected_clicks(day, users_V, lists_VK))
            clicked_VK = self.world.react(day, users_V, lists_VK, first).clicked_VK
            if lie:
                clicked_VK = lie(clicked_VK)
            events = _events(given, clicked_VK)
            self.service._hub.append(events)
            self.service._feed.look()
            if log:
                log.expose([encoded(exposure_of(each)) for each in given])
                log.record(events)
        if log:
            log.close()
        return Told(visits.users_V, np.concatenate(expected))

    def _ask(self, user: int, at: int) -> Given:
        request = self.request(user, at)
        made = self.service.growing.now.made(request)
        return Given(f"{user}-{at}", request, made, float(at), made.answer["timings_ms"]["total"])

    def request(self, user: int, at: int) -> RecommendRequest:
        return RecommendRequest(user_id=f"u{user}", k=K, request_time=at)

    def freeze(self) -> None:
        """Whatever is promoted, it goes on with what it has."""
        self.service._serves.stop()

    @property
    def version(self) -> int:
        """That serves."""
        return self.service._serves.current.reference.version

    def best(self, day: int) -> float:
        """Expected clicks of the best lists for those who come."""
        users_V = self.world.visits(day).users_V
        return float(self.world.expected_clicks(day, users_V, self.world.best_lists(day, users_V, K)).mean())

    def stop(self) -> None:
        self.service.stop()


def _events(given: Sequence[Given], clicked_VK: Bools) -> list[Event]:
    events = []
    for each, clicked_K in zip(given, clicked_VK, strict=True):
        for rank, item in enumerate(each.made.answer["items"]):
            if rank < len(clicked_K) and clicked_K[rank]:
                at = each.at + 5.0 * (rank + 1)
                user, request = str(each.request.user_id), each.request_id
                events.append(
                    Event(user, item["item_id"], 1.0, at, f"{request}-{rank}", "click", request, at)
                )
    return events


def turned_round(clicked_VK: Bools) -> Bools:
    """As many clicks, on items that were not clicked, from the end of the list."""
    wrong_VK = np.zeros_like(clicked_VK)
    for v, clicks in enumerate(clicked_VK.sum(axis=1)):
        free = np.flatnonzero(~clicked_VK[v])[::-1]
        wrong_VK[v, free[:clicks]] = True
    return wrong_VK


def mixed_up(clicked_VK: Bools) -> Bools:
    """As many clicks, on any items of the list."""
    rng = np.random.default_rng(np.packbits(clicked_VK))  # of each batch its own
    return rng.permuted(clicked_VK, axis=1)


LIES: Mapping[str, Lie] = {"turned round": turned_round, "mixed up": mixed_up}
