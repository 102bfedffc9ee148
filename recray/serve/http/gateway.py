"""The HTTP face of a service: FastAPI, without Ray.

Every wrong request is answered with a 4xx that says why; a 500 would be a fault of ours, see ``watch``.
Bodies are parsed and answers written by pydantic-core directly: on the hot path FastAPI only routes.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, Protocol, runtime_checkable

import pydantic_core
from fastapi import FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

import recray
from recray.config import ConfigError
from recray.schema import DataError
from recray.serve.events.told import Told
from recray.serve.follower import NothingServedError
from recray.serve.http import answers, page, probes
from recray.serve.http.admin import Administered, add_traffic
from recray.serve.http.bodies import WholeBodies
from recray.serve.http.front import add_front
from recray.serve.http.live_requests import MAX_ITEM_BODY_BYTES, EventsRequest, ItemRequest
from recray.serve.http.metrics import GatewayMetrics
from recray.serve.http.raw import answer_id_of, id_header, request_id_of
from recray.serve.http.replies import OF_A_BODY, OF_ANY, PlainRoute, body_of, json_body, problems, reply
from recray.serve.http.requests import (
    MAX_ROWS_BODY_BYTES,
    RecommendRequest,
    RequestError,
    ScoreRequest,
    parse,
)
from recray.serve.http.watch import Watch, route_of
from recray.serve.query import MAX_K


class Service(Protocol):
    """What answers, with one version at a time; the placements are alike. Answers lack their request id."""

    def health(self) -> answers.Health: ...

    def not_ready(self) -> str | None: ...

    def problem(self) -> str | None: ...

    def versions(self) -> dict[str, Any]: ...


@runtime_checkable
class Recommends(Service, Protocol):
    """An application that recommends."""

    async def recommend(
        self, request: RecommendRequest, request_id: str = "", trace_id: str = ""
    ) -> answers.Recommendations:
        """Raises ``RequestError`` for a request that this version cannot answer, or not now.

        Args:
            request_id: of this one answer: what is done with it is told under it.
            trace_id: ``x-request-id``, which may come again.
        """

    async def similar(self, item_id: str, k: int) -> answers.SimilarItems:
        """Raises ``RequestError`` for an unknown item."""


@runtime_checkable
class Hears(Service, Protocol):
    """An application that is told what happens."""

    async def tell(self, told: Sequence[Told]) -> answers.Heard:
        """Raises ``RequestError`` where no more is taken in."""

    async def tell_of_item(self, item_id: str, request: ItemRequest) -> answers.Heard:
        """Raises ``RequestError`` also for a column or value that this version's items cannot have."""


@runtime_checkable
class ScoresRows(Service, Protocol):
    """An application that scores rows."""

    async def score(self, request: ScoreRequest) -> answers.Scores:
        """Raises ``RequestError`` for a column or value that this version cannot read."""


@runtime_checkable
class WatchesDrift(Service, Protocol):
    """An application of which somebody looks whether it drifts."""

    def drift(self) -> bytes | None:
        """The latest report as JSON; None: nobody has looked yet."""


def create_app(service: Service, *, behind_serve: bool = False) -> FastAPI:
    """The application for one service: the pages are those of what it can do.

    Args:
        behind_serve: Ray Serve stands in front and puts ``headers.middlewares`` around itself; it answers
            with ``x-request-id`` of its own. Else bodies are waited for here.
    """
    app = FastAPI(
        title="recray",
        version=recray.__version__,
        summary="Answers of one served version.",
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        responses=problems(*OF_ANY),
    )
    metrics = GatewayMetrics()
    app.add_middleware(Watch, metrics=metrics, behind_serve=behind_serve)
    if behind_serve:
        probes.announce(service)
    else:
        app.add_middleware(WholeBodies)
    if isinstance(service, Recommends):
        _add_recommend(app, service, metrics)
        _add_similar(app, service, metrics)
        add_front(app)
    if isinstance(service, Hears):
        _add_hearing(app, service, metrics)
    if isinstance(service, ScoresRows):
        _add_score(app, service, metrics)
    if isinstance(service, Administered):
        add_traffic(app, service, metrics)
    if isinstance(service, Recommends) and isinstance(service, WatchesDrift):
        _add_drift(app, service)
    _add_operations(app, service, metrics)
    _add_probes(app, service)
    page.add_page(app)
    _add_error_handlers(app, metrics)
    return app


