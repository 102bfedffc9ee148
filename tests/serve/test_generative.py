"""A decoder served alone, and as one more source of candidates beside vectors and popularity."""

import asyncio
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

from recray.bundles.log import read_log
from recray.bundles.retriever import read_retriever
from recray.config import ConfigError
from recray.features.candidates import COLD, GENERATIVE, POPULAR
from recray.features.candidates import RETRIEVER as BY_VECTOR
from recray.features.ranking import FEATURES, RankingQuery, compute
from recray.serve.http.gateway import create_app
from recray.serve.http.requests import RecommendRequest, RequestError
from recray.serve.place.config import PlacementConfig, ServiceConfig
from recray.serve.place.following import follow
from recray.serve.place.fused import FusedService
from recray.serve.place.pipeline import Pipeline
from recray.serve.rules.diversify import DiversityConfig
from recray.serve.rules.listed import Rules
from recray.serve.stages.listed import StagesConfig
from recray.serve.versions import open_served
from recray.store import Store, StoreError
from tests.serve.generative_world import CONFIG, DECODER, decoder, exact_scores, publish_decoder, semantic_ids
from tests.serve.world import APPLICATION, NOW, NUM_ITEMS, RETRIEVER, World

REPO = Path(__file__).parents[2]
BESIDE = StagesConfig(second_source_items=15)


