"""Schemathesis asks every operation, rightly and wrongly: no answer that the API page does not tell."""

import shutil
from collections.abc import Iterator

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS, load_all_checks

from recray.serve.http import admin
from recray.serve.http.admin import require_token
from recray.serve.http.gateway import create_app
from recray.serve.place.config import ServiceConfig
from recray.serve.place.fused import FusedService
from recray.serve.place.scoring import ScoringService
from recray.serve.traffic.analysis import Analysis
from recray.store import Store
from tests.serve.test_scoring import NAME, shop
from tests.serve.world import APPLICATION

__all__ = ["shop"]  # a fixture

load_all_checks()
pytestmark = pytest.mark.slow

EXAMPLES = 120  # of each operation
TOLD = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "unsupported_method",
)
OPERATIONS = {"/health", "/live", "/ready", "/versions", "/metrics"}
RECOMMENDS = {"/recommend", "/drift", "/items/{item_id}/similar", "/items/{item_id}", "/events", "/traffic"}
ADMIN = {f"/admin/{action}" for action in admin.CHANGES}


def any_token(authorization: str) -> None:
    """Whatever is sent is right (test_traffic sends wrong ones too); where none is, that is told."""
    if not authorization:
        require_token(authorization)


@pytest.fixture(scope="module")
def recommends(published: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """Whoever asks may change what is served."""
    root = tmp_path_factory.mktemp("administered") / "store"
    shutil.copytree(published.root, root)
    config = ServiceConfig(application=APPLICATION, store=str(root))
    service = FusedService(config, desk=Analysis(Store(root), APPLICATION))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(admin.TOKEN, "a-token")
        patch.setattr(admin, "require_token", any_token)
        yield create_app(service)
    service.stop()


@pytest.fixture(scope="module")
def scores_rows(shop: tuple[Store, object]) -> Iterator[FastAPI]:
    service = ScoringService(ServiceConfig(application=NAME, store=str(shop[0].root)))
    yield create_app(service)
    service.stop()


def ask_everything(app: FastAPI) -> dict[str, set[int]]:
    """The statuses of the answers, by path."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    statuses: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy() | operation.as_strategy(schemathesis.GenerationMode.NEGATIVE))
        def every_answer_is_told(case: schemathesis.Case) -> None:
            answer = case.call_and_validate(checks=CHECKS.get_by_names(TOLD))
            statuses.setdefault(case.path, set()).add(answer.status_code)

        every_answer_is_told()
    return statuses


def test_every_answer_of_what_recommends_is_told(recommends: FastAPI) -> None:
    statuses = ask_everything(recommends)
    assert statuses.keys() == RECOMMENDS | OPERATIONS | ADMIN
    assert {409, 422} <= statuses["/admin/canary"]
    assert {200, 422} <= statuses["/recommend"]
    assert {202, 422} <= statuses["/events"]
    assert statuses["/ready"] == {200}


def test_every_answer_of_what_scores_rows_is_told(scores_rows: FastAPI) -> None:
    statuses = ask_everything(scores_rows)
    assert statuses.keys() == {"/score"} | OPERATIONS
    assert {200, 422} <= statuses["/score"]