def _add_recommend(app: FastAPI, service: Recommends, metrics: GatewayMetrics) -> None:
    async def recommend(request: Request) -> Response:
        """The best items for a user; what it has seen only where the application keeps that."""
        answer_id, asked = answer_id_of(request.scope), parse(await json_body(request), RecommendRequest)
        answer = await service.recommend(asked, answer_id, request_id_of(request.scope))
        answer["request_id"] = answer_id
        metrics.recommended(answer)
        return reply(request.scope, answer)

    app.router.add_api_route(
        "/recommend",
        recommend,
        methods=["POST"],
        openapi_extra=body_of(RecommendRequest),
        responses={200: {"model": answers.Recommendations}, **problems(*OF_A_BODY)},
        route_class_override=PlainRoute,
    )


def _add_similar(app: FastAPI, service: Recommends, metrics: GatewayMetrics) -> None:
    @app.get(
        "/items/{item_id:path}/similar",
        responses={200: {"model": answers.SimilarItems}, **problems(422, 503)},
    )
    async def similar(
        request: Request,
        item_id: Annotated[str, Path(max_length=200)],
        k: Annotated[int, Query(ge=1, le=MAX_K)] = 10,
    ) -> Response:
        """The items whose vectors are nearest to one item's."""
        answer = await service.similar(item_id.strip(), k)
        answer["request_id"] = request_id_of(request.scope)
        metrics.answered("similar", 200)
        return reply(request.scope, answer)


def _add_hearing(app: FastAPI, service: Hears, metrics: GatewayMetrics) -> None:
    answered: dict[int | str, dict[str, Any]] = {
        202: {"model": answers.Heard},
        **problems(*OF_A_BODY),
    }

    def heard(request: Request, answer: answers.Heard) -> Response:
        answer["request_id"] = request_id_of(request.scope)
        metrics.answered(route_of(request.scope), 202)
        return reply(request.scope, answer, 202)

    @app.post("/events", status_code=202, openapi_extra=body_of(EventsRequest), responses=answered)
    async def events(
        request: Request,
        idempotency_key: Annotated[
            str | None, Header(max_length=200, description="a request with the same key counts once")
        ] = None,
    ) -> Response:
        """What users did since: histories, seen items and counts go by it from the next second on."""
        told = parse(await json_body(request), EventsRequest).told(idempotency_key)
        return heard(request, await service.tell(told))

    @app.put("/items/{item_id:path}", status_code=202, openapi_extra=body_of(ItemRequest), responses=answered)
    async def item(request: Request, item_id: Annotated[str, Path(max_length=200)]) -> Response:
        """What an item is, a new one or a known one, and whether it can be had, from now on."""
        told = parse(await json_body(request, MAX_ITEM_BODY_BYTES), ItemRequest)
        return heard(request, await service.tell_of_item(item_id, told))


def _add_score(app: FastAPI, service: ScoresRows, metrics: GatewayMetrics) -> None:
    @app.post(
        "/score",
        openapi_extra=body_of(ScoreRequest),
        responses={200: {"model": answers.Scores}, **problems(*OF_A_BODY)},
    )
    async def score(request: Request) -> Response:
        """The probability that each row is a click."""
        body = await json_body(request, MAX_ROWS_BODY_BYTES)
        answer = await service.score(parse(body, ScoreRequest))
        answer["request_id"] = request_id_of(request.scope)
        metrics.scored(answer)
        return reply(request.scope, answer)


