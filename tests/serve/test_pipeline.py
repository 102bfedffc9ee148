"""The stages together: what comes back, for whom, and that it can be recomputed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pydantic_core
import pytest

from recray.bundles.log import read_log
from recray.bundles.ranker import RANKERS
from recray.bundles.retriever import read_retriever
from recray.features.candidates import Candidates, SearchQuery, gather, popular_first
from recray.features.ranking import FEATURES, RankingQuery, compute
from recray.models.gbdt import GBDTRanker
from recray.serve.clock import StageClock
from recray.serve.http.requests import RecommendRequest, RequestError
from recray.serve.place.pipeline import Pipeline
from recray.serve.query import Query
from recray.serve.rules.diversify import Diversify, DiversityConfig
from recray.serve.rules.listed import Rules
from recray.serve.stages.listed import StagesConfig
from recray.serve.stages.retrieve import retrieved
from recray.serve.stages.shorten import Shorten
from recray.serve.state import RequestState
from recray.serve.versions import open_served
from recray.store import Store
from tests.serve.world import APPLICATION, NOW, NUM_ITEMS, RETRIEVER, World, publish_retriever

NAMES = tuple(FEATURES)


@pytest.fixture(scope="module")
def pipeline(published: Store) -> Pipeline:
    return Pipeline(open_served(published, APPLICATION))


def ask(pipeline: Pipeline, **fields: Any) -> Any:
    return pipeline.recommend(RecommendRequest(**{"request_time": NOW, **fields}))


def as_sent(answer: Any) -> Any:
    """As over HTTP, where NaN is null."""
    return pydantic_core.from_json(pydantic_core.to_json(answer, inf_nan_mode="null"))


def ids(answer: Any) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def test_an_answer_names_items_versions_and_times(pipeline: Pipeline, published: Store) -> None:
    answer = ask(pipeline, user_id=103, k=5)
    assert len(answer["items"]) == 5
    assert answer["fallback"] is None
    assert answer["items"][0]["title"] == "Film " + answer["items"][0]["item_id"][1:]
    assert {item["source"] for item in answer["items"]} <= {"two_tower", "popular"}
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    ranker = published.open(APPLICATION, 1).reference
    assert answer["version"]["ranker"] == {"name": APPLICATION, "version": 1, "digest": ranker.digest}
    assert answer["version"]["retriever"]["version"] == 1
    assert set(answer["timings_ms"]) == {
        "lookup",
        "retrieve",
        "filter",
        "features",
        "rank",
        "answer",
        "total",
    }
    parts = [ms for stage, ms in answer["timings_ms"].items() if stage != "total"]
    assert sum(parts) <= answer["timings_ms"]["total"] + 0.01


def test_text_and_number_are_one_id(pipeline: Pipeline) -> None:
    assert ids(ask(pipeline, user_id=103)) == ids(ask(pipeline, user_id="103"))


def test_a_slow_oracle_gives_the_same_order(pipeline: Pipeline, published: Store, world: World) -> None:
    """Exact inner products, the log's own rows and XGBoost, without any of the stages."""
    bundles = open_served(published, APPLICATION)
    assert bundles.ranker is not None
    files, ranker = read_retriever(bundles.retriever), GBDTRanker.load(bundles.ranker.path(RANKERS["gbdt"]))
    assert files.user_UD is not None
    for user in range(5):
        seen = world.seen(user)
        scores_I = files.item_ID @ files.user_UD[user]
        by_vector = [i for i in np.argsort(-scores_I, kind="stable") if i not in seen][:50]
        popular = [i for i in np.argsort(-world.counts_I, kind="stable") if i not in seen][:10]
        union = np.array(sorted({*by_vector, *popular}, key=lambda i: (-scores_I[i], i)))
        sources = np.array([(i in by_vector) + 2 * (i in popular) for i in union], np.uint8)
        asked = RankingQuery(user, NOW, union, scores_I[union], sources, known_until=world.log.end)
        features = compute(world.log, asked, NAMES)
        best = union[np.argsort(-ranker.score(features), kind="stable")][:10]
        assert ids(ask(pipeline, user_id=100 + user)) == [f"i{i}" for i in best]


