"""Every kind of retriever in the serving graph: by vectors from the history and its times, or by scores."""

import json
import sys
from typing import Any

import numpy as np
import pytest
import torch

from recray import models
from recray.arrays import Int64s
from recray.batch import Jagged, QueryBatch
from recray.bundles.index import user_vectors
from recray.bundles.retriever import RetrieverFiles, read_retriever, write_retriever
from recray.bundles.weights import load_model
from recray.config import ConfigError
from recray.contract import VectorRetriever
from recray.features.log import EventLog
from recray.ops.ann import IndexConfig, build_index
from recray.pipelines.reindex import reindex
from recray.schema import FeatureSchema, ProtocolCard
from recray.serve.http.requests import RecommendRequest, RequestError
from recray.serve.place.pipeline import Pipeline
from recray.serve.rules.diversify import DiversityConfig
from recray.serve.rules.listed import Rules
from recray.serve.stages.listed import StagesConfig
from recray.serve.versions import open_served
from recray.store import Bundle, Store, StoreError
from tests.serve import successor
from tests.serve.world import (
    APPLICATION,
    NOW,
    NUM_ITEMS,
    NUM_USERS,
    World,
    publish_ranker,
)

SCHEMA = FeatureSchema(num_users=NUM_USERS, num_items=NUM_ITEMS)


@pytest.fixture(autouse=True)
def successor_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "recray.models.successor", successor)


@pytest.fixture
def store(tmp_path: Any) -> Store:
    return Store(tmp_path / "store")


def publish(
    store: Store,
    world: World,
    name: str,
    log: EventLog | None = None,
    user_counts_U: Int64s | None = None,
    card: ProtocolCard | None = None,
) -> Bundle:
    """A retriever of this kind, untrained or counted, as its recipe would publish it."""
    torch.manual_seed(0)
    model: Any = models.build(name, {}, SCHEMA).eval()
    if hasattr(model, "learn"):
        model.learn(
            torch.from_numpy(world.log.user_ids_N).long(), torch.from_numpy(world.log.item_ids_N).long()
        )
    item_ID = model.item_vectors().numpy() if isinstance(model, VectorRetriever) else None
    files = RetrieverFiles(
        users=world.users,
        items=world.items,
        item_counts_I=world.counts_I,
        item_ID=item_ID,
        user_UD=user_vectors(model, NUM_USERS) if name == "two_tower" else None,
        user_counts_U=user_counts_U,
        index=None if item_ID is None else build_index(item_ID, IndexConfig(kind="exact")),
        log=log or world.log,
    )
    return store.publish(
        f"tiny-{name}",
        lambda folder: write_retriever(folder, model, files),
        model=name,
        config={},
        schema=SCHEMA,
        card=card,
    )


def pipeline_of(store: Store, bundle: Bundle) -> Pipeline:
    return Pipeline(open_served(store, bundle.manifest.name, bundle.manifest.version))


def ask(pipeline: Pipeline, **fields: Any) -> Any:
    return pipeline.recommend(RecommendRequest(**{"request_time": NOW, **fields}))


def scores(answer: Any) -> dict[str, float]:
    return {item["item_id"]: item["score"] for item in answer["items"] if item["score"]}


def decay(age_s: int) -> float:
    return float(np.float32(2.0 ** (-age_s / successor.HALF_LIFE_S)))


def test_the_times_of_a_history_reach_the_model(store: Store, world: World) -> None:
    pipeline = pipeline_of(store, publish(store, world, "successor"))
    times = [NOW - 3_000, NOW - 1_000, NOW]
    answer = ask(pipeline, history=["i10", "i20", "i30"], history_times=times, k=3)
    assert scores(answer) == pytest.approx({"i31": 1.0, "i21": 0.5, "i11": 0.125})
    assert answer["fallback"] is None
    assert {item["source"] for item in answer["items"]} == {"successor"}
    without = ask(pipeline, history=["i10", "i20", "i30"], k=3)  # just before the request, all of them
    assert scores(without) == pytest.approx({"i31": 1.0, "i21": 1.0, "i11": 1.0})


def test_a_known_user_is_asked_for_with_the_log_and_its_times(store: Store, world: World) -> None:
    pipeline, log = pipeline_of(store, publish(store, world, "successor")), world.log
    for user, time in [(3, NOW), (7, NOW - 5_000_000), (7, int(log.timestamps_N[1000]))]:
        rows = (log.user_ids_N == user) & (log.timestamps_N < time)
        expected: dict[str, float] = {}
        for item, at in zip(log.item_ids_N[rows].tolist(), log.timestamps_N[rows].tolist(), strict=True):
            name = f"i{(item + 1) % NUM_ITEMS}"
            expected[name] = expected.get(name, 0.0) + 2.0 ** ((at - time) / successor.HALF_LIFE_S)
        best = sorted(
            (s for i, s in expected.items() if int(i[1:]) not in log.item_ids_N[rows]), reverse=True
        )
        answer = ask(pipeline, user_id=100 + user, request_time=time, k=5)
        assert [item["score"] for item in answer["items"]] == pytest.approx(best[:5], rel=1e-4, abs=1e-9)


