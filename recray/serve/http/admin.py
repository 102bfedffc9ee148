"""Pages for whoever is responsible for what is served: what runs on live traffic, and how to change it."""

import asyncio
import hashlib
import hmac
import os
from typing import Annotated, ClassVar, Protocol, TypeAlias, runtime_checkable

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.types import StrictBool, StrictFloat, StrictInt

from recray.config import ConfigError
from recray.serve.http.answers import Done
from recray.serve.http.metrics import GatewayMetrics
from recray.serve.http.raw import header, request_id_of
from recray.serve.http.replies import OF_A_BODY, PlainRoute, body_of, json_body, problems, reply
from recray.serve.http.requests import RawId, RequestError, parse
from recray.serve.http.traffic_answers import Traffic
from recray.store.journal import TurnAction

TOKEN = "RECRAY_ADMIN_TOKEN"
MAX_ADMIN_BODY_BYTES = 16 * 1024

Text = Annotated[str, StringConstraints(max_length=1_000, strict=True)]
Version: TypeAlias = StrictInt | Annotated[str, StringConstraints(min_length=1, max_length=100, strict=True)]
Share = Annotated[StrictFloat | StrictInt, Field(gt=0, le=1, allow_inf_nan=False)]
Limit = Annotated[StrictFloat | StrictInt, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
Limits = dict[Annotated[str, StringConstraints(max_length=100)], Limit | None]


class Change(BaseModel):
    """What every change says of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Annotated[str, StringConstraints(max_length=100, strict=True)] = Field(
        "", description="who; it stands in the journal"
    )
    why: Text = Field("", description="it stands in the journal")


class Promotion(Change):
    version: StrictInt = Field(description="the number of a published version")
    force: StrictBool = Field(
        False, description="also where its gates speak against it, or it was rolled back"
    )


class Rollback(Change):
    """To the version before."""


class Canary(Change):
    version: Version = Field(description="a number, or a name such as candidate")
    ramp: Text = Field("", description="shares by time since the start, as in 1% 10m:10% 1h:50%")
    guardrails: Limits = Field({}, description="limits that are not the default ones")
    acts: StrictBool = Field(True, description="its verdict promotes it or rolls it back")
    force: StrictBool = False


class AB(Change):
    versions: dict[Annotated[str, StringConstraints(max_length=100)], Version] = Field(
        description="by the name of the arm; the others are compared with the first"
    )
    share: Share = Field(1.0, description="of all users")
    name: Annotated[str, StringConstraints(max_length=100, strict=True)] = ""
    group: Annotated[str, StringConstraints(min_length=1, max_length=64, strict=True)] = "default"
    guardrails: Limits = {}
    force: StrictBool = False


class Interleaving(Change):
    version: Version
    share: Share = 0.1
    force: StrictBool = False


class Shadow(Change):
    version: Version
    share: Share = 1.0


class OfRunning(Change):
    action: ClassVar[TurnAction]
    experiment: Annotated[str, StringConstraints(min_length=1, max_length=200, strict=True)]


class Pause(OfRunning):
    action = "pause"


class Resume(OfRunning):
    action = "resume"


class Stop(OfRunning):
    action = "stop"


class Refuse(OfRunning):
    action = "refuse"


class Forget(Change):
    user_id: RawId = Field(description="its raw id; it does not stand in the journal")


CHANGES: dict[str, type[Change]] = {
    "promote": Promotion,
    "rollback": Rollback,
    "canary": Canary,
    "ab": AB,
    "interleave": Interleaving,
    "shadow": Shadow,
    "pause": Pause,
    "resume": Resume,
    "stop": Stop,
    "refuse": Refuse,
    "forget": Forget,
}
SAID = {
    "promote": "Points production at a version.",
    "rollback": "Points production back at the version before.",
    "canary": "Shows a version to a growing share of users, and compares it with production loaded anew.",
    "ab": "Compares versions, each shown to as many users.",
    "interleave": "Draws lists from production and another version in turns.",
    "shadow": "Asks a version what users ask, and shows nobody its answers.",
    "pause": "Stops an experiment for a while: production answers its users.",
    "resume": "Goes on with a paused experiment; each user gets the arm of before.",
    "stop": "Ends an experiment.",
    "refuse": "Ends an experiment, and its last arm does not come back but by force.",
    "forget": "Deletes what was shown to a user and what it did. What versions have learnt of it they keep.",
}


_TOKEN_HEADER = {
    "name": "authorization",
    "in": "header",
    "required": True,
    "description": f"Bearer, and the token that {TOKEN} has at the server",
    "schema": {"type": "string"},
}


@runtime_checkable
class Administered(Protocol):
    """A service whose traffic can be looked at and changed."""

    def traffic(self) -> Traffic: ...

    def administer(self, change: Change) -> None:
        """Raises ``ConfigError`` where it cannot be done; nothing has changed then."""


def add_traffic(app: FastAPI, service: Administered, metrics: GatewayMetrics) -> None:
    @app.get("/traffic", responses={200: {"model": Traffic}, **problems(503)})
    async def traffic(request: Request) -> Response:
        """Experiments: arms, shares, counts, and what they show so far."""
        return reply(request.scope, await asyncio.to_thread(service.traffic))

    def add(action: str, kind: type[Change]) -> None:
        async def change(request: Request) -> Response:
            require_token(header(request.scope, b"authorization"))
            asked = parse(await json_body(request, MAX_ADMIN_BODY_BYTES), kind)
            try:
                await asyncio.to_thread(service.administer, asked)
            except ConfigError as error:
                raise RequestError(409, "refused", str(error)) from None
            metrics.answered("admin", 200)
            done: Done = {"done": action, "request_id": request_id_of(request.scope)}
            return reply(request.scope, done)

        app.router.add_api_route(
            f"/admin/{action}",
            change,
            methods=["POST"],
            name=action,
            description=SAID[action],
            openapi_extra={**body_of(kind), "parameters": [_TOKEN_HEADER]},
            responses={200: {"model": Done}, **problems(401, 403, 409, *OF_A_BODY)},
            route_class_override=PlainRoute,
        )

    for action, kind in CHANGES.items():
        add(action, kind)


def require_token(authorization: str) -> None:
    """
    Args:
        authorization: the header of a request.
    Raises:
        RequestError: 403, changes are off; 401, another token was sent, or none.
    """
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise RequestError(403, "admin_off", f"changes over HTTP are off: start the server with {TOKEN} set")
    scheme, _, sent = authorization.partition(" ")
    # Digests are of one length, and compared in a time that tells nothing of where they differ.
    is_good = hmac.compare_digest(_digest(sent.strip().encode("latin-1")), _digest(token.encode()))
    if scheme.lower() != "bearer" or not is_good:
        message = f"send the header authorization: Bearer and the token that {TOKEN} has at the server"
        raise RequestError(401, "unauthorized", message, {"www-authenticate": "Bearer"})


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