@pytest.mark.parametrize("fields", [{}, {"history": ["i3", "i150"]}, {"request_time": NOW - 5_000_000}])
def test_served_features_replay_bit_for_bit(
    pipeline: Pipeline, published: Store, fields: dict[str, Any]
) -> None:
    """From the answer alone: the offline function gives the features that the replica computed."""
    ranker_bundle = published.open(APPLICATION, 1)
    log = read_log(ranker_bundle)
    for user in [*range(100, 120), "nobody"]:
        answer = ask(pipeline, user_id=user, explain=True, **fields)
        told = answer["candidates"]
        query = RankingQuery(
            -1 if user == "nobody" else int(user) - 100,
            answer["request_time"],
            np.array([int(raw[1:]) for raw in told["item_ids"]]),
            np.array(told["retrieval_scores"], np.float32),
            np.array(told["sources"], np.uint8),
            np.array([int(raw[1:]) for raw in fields["history"]]) if "history" in fields else None,
            known_until=answer["request_time"] - answer["age_s"],
        )
        offline_KF = compute(log, query, NAMES)
        for item in answer["items"]:
            assert tuple(item["features"]) == NAMES
            served_F = np.array(list(item["features"].values()), np.float32)
            place = told["item_ids"].index(item["item_id"])
            assert served_F.tobytes() == offline_KF[place].tobytes()
        scores_K = GBDTRanker.load(ranker_bundle.path(RANKERS["gbdt"])).score(offline_KF)
        places = [told["item_ids"].index(raw) for raw in ids(answer)]
        assert [item["score"] for item in answer["items"]] == scores_K[places].tolist()


def test_seen_excluded_and_history_items_do_not_come_back(pipeline: Pipeline, world: World) -> None:
    for user in range(10):
        gone = {f"i{i}" for i in world.seen(user)} | {"i7", "i299"}
        answer = ask(pipeline, user_id=100 + user, k=60, exclude=["i7"], history=["i299"])
        assert len(answer["items"]) == 60
        assert not gone & set(ids(answer))


def test_what_happens_later_is_neither_seen_nor_filtered(pipeline: Pipeline, world: World) -> None:
    log = world.log
    half = int(np.median(log.timestamps_N))
    of_user = log.user_ids_N == 3
    before = set(log.item_ids_N[of_user & (log.timestamps_N < half)].tolist())
    later = set(log.item_ids_N[of_user & (log.timestamps_N >= half)].tolist()) - before
    got = {int(raw[1:]) for raw in ids(ask(pipeline, user_id=103, k=NUM_ITEMS, request_time=half))}
    assert got == set(range(NUM_ITEMS)) - before
    assert later <= got


def test_the_whole_catalogue_comes_back_where_it_is_asked_for(pipeline: Pipeline, world: World) -> None:
    for user in (100, "nobody"):
        answer = ask(pipeline, user_id=user, k=500)
        seen = world.seen(0) if user == 100 else set()
        assert len(set(ids(answer))) == len(answer["items"]) == NUM_ITEMS - len(seen)


def test_only_the_unseen_items_are_left_over(pipeline: Pipeline) -> None:
    all_but_three = [f"i{n}" for n in range(NUM_ITEMS) if n not in (1, 100, 299)]
    left = set(ids(ask(pipeline, user_id="nobody", k=10, exclude=all_but_three)))
    assert left == {"i1", "i100", "i299"}
    everything = [f"i{n}" for n in range(NUM_ITEMS)]
    assert ask(pipeline, user_id=100, exclude=everything, explain=True)["items"] == []


def test_unknown_users_fall_back_to_their_history(pipeline: Pipeline, published: Store) -> None:
    answer = ask(pipeline, user_id="nobody", history=["i10", "i20"], k=20)
    assert answer["fallback"] == "history"
    assert "history" in {item["source"] for item in answer["items"]}
    item_ID = read_retriever(published.open(RETRIEVER, 1)).item_ID
    nearest = np.argsort(-(item_ID @ (item_ID[10] + item_ID[20])))
    told = ask(pipeline, user_id="nobody", history=["i10", "i20"], explain=True)["candidates"]["item_ids"]
    assert {f"i{i}" for i in nearest[:30] if i not in (10, 20)} <= set(told)


