"""Each rule, served over HTTP, shows item by item what the measurement counts."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from recray.data.events.examples import eval_examples
from recray.data.events.split_data import DataConfig, SplitData, open_split
from recray.models.two_tower import TwoTowerConfig
from recray.ops.ann import IndexConfig
from recray.pipelines.train import train
from recray.pipelines.two_stage import measure_served
from recray.recipes.pairs import TWO_TOWER, TwoTowerRun
from recray.serve.http.gateway import create_app
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.serve.rules.allowed import AllowedConfig
from recray.serve.rules.available import AvailableConfig
from recray.serve.rules.diversify import DiversityConfig
from recray.serve.rules.explore import ExploreConfig
from recray.serve.rules.fresh import FreshConfig
from recray.serve.rules.listed import Rules
from recray.serve.rules.per_category import PerCategoryConfig
from recray.serve.rules.pinned import PinnedConfig
from recray.store import Store
from recray.train.context import LaunchConfig
from recray.train.loop import LoopConfig
from tests.serve.asgi import Client

CONTEXT = {"market": "de"}
DIVERSE, CAPPED = DiversityConfig(strength=0.5), PerCategoryConfig(at_most=2, column="maker")
ALLOWED = AllowedConfig(deny=("i4",), only_where=("market=context.market",))
PINNED = PinnedConfig(items=("2=i6 if market=de", "1=i5"), even_seen=True)
FRESH = FreshConfig(gain=3.0, half_life_days=20.0, column="since")
IN_STOCK = AvailableConfig(column="stocked")
DRAWN = ExploreConfig(policy="plackett_luce", temperature=3.0, seed=4)
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "per_category": {"rules": Rules(per_category=CAPPED)},
    "diversity": {"rules": Rules(diversity=DIVERSE)},
    "fresh": {"rules": Rules(fresh=FRESH)},
    "available": {"rules": Rules(available=IN_STOCK)},
    "allowed": {"rules": Rules(allowed=ALLOWED)},
    "pinned": {"rules": Rules(pinned=PINNED)},
    "epsilon": {"rules": Rules(explore=ExploreConfig(policy="epsilon", epsilon=0.3, seed=3))},
    "plackett_luce": {"rules": Rules(explore=DRAWN)},
    "after": {"seen": "after", "seen_after_days": 3.0},
    "keep": {"seen": "keep"},
    "all": {
        "rules": Rules(
            available=IN_STOCK,
            per_category=CAPPED,
            fresh=FRESH,
            diversity=DIVERSE,
            allowed=ALLOWED,
            pinned=PINNED,
            explore=DRAWN,
        ),
        "seen": "after",
        "seen_after_days": 3.0,
    },
}


@pytest.fixture(scope="module")
def data_config(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    rng, rows = np.random.default_rng(0), []
    for user in range(40):
        items = 2 * rng.choice(30, size=10, replace=False) + user % 2
        times = np.sort(rng.choice(900_000, size=10, replace=False)) + 1_600_000_000
        rows += [(f"u{user}", f"i{item}", 4, int(t)) for item, t in zip(items, times, strict=True)]
    folder = tmp_path_factory.mktemp("raw")
    events = pl.DataFrame(rows, schema=["user", "item", "rating", "timestamp"], orient="row")
    events.write_csv(folder / "shop.csv")
    ids = [f"i{n}" for n in range(60)]
    makers, markets = [f"m{n % 7}" for n in range(60)], ["de" if n % 3 else "fr" for n in range(60)]
    columns = {"item": ids, "maker": makers, "market": markets}
    columns |= {"since": [f"2020-0{1 + n % 9}-01" for n in range(60)], "stocked": ["yes", "no", "yes"] * 20}
    pl.DataFrame(columns).write_csv(folder / "items.csv")
    dataset = f"{folder}/shop.csv?name=shop&items={folder}/items.csv"
    return DataConfig(dataset=dataset, split="leave-one-out")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECRAY_HOME", str(tmp_path_factory.mktemp("home")))
        yield Store()


@pytest.fixture(scope="module")
def data(data_config: DataConfig) -> SplitData:
    return open_split(data_config)


@pytest.fixture(scope="module")
def application(data_config: DataConfig, store: Store) -> str:
    """The models that are measured are those that are served: nothing is fitted again."""
    run = TwoTowerRun(
        data=data_config,
        model=TwoTowerConfig(embedding_dim=16),
        loop=LoopConfig(epochs=2, batch_size=128),
        index=IndexConfig(kind="exact"),
        refit=False,
    )
    bundle = train(TWO_TOWER, run, LaunchConfig(where="local"), store).bundle
    store.promote(bundle.manifest.name, bundle.manifest.version)
    return bundle.manifest.name


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_served_is_what_is_measured(
    name: str, application: str, store: Store, data: SplitData
) -> None:
    config = replace(ServiceConfig(application=application, store=str(store.root)), **OPTIONS[name])
    offline = measure_served(config, data.dataset, data.split, ks=(10,), context=CONTEXT)
    queries = eval_examples(data.dataset, data.split, "test")[0].queries
    users, items = (
        table["raw_id"].cast(pl.String).to_list() for table in (data.dataset.users, data.dataset.items)
    )
    service = FusedService(config)
    try:
        client = Client(create_app(service))
        for user, time, shown in zip(
            queries.user_ids_B.tolist(), queries.request_times_B.tolist(), offline.lists, strict=True
        ):
            asked = {"user_id": users[user], "k": 10, "request_time": int(time), "context": CONTEXT}
            answer = client.post(asked)
            assert answer.status == 200
            assert [item["item_id"] for item in answer.json["items"]] == [items[row] for row in shown]
    finally:
        service.stop()
    assert len(offline.lists) == 40
    changes = name != "none"
    plain = measure_served(
        replace(config, rules=Rules(), seen="measured"), data.dataset, data.split, ks=(10,)
    )
    same = all(np.array_equal(a, b) for a, b in zip(offline.lists, plain.lists, strict=True))
    assert same != changes, "each rule does something here"
