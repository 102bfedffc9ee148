"""Every option is declared once: YAML, the command line and the stages read the same fields."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import tyro
from pydantic import ValidationError

from recray.cli.serve import Serve
from recray.config import ConfigError
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.application import ApplicationConfig, build
from recray.serve.place.config import PlacementConfig, ServiceConfig
from recray.serve.place.pipeline import Pipeline
from recray.serve.rules.listed import Rules
from recray.serve.rules.per_category import PerCategoryConfig
from recray.serve.stages.listed import StagesConfig
from recray.serve.versions import open_served
from recray.store import Store
from tests.serve.world import APPLICATION, NOW, World


def test_yaml_and_command_line_name_the_same_options() -> None:
    flat = {option.name for option in fields(ApplicationConfig)}
    assert flat == {option.name for kind in (ServiceConfig, PlacementConfig) for option in fields(kind)}
    words = (
        "--service.rules.diversity.strength 0.2 --service.rules.per-category.at-most 2 --placement.replicas 3"
    )
    job = tyro.cli(Serve, args=words.split())
    assert job.service.rules.diversity.strength == 0.2
    assert job.service.rules.per_category.at_most == 2
    assert job.placement.replicas == 3


def test_serve_hands_over_text_or_values() -> None:
    application = build({"application": "x", "cold_share": "0.2", "rules": {"per_category": {"at_most": 2}}})
    config = application._bound_deployment.init_args[0]
    assert config.cold_share == 0.2
    assert config.rules == Rules(per_category=PerCategoryConfig(at_most=2))


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ({"nope": 1}, "nope"),
        ({"rules": {"per_category": {"nope": 1}}}, "rules.per_category.nope"),
        ({"replicas": "many"}, "replicas"),
        ({"rules": {"diversity": {"strength": 2}}}, "strength must be between 0 and 1, got 2"),
        ({"replicas": 0}, "replicas must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_named(args: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        build({"application": "x", **args})


def test_at_most_so_many_of_a_category_are_shown(published: Store, world: World) -> None:
    rules = Rules(per_category=PerCategoryConfig(at_most=2))
    bundles = open_served(published, APPLICATION)
    plain, ruled = (Pipeline(bundles, StagesConfig(rules=r)) for r in (Rules(), rules))
    genres = [row[0] for row in world.items["genres"].to_list()]
    for user in range(100, 110):
        request = RecommendRequest(user_id=user, k=50, request_time=NOW, explain=True)
        answers = [p.recommend(request) for p in (plain, ruled)]
        ranked, shown = ([int(item["item_id"][1:]) for item in a["items"]] for a in answers)
        left: dict[str, int] = {}
        expected = []
        for item in ranked:
            left[genres[item]] = left.get(genres[item], 0) + 1
            if left[genres[item]] <= 2:
                expected.append(item)
        assert shown == expected
        assert len(shown) == 6  # two of each genre
        assert "per_category" in answers[1]["timings_ms"]
        assert all(len(item["why"]) == 3 for item in answers[1]["items"])


def test_a_rule_that_does_not_fit_the_catalogue_is_refused(published: Store) -> None:
    rules = Rules(per_category=PerCategoryConfig(at_most=2, column="brand"))
    with pytest.raises(ConfigError, match="has no column 'brand' of its items; it has raw_id, title, genres"):
        Pipeline(open_served(published, APPLICATION), StagesConfig(rules=rules))
    with pytest.raises(ConfigError, match="at_most must not be negative, got -1"):
        PerCategoryConfig(at_most=-1)


def test_items_without_a_category_all_stay() -> None:
    from recray.features.candidates import Candidates
    from recray.serve.clock import StageClock
    from recray.serve.query import Query
    from recray.serve.rules.per_category import AtMostPerCategory
    from recray.serve.stages.retrieve import retrieved
    from recray.serve.state import RequestState

    query = Query(-1, None, np.empty(0, np.int64), NOW, k=9)
    candidates = Candidates(np.arange(6), np.zeros(6, np.float32), np.ones(6, np.uint8))
    state = retrieved(RequestState(query, StageClock()), candidates, None, None)
    rule = AtMostPerCategory(np.array([1, 0, 1, 0, 2, 0]), 1)
    assert rule(state).item_ids_S.tolist() == [0, 1, 3, 4, 5]