@pytest.fixture(scope="module")
def store(published: Store, world: World, tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("generative") / "store"
    shutil.copytree(published.root, root)
    own = Store(root)
    for seed in (0, 1):
        publish_decoder(own, world, seed)
    own.promote(DECODER, 1)
    return own


@pytest.fixture(scope="module")
def alone(store: Store) -> Pipeline:
    return Pipeline(open_served(store, DECODER))


@pytest.fixture(scope="module")
def beside(store: Store) -> Pipeline:
    return Pipeline(open_served(store, APPLICATION, second_source=DECODER), BESIDE)


def ask(pipeline: Pipeline, **fields: Any) -> Any:
    return pipeline.recommend(RecommendRequest(**{"request_time": NOW, **fields}))


def ids(answer: Any) -> list[int]:
    return [int(item["item_id"][1:]) for item in answer["items"]]


def best(scores_I: np.ndarray, gone: set[int], k: int) -> list[int]:
    return [i for i in np.argsort(-scores_I, kind="stable").tolist() if i not in gone][:k]


@pytest.mark.parametrize(("raw_user", "user"), [("103", 3), ("nobody", -1), (None, -1)])
def test_a_history_gives_the_items_that_most_probably_follow(
    alone: Pipeline, world: World, raw_user: str | None, user: int
) -> None:
    answer = ask(alone, user_id=raw_user, history=["i5", "i9", "i2"], exclude=["i7"], k=20)
    scores_I = exact_scores(user, [5, 9, 2])
    assert ids(answer) == best(scores_I, {5, 9, 2, 7}, 20)
    np.testing.assert_allclose(
        [item["score"] for item in answer["items"]], scores_I[ids(answer)], rtol=0, atol=1e-5
    )
    assert answer["fallback"] is None
    assert answer["items"][0]["title"] == f"Film {ids(answer)[0]}"
    assert set(answer["version"]) == {"retriever"}
    assert answer["version"]["retriever"]["name"] == DECODER
    assert set(answer["timings_ms"]) == {"lookup", "filter", "generate", "answer", "total"}
    for item in answer["items"]:
        is_cold = world.counts_I[int(item["item_id"][1:])] == 0
        assert item["source"] == ("cold" if is_cold else "decoder")


@pytest.mark.parametrize("fields", [{}, {"user_id": "nobody"}, {"history": []}, {"user_id": "103"}])
def test_without_a_history_popular_items_come_back(
    alone: Pipeline, world: World, fields: dict[str, Any]
) -> None:
    answer = ask(alone, exclude=["i0"], k=10, **fields)
    assert answer["fallback"] == "popular"
    assert {(item["source"], item["score"] != item["score"]) for item in answer["items"]} == {
        ("popular", True)
    }
    assert ids(answer) == best(world.counts_I, {0}, 10)


def test_unknown_items_are_refused(alone: Pipeline) -> None:
    with pytest.raises(RequestError, match="422 unknown_item: history: no item 'i300'"):
        ask(alone, history=["i1", "i300"], strict=True)
    with pytest.raises(RequestError, match="404 unknown_item"):
        alone.similar("i300", 3)


def test_the_whole_catalogue_comes_back_where_it_is_asked_for(alone: Pipeline) -> None:
    assert sorted(ids(ask(alone, history=["i5"], k=500))) == [i for i in range(NUM_ITEMS) if i != 5]
    assert ask(alone, history=["i5"], exclude=[f"i{i}" for i in range(NUM_ITEMS)])["items"] == []


def test_a_short_list_is_the_beginning_of_a_longer_one_whatever_the_beams(
    own_store: Store, world: World
) -> None:
    publish_decoder(own_store, world, config=dataclasses.replace(CONFIG, beams=8))
    few = Pipeline(open_served(own_store, DECODER, 1))
    longest = ids(ask(few, history=["i5"], k=60))
    assert len(set(longest)) == 60
    for k in (1, 7, 8, 9, 25):
        assert ids(ask(few, history=["i5"], k=k)) == longest[:k]
    rest = ask(few, history=["i5"], k=8, exclude=[f"i{item}" for item in longest[:8]])
    assert ids(rest) == longest[8:16]  # so that a page by exclude is the next part of the list


def test_cold_items_are_reached_by_their_codes(alone: Pipeline, world: World) -> None:
    warm = np.flatnonzero(world.counts_I).tolist()
    answer = ask(alone, history=["i5"], exclude=[f"i{i}" for i in warm], k=5)
    assert {item["source"] for item in answer["items"]} == {"cold"}
    assert ids(answer) == best(exact_scores(-1, [5]), {5, *warm}, 5)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_share_of_an_answer_is_kept_for_cold_items(store: Store, world: World, share: float) -> None:
    pipeline = Pipeline(open_served(store, DECODER), StagesConfig(cold_share=share))
    k, scores_I = 10, exact_scores(-1, [40])
    warm = set(np.flatnonzero(world.counts_I).tolist())
    answer = ask(pipeline, history=["i40"], k=k)
    expected = best(scores_I, {40}, k)
    cold = [i for i in expected if i not in warm]
    more = [i for i in best(scores_I, {40, *warm}, k) if i not in cold][: max(0, int(k * share) - len(cold))]
    kept = [i for i in expected if i in warm][: k - len(cold) - len(more)]
    assert ids(answer) == sorted([*cold, *more, *kept], key=lambda i: -scores_I[i])
    assert sum(item["source"] == "cold" for item in answer["items"]) >= int(k * share)


def test_similar_items_have_similar_codes(alone: Pipeline) -> None:
    near = alone.similar("i8", 5)
    weight, codes_IL = decoder(semantic_ids()).codes.weight.detach().numpy(), semantic_ids().codes_IL
    vectors = [sum(weight[8 * level + codes[level]] for level in range(3)) for codes in codes_IL]
    cosines = [v @ vectors[8] / np.linalg.norm(v) / np.linalg.norm(vectors[8]) for v in vectors]
    nearest = sorted((i for i in range(NUM_ITEMS) if i != 8), key=lambda i: -cosines[i])[:5]
    assert [item["score"] for item in near["items"]] == pytest.approx([cosines[i] for i in nearest], abs=1e-5)
    assert len(near["items"]) == 5


def test_a_diverse_answer_has_the_same_candidates(store: Store) -> None:
    spread = Pipeline(
        open_served(store, DECODER), StagesConfig(rules=Rules(diversity=DiversityConfig(strength=0.9)))
    )
    plain = Pipeline(open_served(store, DECODER))
    fields = {"history": ["i5"], "k": 30}
    assert sorted(ids(ask(spread, **fields))) == sorted(ids(ask(plain, **fields)))


# ------------------------------------------------------------- one more source


def told(pipeline: Pipeline, **fields: Any) -> dict[int, tuple[float, int]]:
    """item id -> (retrieval score, source mask) of every candidate."""
    answer = ask(pipeline, explain=True, **fields)["candidates"]
    rows = zip(answer["item_ids"], answer["retrieval_scores"], answer["sources"], strict=True)
    return {int(raw[1:]): (score, mask) for raw, score, mask in rows}


@pytest.mark.parametrize("fields", [{"user_id": "103"}, {"user_id": "x", "history": ["i5", "i9"]}])
def test_generated_items_join_the_candidates(
    beside: Pipeline, store: Store, world: World, fields: dict[str, Any]
) -> None:
    with_decoder, without = told(beside, **fields), told(Pipeline(open_served(store, APPLICATION)), **fields)
    if "history" in fields:
        history, user, gone = [5, 9], -1, {5, 9}
    else:
        history, user, gone = world.log.seen_before(3, NOW).tolist(), 3, world.seen(3)
    generated = best(exact_scores(user, history), gone, BESIDE.second_source_items)
    assert [i for i in with_decoder if with_decoder[i][1] & GENERATIVE] == [
        i for i in with_decoder if i in generated
    ]
    assert set(with_decoder) == set(without) | set(generated)
    for item, (score, mask) in with_decoder.items():
        old_score, old_mask = without.get(item, (score, 0))
        assert (score, mask & (BY_VECTOR | POPULAR)) == (old_score, old_mask)
        assert bool(mask & COLD) == (item in generated and world.counts_I[item] == 0)
    files = read_retriever(store.open(RETRIEVER, 1))
    assert files.user_UD is not None
    if "history" not in fields:
        expected = files.item_ID[list(with_decoder)] @ files.user_UD[3]
        np.testing.assert_allclose([score for score, _ in with_decoder.values()], expected, rtol=1e-5)
    assert list(with_decoder) == sorted(with_decoder, key=lambda i: (-with_decoder[i][0], i))


def test_features_of_generated_items_replay_bit_for_bit(beside: Pipeline, store: Store) -> None:
    answer = ask(beside, user_id="103", k=50, explain=True)
    candidates = answer["candidates"]
    ranker = open_served(store, APPLICATION).ranker
    assert ranker is not None
    query = RankingQuery(
        3,
        NOW,
        np.array([int(raw[1:]) for raw in candidates["item_ids"]]),
        np.array(candidates["retrieval_scores"], np.float32),
        np.array(candidates["sources"], np.uint8),
        known_until=NOW - answer["age_s"],
    )
    offline_KF = compute(read_log(ranker), query, tuple(FEATURES))
    sources = {item["source"] for item in answer["items"]}
    assert sources & {"decoder", "cold"}
    for item in answer["items"]:
        served_F = np.array(list(item["features"].values()), np.float32)
        assert served_F.tobytes() == offline_KF[candidates["item_ids"].index(item["item_id"])].tobytes()


def test_the_decoders_version_is_named_and_its_time_booked(beside: Pipeline) -> None:
    answer = ask(beside, user_id="103")
    assert answer["version"]["generative"]["name"] == DECODER
    assert "generate" in answer["timings_ms"]
    assert ask(beside)["fallback"] == "popular"


def test_a_decoder_of_another_catalogue_is_refused(own_store: Store, world: World) -> None:
    other = world.items.with_columns(pl.col("raw_id") + "x")
    publish_decoder(own_store, world, items=other)
    own_store.promote(DECODER, 1)
    problem = (
        r"tiny-decoder version 1 .* another catalogue: it has 300 items and the retriever 300, 0 in common"
    )
    with pytest.raises(ConfigError, match=problem):
        Pipeline(open_served(own_store, APPLICATION, second_source=DECODER))


def test_users_are_matched_and_further_items_left_out(own_store: Store, world: World) -> None:
    further = pl.DataFrame({"raw_id": ["new1", "new2"]})
    turned = dataclasses.replace(world, users=world.users.reverse())
    publish_decoder(own_store, turned, items=pl.concat([world.items, further], how="diagonal"))
    own_store.promote(DECODER, 1)
    everything = StagesConfig(second_source_items=NUM_ITEMS + 2)
    beside = Pipeline(open_served(own_store, APPLICATION, second_source=DECODER), everything)
    found = told(beside, user_id="103")
    assert sum(bool(mask & GENERATIVE) for _, mask in found.values()) == NUM_ITEMS - len(world.seen(3))
    assert beside._retrieval._second._user_rows_U.tolist() == list(range(len(world.users)))[::-1]  # type: ignore[attr-defined]


def test_a_decoder_beside_a_decoder_is_refused(store: Store) -> None:
    with pytest.raises(ConfigError, match="is a decoder: it needs no other one beside it"):
        Pipeline(open_served(store, DECODER, second_source=DECODER))


def test_beside_must_be_a_decoder(store: Store) -> None:
    with pytest.raises(ConfigError, match="tiny-two_tower version 1 .* is a 'two_tower', no decoder"):
        Pipeline(open_served(store, APPLICATION, second_source=RETRIEVER))


def test_spread_stages_take_no_decoder_beside_them(store: Store) -> None:
    from recray.serve.place.deployments import build_application

    config = ServiceConfig(application=APPLICATION, store=str(store.root), second_source=DECODER)
    with pytest.raises(ConfigError, match="needs placement 'fused'"):
        build_application(config, PlacementConfig(placement="spread"))


def test_both_versions_are_followed(own_store: Store, world: World) -> None:
    for seed in (0, 1):
        publish_decoder(own_store, world, seed)
    own_store.promote(DECODER, 1)
    config = ServiceConfig(application=APPLICATION, store=str(own_store.root), second_source=DECODER)
    follower = follow(config, lambda bundles: Pipeline(bundles, config))
    first = follower.current
    follower.poll()
    assert follower.current is first
    own_store.promote(DECODER, 2)
    follower.poll()
    assert follower.current.bundles.versions()["generative"]["version"] == 2
    assert follower.current.reference.version == 1
    own_store.promote(APPLICATION, 2)
    follower.poll()
    assert follower.current.bundles.versions()["generative"]["version"] == 2
    assert follower.current.reference.version == 2


@pytest.mark.parametrize("fields", [{"second_source_items": 0}, {"cold_share": 1.5}, {"cold_share": -0.1}])
def test_settings_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"must be (at least 1|between 0 and 1)"):
        ServiceConfig(application=APPLICATION, **fields)


