"""A published click model over HTTP: it says what it said of the prepared rows."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recray.arrays import Float32s
from recray.bundles.clicks import open_scorer
from recray.config import ConfigError
from recray.eval.clicks import ClickEvaluation
from recray.serve.http.gateway import create_app
from recray.serve.http.haproxy import free_port
from recray.serve.http.requests import MAX_ROWS, MAX_ROWS_BODY_BYTES
from recray.serve.place.config import PlacementConfig, ServiceConfig
from recray.serve.place.fused import FusedService
from recray.serve.place.scoring import ScoringService
from recray.serve.rules.diversify import DiversityConfig
from recray.serve.rules.listed import Rules
from recray.store import Store, StoreError
from tests.bundles.click_world import NUM_ROWS, frame, trained
from tests.serve.asgi import Client
from tests.serve.malformed import json_values
from tests.serve.world import APPLICATION

NAME = "shop-dlrm"
ROWS = frame()[-NUM_ROWS // 10 :].drop("click", "time").to_dicts()  # of the test part


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[int, Float32s]]:
    """Two versions, the first in production, and the probabilities that each was measured with."""
    folder = tmp_path_factory.mktemp("clicks")
    frame().write_csv(folder / "shop.csv")
    measured = {}
    for seed in (0, 1):
        found = trained(f"{folder / 'shop.csv'}?name=shop", folder / "store", seed)
        assert isinstance(found.measured, ClickEvaluation)
        measured[seed + 1] = (1 / (1 + np.exp(-found.measured.logits_N))).astype(np.float32)
    store = Store(folder / "store")
    store.promote(NAME, 1)
    return store, measured


@pytest.fixture
def store(shop: tuple[Store, dict[int, Float32s]]) -> Iterator[Store]:
    yield shop[0]
    shop[0].promote(NAME, 1)


@pytest.fixture
def client(store: Store) -> Iterator[Client]:
    service = ScoringService(ServiceConfig(application=NAME, store=str(store.root), poll_s=0.05))
    yield Client(create_app(service))
    service.stop()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "did not happen within 60 s"
        time.sleep(0.02)


def score(client: Client, *rows: dict[str, Any]) -> Any:
    answer = client.post({"rows": rows}, path="/score")
    assert answer.status == 200, answer.body
    return answer.json


def test_what_was_measured_is_what_is_answered_for_every_row_of_the_test_part(
    client: Client, store: Store, shop: tuple[Store, dict[int, Float32s]]
) -> None:
    answer = score(client, *ROWS)
    offline_N = open_scorer(store.open(NAME, 1)).score(ROWS)
    assert np.array(answer["scores"], np.float32).tobytes() == offline_N.tobytes()
    np.testing.assert_allclose(answer["scores"], shop[1][1], rtol=1e-5)
    assert answer["model"] == "dlrm"
    assert answer["version"]["scorer"]["version"] == 1
    assert answer["unknown"] == {}
    assert answer["timings_ms"].keys() == {"rows", "score", "total"}


def test_a_row_says_the_same_alone_and_among_others(client: Client) -> None:
    together = score(client, *ROWS[:10])["scores"]
    np.testing.assert_allclose([score(client, row)["scores"][0] for row in ROWS[:10]], together, rtol=1e-5)


def test_missing_values_are_missing_and_unknown_categories_are_counted(client: Client) -> None:
    row = {"country": "DE", "slot_id": 1, "price": 9.5}
    ways = [{"country": "DE", "slot_id": 1.0}, {**row, "price": None}, {**row, "price": "NA"}]
    answer = score(client, *ways)
    np.testing.assert_allclose(answer["scores"], answer["scores"][0], rtol=1e-5)
    assert answer["unknown"] == {}
    strange = score(client, row, {**row, "country": "FR"}, {**row, "country": "?"}, {"country": ""}, {})
    assert strange["unknown"] == {"country": 2}
    assert strange["scores"][1] == pytest.approx(strange["scores"][2])
    text = client.get("/metrics").body.decode()
    assert re.search(r'recray_unknown_categories_total{column="country",replica="[^"]+"} 2.0', text)
    assert re.search(r'recray_rows_scored_total{replica="[^"]+"} 8.0', text)


def rows_of(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"rows": list(rows)}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (rows_of({"contry": "DE"}), 422, "the model knows no column 'contry', did you mean 'country'"),
        (rows_of({"click": 1}), 422, "the model knows no column 'click'"),
        (rows_of({}, {"price": "cheap"}), 422, "rows[1].price is 'cheap', which is no number"),
        (rows_of({"price": "inf"}), 422, "price is 'inf', which is no number"),
        (rows_of({"price": 1e300}), 422, "price is '1e+300', which is no number that fits 32 bits"),
        (rows_of({"price": True}), 422, "price is 'True', which is no number"),
        (rows_of({"price": "x" * 10_000}), 422, "price is 'xxx"),
        (b'{"rows": [{"price": NaN}]}', 422, "rows[0].price: Input should be text, a finite number, true"),
        (b'{"rows": [{}, {"price": -Infinity}]}', 422, "rows[1].price: Input should be text, a finite"),
        (b'{"rows": [{"price": 1e999}]}', 422, "rows[0].price: "),
        (rows_of({"country": ["DE"]}), 422, "rows[0].country: Input should be text"),
        (rows_of({"x" * 201: 1}), 422, "at most 200 characters"),
        (rows_of(), 422, "rows: List should have at least 1 item"),
        (rows_of(*[{}] * (MAX_ROWS + 1)), 422, f"rows: List should have at most {MAX_ROWS} items"),
        ({"rows": [1]}, 422, "rows[0]: Input should be an object"),
        ({"row": {}}, 422, "rows: Field required; row: Extra inputs"),
        (b"{", 400, "EOF while parsing"),
        (b" " * (MAX_ROWS_BODY_BYTES + 1), 413, f"at most {MAX_ROWS_BODY_BYTES} bytes"),
    ],
)
def test_wrong_rows_are_refused_with_a_reason(client: Client, body: Any, status: int, message: str) -> None:
    answer = client.post(body, path="/score")
    assert (answer.status, message in answer.json["message"]) == (status, True), answer.body
    assert len(answer.json["message"]) < 1_000


def test_a_thousand_rows_are_answered_in_order(client: Client) -> None:
    rows = (ROWS * MAX_ROWS)[:MAX_ROWS]
    scores = score(client, *rows)["scores"]
    np.testing.assert_allclose(scores, (scores[: len(ROWS)] * MAX_ROWS)[:MAX_ROWS], rtol=1e-5)


def test_the_pages_are_those_of_what_it_can_do(client: Client) -> None:
    paths = client.get("/openapi.json").json["paths"]
    assert set(paths) == {"/score", "/health", "/live", "/ready", "/versions", "/metrics"}
    assert "finite" not in json.dumps(paths["/score"]["post"]["requestBody"])
    assert "rows" in json.dumps(paths["/score"]["post"]["requestBody"])
    assert client.get("/health").json["serving"]["scorer"]["name"] == NAME
    assert client.get("/versions").json["names"] == {"production": 1}
    missing = client.post({}, path="/recommend")
    assert missing.status == 404
    assert "there is POST /score, GET /health" in missing.json["message"]


def test_promotions_and_rollbacks_are_followed(
    client: Client, store: Store, shop: tuple[Store, dict[int, Float32s]]
) -> None:
    """Every answer is one version's own while the name moves."""
    faults, seen = [], set()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answer = score(client, *ROWS)
            number = answer["version"]["scorer"]["version"]
            seen.add(number)
            if not np.allclose(answer["scores"], shop[1][number], rtol=1e-4):
                faults.append(answer)

    asker = threading.Thread(target=ask)
    asker.start()
    for move in (lambda: store.promote(NAME, 2), lambda: store.rollback(NAME)):
        move()
        number = store.names(NAME)["production"]
        eventually(lambda n=number: client.get("/health").json["serving"]["scorer"]["version"] == n)
        eventually(lambda n=number: n in seen)
    stop.set()
    asker.join()
    assert (faults, seen) == ([], {1, 2})