@pytest.mark.parametrize("fields", [{}, {"user_id": "nobody"}, {"user_id": "None"}, {"history": []}])
def test_without_user_and_history_popular_items_come_back(
    pipeline: Pipeline, world: World, fields: dict[str, Any]
) -> None:
    answer = ask(pipeline, k=10, **fields)
    assert answer["fallback"] == "popular"
    assert {item["source"] for item in answer["items"]} == {"popular"}
    most = np.argsort(-world.counts_I, kind="stable")[:10]
    assert set(ids(answer)) == {f"i{i}" for i in most}


def test_a_retriever_alone_is_served_in_its_own_order(published: Store, world: World) -> None:
    pipeline = Pipeline(open_served(published, RETRIEVER))
    answer = ask(pipeline, user_id=105, k=20, explain=True)
    assert "ranker" not in answer["version"]
    files = read_retriever(published.open(RETRIEVER, 1))
    assert files.user_UD is not None
    best = np.argsort(-(files.item_ID @ files.user_UD[5]))[:20]
    assert ids(answer) == [f"i{i}" for i in best]
    popular = ask(pipeline, k=20)
    assert ids(popular) == [f"i{i}" for i in np.argsort(-world.counts_I, kind="stable")[:20]]


def test_precomputed_user_vectors_change_nothing(own_store: Store, world: World) -> None:
    publish_retriever(own_store, world, 0, name="slow", user_vectors=False)
    fast, slow = (Pipeline(open_served(own_store, name, 1)) for name in (RETRIEVER, "slow"))
    for user in range(100, 110):
        assert ids(ask(fast, user_id=user)) == ids(ask(slow, user_id=user))


def test_similar_items_are_the_nearest_vectors(pipeline: Pipeline, published: Store) -> None:
    item_ID = read_retriever(published.open(RETRIEVER, 1)).item_ID
    expected = [i for i in np.argsort(-(item_ID @ item_ID[42])) if i != 42][:7]
    similar = pipeline.similar("i42", 7)
    assert [item["item_id"] for item in similar["items"]] == [f"i{i}" for i in expected]
    assert len(pipeline.similar("i42", 500)["items"]) == NUM_ITEMS - 1


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda p: ask(p, user_id=100, history=["i1", "nope"], strict=True), 422),
        (lambda p: ask(p, user_id=100, exclude=[10**18], strict=True), 422),
        (lambda p: p.similar("nope", 5), 404),
    ],
)
def test_unknown_items_are_named(pipeline: Pipeline, call: Callable[[Pipeline], Any], status: int) -> None:
    with pytest.raises(RequestError, match=r"no item '(nope|1000000000000000000)'") as caught:
        call(pipeline)
    assert caught.value.status == status


def test_reasons_stand_in_order_of_their_contribution(pipeline: Pipeline) -> None:
    answer = ask(pipeline, user_id=104, explain=True)
    for item in answer["items"]:
        contributions = [abs(reason["contribution"]) for reason in item["why"]]
        assert contributions == sorted(contributions, reverse=True)
        assert all(item["features"][reason["feature"]] is not None for reason in item["why"])


def diverse(strength: float) -> StagesConfig:
    return StagesConfig(rules=Rules(diversity=DiversityConfig(strength=strength)))


def test_diversity_spreads_similar_items_out(published: Store) -> None:
    plain, spread = (
        Pipeline(open_served(published, APPLICATION), diverse(strength)) for strength in (0.0, 0.9)
    )
    item_ID = read_retriever(published.open(RETRIEVER, 1)).item_ID

    def similarity(pipeline: Pipeline) -> float:
        rows = [int(raw[1:]) for raw in ids(ask(pipeline, user_id=101, k=10))]
        return float((item_ID[rows] @ item_ID[rows].T).mean())

    assert similarity(spread) < similarity(plain)


def test_equal_scores_keep_the_order_of_retrieval() -> None:
    candidates = Candidates(np.arange(5), np.zeros(5, np.float32), np.ones(5, np.uint8))
    query = Query(-1, None, np.empty(0, np.int64), NOW, k=3)
    state = retrieved(RequestState(query, StageClock()), candidates, None, None)
    assert Shorten()(state).item_ids_S.tolist() == [0, 1, 2]
    rule = Diversify(np.ones((5, 2), np.float32), DiversityConfig(strength=0.5))
    assert Shorten()(rule(state)).item_ids_S.tolist() == [0, 1, 2]


