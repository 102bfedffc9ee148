"""The HTTP face of a service: FastAPI, without Ray.

Every wrong request is answered with a 4xx that says why; a 500 would be a fault of ours, see ``watch``.
Bodies are parsed and answers written by pydantic-core directly: on the hot path FastAPI only routes.
"""

import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any, Protocol, runtime_checkable

import pydantic_core
from fastapi import FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

import recray
from recray.serve.events.told import Told
from recray.serve.follower import NothingServedError
from recray.serve.http import answers, page, probes
from recray.serve.http.bodies import WholeBodies, too_large
from recray.serve.http.live_requests import MAX_ITEM_BODY_BYTES, EventsRequest, ItemRequest
from recray.serve.http.metrics import GatewayMetrics
from recray.serve.http.raw import id_header, request_id_of
from recray.serve.http.requests import (
    MAX_BODY_BYTES,
    MAX_ROWS_BODY_BYTES,
    RecommendRequest,
    RequestError,
    ScoreRequest,
    parse,
)
from recray.serve.http.watch import Watch, route_of
from recray.serve.query import MAX_K

_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.ASCII | re.IGNORECASE)

_PROBLEMS: dict[int, str] = {
    400: "not JSON, or a header is not text",
    404: "no such item or page",
    405: "the page has no such method; its header allow names those it has",
    408: "the body was not whole in time",
    413: "body too large",
    415: "not application/json",
    422: "a field is wrong; the message names it",
    429: "too many such requests at a time, or no more is taken in; the message says which",
    500: "a fault of the server; its log says more under the request id",
    503: "nothing is loaded, retrieval is gone, what is told cannot be kept or too many bodies: see there",
}
_OF_ANY = (400, 404, 405, 500)  # whatever is asked
_OF_A_BODY = (408, 413, 415, 422, 429, 503)


class Service(Protocol):
    """What answers, with one version at a time; the placements are alike. Answers lack their request id."""

    def health(self) -> answers.Health: ...

    def not_ready(self) -> str | None: ...

    def versions(self) -> dict[str, Any]: ...


@runtime_checkable
class Recommends(Service, Protocol):
    """An application that recommends."""

    async def recommend(self, request: RecommendRequest) -> answers.Recommendations:
        """Raises ``RequestError`` for a request that this version cannot answer, or not now."""

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


class _PlainRoute(APIRoute):
    """A page that reads its request itself: FastAPI has nothing to find out for it at each one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


def _reply(
    scope: Scope, answer: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer as JSON."""
    # NaN and infinity are not JSON: a missing feature or score is null.
    content = pydantic_core.to_json(answer, inf_nan_mode="null")
    return Response(content, status, {**id_header(scope), **(headers or {})}, "application/json")


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
        responses=_problems(*_OF_ANY),
    )
    metrics = GatewayMetrics()
    app.add_middleware(Watch, metrics=metrics, behind_serve=behind_serve)
    if behind_serve:
        probes.announce(service.not_ready)
    else:
        app.add_middleware(WholeBodies)
    if isinstance(service, Recommends):
        _add_recommend(app, service, metrics)
        _add_similar(app, service, metrics)
    if isinstance(service, Hears):
        _add_hearing(app, service, metrics)
    if isinstance(service, ScoresRows):
        _add_score(app, service, metrics)
    _add_operations(app, service, metrics)
    _add_probes(app, service)
    page.add_page(app)
    _add_error_handlers(app, metrics)
    return app


def _add_recommend(app: FastAPI, service: Recommends, metrics: GatewayMetrics) -> None:
    async def recommend(request: Request) -> Response:
        """The best items for a user; what it has seen only where the application keeps that."""
        answer = await service.recommend(parse(await _json_body(request), RecommendRequest))
        answer["request_id"] = request_id_of(request.scope)
        metrics.recommended(answer)
        return _reply(request.scope, answer)

    app.router.add_api_route(
        "/recommend",
        recommend,
        methods=["POST"],
        openapi_extra=_body_of(RecommendRequest),
        responses={200: {"model": answers.Recommendations}, **_problems(*_OF_A_BODY)},
        route_class_override=_PlainRoute,
    )


def _add_similar(app: FastAPI, service: Recommends, metrics: GatewayMetrics) -> None:
    @app.get(
        "/items/{item_id:path}/similar",
        responses={200: {"model": answers.SimilarItems}, **_problems(422, 503)},
    )
    async def similar(
        request: Request,
        item_id: Annotated[str, Path(max_length=200)],
        k: Annotated[int, Query(ge=1, le=MAX_K)] = 10,
    ) -> Response:
        """The items whose vectors are nearest to one item's."""
        answer = await service.similar(item_id, k)
        answer["request_id"] = request_id_of(request.scope)
        metrics.answered("similar", 200)
        return _reply(request.scope, answer)


