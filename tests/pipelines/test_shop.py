"""A shop's export, as it is: from three raw files to a served list with titles, categories and prices."""

import pytest

from recray.data.events.split_data import DataConfig
from recray.eval.two_stage import MeasuredStages
from recray.pipelines.train import train
from recray.recipes.pairs import TWO_TOWER, TwoTowerRun
from recray.recipes.ranker import GBDT_RANKER, GBDTRankerRun
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.pipeline import Pipeline
from recray.serve.versions import open_served
from recray.store import Store, run_record
from recray.train.context import LaunchConfig
from recray.train.loop import LoopConfig
from tests.conftest import shared_case

LOCAL = LaunchConfig(where="local")


@pytest.mark.data
def test_a_shops_export_becomes_a_served_list() -> None:
    events = shared_case("shop/events.csv")
    data = DataConfig(
        dataset=f"{events}?items=products.csv&users=users.csv&anonymous=drop&name=shop",
        weights="view=1,cart=3,purchase=5",
    )
    retriever = train(TWO_TOWER, TwoTowerRun(data=data, loop=LoopConfig(epochs=8)), LOCAL, Store())
    assert retriever.bundle.manifest.name == "shop-two_tower"
    assert retriever.measured.means()["ndcg@10"] > 0.05
    ranking = GBDTRankerRun(data=DataConfig(dataset=data.dataset))
    ranker = train(GBDT_RANKER, ranking, LOCAL, Store())
    assert isinstance(ranker.measured, MeasuredStages)
    assert ranker.measured.means()["ndcg@10"] > ranker.measured.retriever.means()["ndcg@10"]
    assert run_record(ranker.bundle).learnt_until.startswith("2026-11-2")
    pipeline = Pipeline(open_served(Store(), "shop-ranker", ranker.bundle.manifest.version))
    answer = pipeline.recommend(RecommendRequest(user_id="u000506", k=10))
    assert len(answer["items"]) == 10
    assert all(item["title"] for item in answer["items"])
    for item in answer["items"]:
        details = item["details"]
        assert details["category"]
        assert details["price"] > 0