def test_the_stages_gather_as_training_does(pipeline: Pipeline, published: Store, world: World) -> None:
    files = read_retriever(published.open(RETRIEVER, 1))
    assert files.user_UD is not None
    assert files.index is not None
    asked = SearchQuery(
        lambda query_BD, k: files.index.search(query_BD, k).item_ids_BK, files.user_UD[7], files.item_ID
    )
    offline = gather(
        asked,
        popular_first(world.counts_I),
        np.array(sorted(world.seen(7))),
        config=pipeline._retrieval._config,
    )
    told = ask(pipeline, user_id=107, explain=True)["candidates"]
    assert told["item_ids"] == [f"i{i}" for i in offline.item_ids_K]
    assert told["retrieval_scores"] == offline.scores_K.tolist()


@pytest.mark.parametrize(
    "fields",
    [{"user_id": 103}, {"user_id": "nobody", "history": ["i10", "i20"]}, {"user_id": "nobody"}],
    ids=["known", "history", "popular"],
)
@pytest.mark.parametrize("diversity", [0.0, 0.3])
def test_a_short_list_is_the_beginning_of_a_longer_one(
    published: Store, fields: dict[str, Any], diversity: float
) -> None:
    pipeline = Pipeline(open_served(published, APPLICATION), diverse(diversity))
    longest = as_sent(ask(pipeline, k=500, **fields))
    assert len(set(ids(longest))) == len(ids(longest)) > 200, "all that is unseen"
    for k in (1, 10, 50, 61, 150):
        shorter = as_sent(ask(pipeline, k=k, **fields))
        assert shorter["items"] == longest["items"][:k]
    ranked = [item["score"] for item in longest["items"] if item["score"] is not None]
    if fields["user_id"] == 103:
        assert 50 <= len(ranked) <= 60, "what is beyond the candidates is not ranked"
        assert all(item["score"] is None for item in longest["items"][len(ranked) :])


def test_what_fills_a_list_follows_in_the_order_of_retrieval(published: Store, world: World) -> None:
    bundles = open_served(published, APPLICATION)
    files = read_retriever(bundles.retriever)
    assert files.user_UD is not None
    answer = as_sent(ask(Pipeline(bundles), user_id=103, k=500))
    filling = [int(item["item_id"][1:]) for item in answer["items"] if item["score"] is None]
    scores_I = files.item_ID @ files.user_UD[3]
    np.testing.assert_array_equal(scores_I[filling], np.sort(scores_I[filling])[::-1])
    everything = {int(item[1:]) for item in ids(answer)}
    assert everything == set(range(NUM_ITEMS)) - world.seen(3)


def test_unknown_items_are_left_out_and_listed(pipeline: Pipeline) -> None:
    known = ask(pipeline, history=["i1", "i2"], history_times=[5, 7], exclude=["i42"])
    assert known["unknown"] == {"history": [], "exclude": []}
    lenient = ask(
        pipeline,
        history=["i1", "new", "i2"],
        history_times=[5, 6, 7],
        exclude=["gone", "i42", 999],
    )
    assert lenient["unknown"] == {"history": ["new"], "exclude": ["gone", "999"]}
    assert lenient["items"] == known["items"]
    nothing = ask(pipeline, user_id="nobody", history=["new"], history_times=[5])
    assert nothing["fallback"] == "popular"


def test_reasons_of_a_list_that_is_longer_than_its_candidates(published: Store) -> None:
    bundles = open_served(published, APPLICATION)
    fields: dict[str, Any] = {"k": 50, "exclude": [f"i{n}" for n in range(40)], "explain": True}
    few = as_sent(ask(Pipeline(bundles), user_id="nobody", **fields))
    assert few["items"][-1]["score"] is None
    ranked = [item for item in few["items"] if item["score"] is not None]
    assert all(len(item["why"]) == 3 for item in ranked)
    assert all("why" not in item for item in few["items"] if item["score"] is None)