def _add_operations(app: FastAPI, service: Service, metrics: GatewayMetrics) -> None:
    @app.get("/health", responses={200: {"model": answers.Health}})
    async def health(request: Request) -> Response:
        """Whether the newest version serves, and if not, why."""
        return reply(request.scope, service.health())

    @app.get("/versions")
    async def versions(request: Request) -> Response:
        """What is served, what the store holds, and where its names point."""
        return reply(request.scope, service.versions())

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """Prometheus text format; counts of the replica that answers, and the latest look at drift."""
        drift = None
        if isinstance(service, WatchesDrift):
            with suppress(OSError, ConfigError, DataError):  # /drift says so; counts are given all the same
                drift = await asyncio.to_thread(service.drift)
        return Response(metrics.render(service.health(), drift), media_type=CONTENT_TYPE_LATEST)


def _add_drift(app: FastAPI, service: WatchesDrift) -> None:
    @app.get("/drift", responses={200: {"model": dict[str, Any]}, **problems(404, 503)})
    async def drift(request: Request) -> Response:
        """The latest look at what was shown: what moved, and which alarms stand (docs/monitoring.md)."""
        try:
            found = await asyncio.to_thread(service.drift)
            pydantic_core.from_json(b"{}" if found is None else found)
        except (OSError, ValueError) as error:
            message = f"the latest look cannot be read ({error}): run `recray drift APPLICATION` again"
            raise RequestError(503, "look_unreadable", message) from None
        if found is None:
            raise RequestError(404, "not_looked_yet", "nobody has looked yet: run `recray drift APPLICATION`")
        return Response(found, media_type="application/json", headers=id_header(request.scope))


def _add_probes(app: FastAPI, service: Service) -> None:
    """Behind Serve's proxy; a replica that is asked directly answers sooner, see ``probes``."""

    @app.get("/live", responses={200: {"model": answers.Live}})
    async def live(request: Request) -> Response:
        """The process runs."""
        return Response(pydantic_core.to_json(probes.live()), media_type="application/json")

    @app.get("/ready", responses={200: {"model": answers.Ready}, 503: {"model": answers.Ready}})
    async def ready(request: Request) -> Response:
        """Whether a version is loaded and the store is followed; 503 where not."""
        status, answer = probes.ready(service)
        return Response(pydantic_core.to_json(answer), status, media_type="application/json")


def _add_error_handlers(app: FastAPI, metrics: GatewayMetrics) -> None:
    def refuse(request: Request, error: RequestError) -> Response:
        metrics.answered(route_of(request.scope), error.status)
        problem = error.to_json(request_id_of(request.scope))
        return reply(request.scope, problem, error.status, error.headers)

    async def on_request_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        return refuse(request, error)

    async def on_nothing_served(request: Request, error: Exception) -> Response:
        return refuse(request, RequestError(503, "not_ready", str(error), {"retry-after": "5"}))

    async def on_bad_parameter(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problem = error.errors()[0]
        message = f"{problem['loc'][-1]}: {problem['msg']}"
        return refuse(request, RequestError(422, "invalid_request", message))

    async def on_no_page(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        routes = [route for route in app.routes if isinstance(route, APIRoute)]
        pages = ", ".join(f"{' '.join(route.methods or ())} {route.path_format}" for route in routes)
        message = f"{error.detail}; there is {pages}"
        headers = dict(error.headers or {})  # of a 405, the methods that there are
        reason = "no_such_method" if error.status_code == 405 else "no_such_page"
        return refuse(request, RequestError(error.status_code, reason, message, headers))

    app.add_exception_handler(RequestError, on_request_error)
    app.add_exception_handler(NothingServedError, on_nothing_served)
    app.add_exception_handler(RequestValidationError, on_bad_parameter)
    app.add_exception_handler(HTTPException, on_no_page)