rows = st.lists(
    st.dictionaries(st.sampled_from(["country", "slot_id", "price"]) | st.text(max_size=5), json_values),
    max_size=4,
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=rows | json_values)
def test_malformed_rows_never_make_a_500(client: Client, rows: Any) -> None:
    answer = client.post({"rows": rows}, path="/score")
    assert answer.status in (200, 400, 422)
    assert answer.status == 200 or answer.json["message"]


def test_a_kind_is_not_asked_for_what_it_cannot_do(store: Store, published: Store) -> None:
    with pytest.raises(StoreError, match="scores rows, it recommends nothing"):
        FusedService(ServiceConfig(application=NAME, store=str(store.root)))
    with pytest.raises(StoreError, match="recommends, it scores no rows"):
        ScoringService(ServiceConfig(application=APPLICATION, store=str(published.root)))
    useless = ServiceConfig(
        application=NAME,
        store=str(store.root),
        rules=Rules(diversity=DiversityConfig(strength=0.5)),
        shown=("price",),
    )
    with pytest.raises(
        ConfigError, match="rules.diversity.strength, shown: of no use to shop-dlrm version 1"
    ):
        useless.open_served()


@pytest.mark.ray
@pytest.mark.slow
def test_it_is_served_over_http_by_the_kind_of_its_bundle(
    ray_cluster: None, store: Store, shop: tuple[Store, dict[int, Float32s]]
) -> None:
    from recray.serve.place.deployments import start, stop

    config = ServiceConfig(application=NAME, store=str(store.root), poll_s=0.1)
    with pytest.raises(ConfigError, match="serve it with placement 'fused'"):
        start(config, PlacementConfig(placement="spread"), port=free_port())
    url = start(config, PlacementConfig(cpus_per_replica=0.5), port=free_port())
    try:
        with httpx.Client(base_url=url, timeout=30) as web:

            def is_served(number: int) -> bool:
                answer = web.post("/score", json={"rows": ROWS}).json()
                offline_N = open_scorer(store.open(NAME, number)).score(ROWS)
                return np.allclose(answer["scores"], offline_N, rtol=1e-5)

            eventually(lambda: web.get("/health").status_code == 200)
            assert is_served(1)
            assert "/score" in web.get("/openapi.json").json()["paths"]
            assert web.get("/docs").status_code == 200
            assert web.post("/score", json={"rows": [{"land": "DE"}]}).status_code == 422
            store.promote(NAME, 2)
            eventually(lambda: is_served(2))
    finally:
        stop()