def test_seen_items_come_back_where_the_version_was_measured_so(store: Store, world: World) -> None:
    card = ProtocolCard(
        dataset="tiny", dataset_hash="", split="x", target="test", relevance="all", k_core=0, seen="kept"
    )
    bundle = publish(store, world, "item_knn", card=card)
    seen = {f"i{item}" for item in world.log.seen_before(4, NOW)}

    def shown(config: StagesConfig, **fields: Any) -> set[str]:
        served = open_served(store, bundle.manifest.name, bundle.manifest.version)
        answer = ask(Pipeline(served, config), user_id=104, k=NUM_ITEMS, **fields)
        return {item["item_id"] for item in answer["items"]}

    assert seen <= shown(StagesConfig())
    assert not seen & shown(StagesConfig(seen="remove"))
    gone = min(seen)
    assert shown(StagesConfig(), exclude=[gone]) == shown(StagesConfig()) - {gone}
    plain = publish(store, world, "item_knn")
    pipeline = pipeline_of(store, plain)
    answer = ask(pipeline, user_id=104, k=NUM_ITEMS)
    assert not seen & {item["item_id"] for item in answer["items"]}


def test_nothing_from_after_the_request_changes_an_answer(store: Store, world: World) -> None:
    log, time = world.log, int(world.log.timestamps_N[1500]) + 1  # the end of the log that is cut
    cut = log.timestamps_N < time
    columns = (values[cut] for values in (log.user_ids_N, log.item_ids_N, log.ratings_N, log.timestamps_N))
    past = EventLog(*columns, num_users=NUM_USERS, num_items=NUM_ITEMS, items=log.items)
    for name in ("successor", "item_knn"):
        whole, before = (pipeline_of(store, publish(store, world, name, given)) for given in (log, past))
        for user in range(10):
            answers = [ask(p, user_id=100 + user, request_time=time)["items"] for p in (whole, before)]
            assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"history_times": [5, 4]}, "history_times: 4 at position 1 is before 5"),
        ({"history_times": [NOW - 1, NOW + 7]}, f"{NOW + 7} at position 1 is after the request at {NOW}"),
        ({"history_times": [NOW + 1, NOW + 7]}, f"{NOW + 1} at position 0 is after the request"),
        ({"history_times": [5]}, "history_times: 1 for a history of 2 items"),
        ({"history_times": [5], "history": None}, "1 for a history of 0 items"),
        ({"history": ["i1", "i300"], "strict": True}, "history: no item 'i300' in this catalogue"),
    ],
)
def test_times_that_do_not_fit_the_history_are_named(
    store: Store, world: World, fields: dict[str, Any], message: str
) -> None:
    pipeline = pipeline_of(store, publish(store, world, "successor"))
    with pytest.raises(RequestError, match=message) as caught:
        ask(pipeline, **{"history": ["i1", "i2"], **fields})
    assert caught.value.status == 422


def test_a_reader_of_histories_falls_back_where_there_is_none(store: Store, world: World) -> None:
    for name in ("successor", "item_knn"):
        pipeline = pipeline_of(store, publish(store, world, name))
        for fields in ({"user_id": "nobody"}, {"user_id": 103, "request_time": 5}, {"history": []}):
            answer = ask(pipeline, **fields)
            assert answer["fallback"] == "popular"
            assert len(answer["items"]) == 10
        one = ask(pipeline, user_id="nobody", history=["i5"])  # a single event is enough
        assert one["fallback"] is None
        assert one["items"][0]["source"] == name


@pytest.mark.parametrize("name", ["ncf", "item_knn", "popularity"])
def test_a_model_without_vectors_is_searched_by_its_scores(store: Store, world: World, name: str) -> None:
    bundle = publish(store, world, name)
    pipeline, model = pipeline_of(store, bundle), load_model(bundle)
    history = Jagged(torch.from_numpy(world.log.seen_before(4, NOW)).long(), torch.tensor([0, 0]))
    history = history._replace(offsets_B=torch.tensor([0, len(history.values_N)]))
    times_N = torch.zeros_like(history.values_N)
    scores_I = model.score_items(QueryBatch(torch.tensor([4]), history, times_N, torch.tensor([NOW])))[0]
    scores_I = scores_I.clone()
    scores_I[history.values_N] = -torch.inf
    answer = ask(pipeline, user_id=104, k=20)
    assert [item["score"] for item in answer["items"]] == scores_I.topk(20).values.tolist()
    for item in answer["items"]:
        assert scores_I[int(item["item_id"][1:])].item() == item["score"]
        assert item["source"] in (name, "popular")
    everything = ask(pipeline, user_id=104, k=500)
    assert len(everything["items"]) == NUM_ITEMS - len(world.seen(4))