# ------------------------------------------------------------- at load, and over HTTP


def test_weights_and_map_that_disagree_are_refused_at_load(tmp_path: Path, world: World) -> None:
    store = Store(tmp_path)
    publish_decoder(store, world, map_of_weights=semantic_ids(seed=9))
    with pytest.raises(StoreError, match="semantic ids"):
        Pipeline(open_served(store, DECODER, 1))


def test_requests_and_answers_are_those_of_the_two_stage_application(store: Store) -> None:
    service = FusedService(ServiceConfig(application=DECODER, store=str(store.root)))
    app = create_app(service)

    async def post(body: dict[str, Any]) -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/recommend", json=body)

    try:
        found = asyncio.run(post({"history": ["i5", "i9"], "k": 3})).json()
        assert len(found["items"]) == 3
        assert found["version"]["retriever"]["name"] == DECODER
        popular = asyncio.run(post({"user_id": "nobody"})).json()
        assert popular["items"][0]["score"] is None
        refused = asyncio.run(post({"history": ["none such"], "strict": True}))
        assert (refused.status_code, refused.json()["error"]) == (422, "unknown_item")
    finally:
        service.stop()


def test_the_config_file_is_valid() -> None:
    import yaml
    from ray.serve.schema import ServeDeploySchema

    from recray.serve.place.application import build

    content = yaml.safe_load((REPO / "serve_apps" / "generative.yaml").read_text())
    ServeDeploySchema(**content)
    application = content["applications"][0]
    assert application["import_path"] == "recray.serve.place.application:build"
    build(application["args"])