def _add_hearing(app: FastAPI, service: Hears, metrics: GatewayMetrics) -> None:
    answered: dict[int | str, dict[str, Any]] = {
        202: {"model": answers.Heard},
        **_problems(*_OF_A_BODY),
    }

    def heard(request: Request, answer: answers.Heard) -> Response:
        answer["request_id"] = request_id_of(request.scope)
        metrics.answered(route_of(request.scope), 202)
        return _reply(request.scope, answer, 202)

    @app.post("/events", status_code=202, openapi_extra=_body_of(EventsRequest), responses=answered)
    async def events(
        request: Request,
        idempotency_key: Annotated[
            str | None, Header(max_length=200, description="a request with the same key counts once")
        ] = None,
    ) -> Response:
        """What users did since: histories, seen items and counts go by it from the next second on."""
        told = parse(await _json_body(request), EventsRequest).told(idempotency_key)
        return heard(request, await service.tell(told))

    @app.put(
        "/items/{item_id:path}", status_code=202, openapi_extra=_body_of(ItemRequest), responses=answered
    )
    async def item(request: Request, item_id: Annotated[str, Path(max_length=200)]) -> Response:
        """What an item is, a new one or a known one, and whether it can be had, from now on."""
        told = parse(await _json_body(request, MAX_ITEM_BODY_BYTES), ItemRequest)
        return heard(request, await service.tell_of_item(item_id, told))


def _add_score(app: FastAPI, service: ScoresRows, metrics: GatewayMetrics) -> None:
    @app.post(
        "/score",
        openapi_extra=_body_of(ScoreRequest),
        responses={200: {"model": answers.Scores}, **_problems(*_OF_A_BODY)},
    )
    async def score(request: Request) -> Response:
        """The probability that each row is a click."""
        body = await _json_body(request, MAX_ROWS_BODY_BYTES)
        answer = await service.score(parse(body, ScoreRequest))
        answer["request_id"] = request_id_of(request.scope)
        metrics.scored(answer)
        return _reply(request.scope, answer)


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the API page says of refusals."""
    return {status: {"model": answers.Problem, "description": _PROBLEMS[status]} for status in statuses}


def _body_of(kind: type[BaseModel]) -> dict[str, Any]:
    """What the API page says of a body that FastAPI does not parse."""
    schema = kind.model_json_schema()
    content = {"application/json": {"schema": _in_place(schema, schema.pop("$defs", {}))}}
    return {"requestBody": {"required": True, "content": content}}


def _in_place(schema: object, defined: Mapping[str, object]) -> object:
    """With what it refers to in the place of the reference: in a larger document that would lead nowhere."""
    if isinstance(schema, list):
        return [_in_place(each, defined) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _in_place(defined[schema["$ref"].rpartition("/")[2]], defined)
    return {key: _in_place(value, defined) for key, value in schema.items()}


def _add_operations(app: FastAPI, service: Service, metrics: GatewayMetrics) -> None:
    @app.get("/health", responses={200: {"model": answers.Health}})
    async def health(request: Request) -> Response:
        """Whether the newest version serves, and if not, why."""
        return _reply(request.scope, service.health())

    @app.get("/versions")
    async def versions(request: Request) -> Response:
        """What is served, what the store holds, and where its names point."""
        return _reply(request.scope, service.versions())

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """Prometheus text format; counts of the replica that answers."""
        return Response(metrics.render(service.health()), media_type=CONTENT_TYPE_LATEST)


def _add_probes(app: FastAPI, service: Service) -> None:
    """Behind Serve's proxy; a replica that is asked directly answers sooner, see ``probes``."""

    @app.get("/live", responses={200: {"model": answers.Live}})
    async def live(request: Request) -> Response:
        """The process runs."""
        return Response(pydantic_core.to_json(probes.live()), media_type="application/json")

    @app.get("/ready", responses={200: {"model": answers.Ready}, 503: {"model": answers.Ready}})
    async def ready(request: Request) -> Response:
        """Whether a version is loaded and the store is followed; 503 where not."""
        status, answer = probes.ready(service.not_ready)
        return Response(pydantic_core.to_json(answer), status, media_type="application/json")


def _add_error_handlers(app: FastAPI, metrics: GatewayMetrics) -> None:
    def refuse(request: Request, error: RequestError) -> Response:
        metrics.answered(route_of(request.scope), error.status)
        problem = error.to_json(request_id_of(request.scope))
        return _reply(request.scope, problem, error.status, error.headers)

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


async def _json_body(request: Request, most_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The body, read no further than the limit.

    Raises:
        RequestError: 415 another content type, 413 too large, 400 the client went away.
    """
    if not _JSON.fullmatch(request.headers.get("content-type", "")):
        raise RequestError(415, "wrong_content_type", "send the body as content-type: application/json")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and len(length) < 20 and int(length) > most_bytes:
        raise too_large(most_bytes)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most_bytes:
                raise too_large(most_bytes)
    except ClientDisconnect:
        raise RequestError(400, "incomplete_body", "the connection closed before the body ended") from None
    return bytes(body)