def test_similar_items_of_a_model_without_vectors_are_its_answer_to_that_item(
    store: Store, world: World
) -> None:
    bundle = publish(store, world, "item_knn")
    similar = pipeline_of(store, bundle).similar("i5", 4)["items"]
    model: Any = load_model(bundle)
    scores_I = model.score_items(
        QueryBatch(torch.tensor([-1]), Jagged.from_rows([[5]]), torch.zeros(1), torch.zeros(1))
    )[0]
    assert [item["score"] for item in similar] == scores_I.topk(4).values.tolist()
    assert "i5" not in {item["item_id"] for item in similar}


@pytest.mark.parametrize("name", ["successor", "item_knn", "ncf"])
def test_a_ranker_stands_behind_every_kind(store: Store, world: World, name: str) -> None:
    publish_ranker(store, world, publish(store, world, name))
    pipeline = Pipeline(open_served(store, APPLICATION, 1))
    answer = ask(pipeline, user_id=105, explain=True, k=5)
    assert len(answer["items"]) == 5
    assert all(len(item["why"]) == 3 for item in answer["items"])
    assert answer["version"]["retriever"]["name"] == f"tiny-{name}"


def test_what_has_no_vectors_is_neither_indexed_nor_spread_out(store: Store, world: World) -> None:
    bundle = publish(store, world, "ncf")
    files = read_retriever(bundle)
    assert files.item_ID is None
    assert files.index is None
    with pytest.raises(ConfigError, match="'ncf' has no item vectors, so nothing to index"):
        reindex("tiny-ncf", "latest", IndexConfig(), store)
    with pytest.raises(StoreError, match="'ncf' has no item vectors"):
        Pipeline(
            open_served(store, "tiny-ncf", 1),
            StagesConfig(rules=Rules(diversity=DiversityConfig(strength=0.5))),
        )


@pytest.mark.parametrize("name", ["two_tower", "ncf", "popularity"])
def test_a_user_without_training_events_is_answered_as_an_unknown_one(
    store: Store, world: World, name: str
) -> None:
    """From the history: the client's, else the log's; without any by popularity."""
    rows = world.log.user_ids_N != 5  # of user 4 the log knows what training did not; of user 5 nothing
    columns = (world.log.user_ids_N, world.log.item_ids_N, world.log.ratings_N, world.log.timestamps_N)
    log = EventLog(*(column[rows] for column in columns), num_users=NUM_USERS, num_items=NUM_ITEMS)
    counts_U = np.ones(NUM_USERS, np.int64)
    counts_U[[4, 5]] = 0
    pipeline = pipeline_of(store, publish(store, world, name, log, counts_U))
    trained = ask(pipeline, user_id=103, history=["i250"])
    assert trained["fallback"] is None
    for history in (["i10", "i20"], ["i250"]):
        unknown = ask(pipeline, user_id="nobody", history=history, k=200)
        for user in (104, 105):
            answer = ask(pipeline, user_id=user, history=history, k=200)
            assert answer["fallback"] == "history"
            seen = {f"i{item}" for item in world.seen(4)} if user == 104 else set()
            assert not seen & scores(answer).keys()
            both = scores(answer).keys() & scores(unknown).keys()
            assert len(both) > 100
            expected = {i: scores(unknown)[i] for i in both}
            assert {i: scores(answer)[i] for i in both} == pytest.approx(expected, abs=1e-5)
    from_log = ask(pipeline, user_id=104)
    sent = [f"i{item}" for item in log.seen_before(4, NOW)]
    assert from_log["fallback"] == "history"
    expected = scores(ask(pipeline, user_id="nobody", history=sent))
    assert scores(from_log) == pytest.approx(expected, abs=1e-5)
    assert ask(pipeline, user_id=105)["fallback"] == "popular"


@pytest.mark.parametrize("name", ["successor", "two_tower", "ncf"])
def test_an_empty_history_is_no_history(store: Store, world: World, name: str) -> None:
    publish_ranker(store, world, publish(store, world, name))
    pipeline = Pipeline(open_served(store, APPLICATION, 1))
    for user in (105, "nobody"):
        without = ask(pipeline, user_id=user, explain=True)
        nothing: list[Any] = []
        for fields in ({"history": nothing}, {"history": nothing, "history_times": nothing}):
            answer = ask(pipeline, user_id=user, explain=True, **fields)
            for part in ("items", "fallback"):
                assert json.dumps(answer[part]) == json.dumps(without[part])  # NaN as text
