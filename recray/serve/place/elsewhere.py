"""A stage in a deployment of its own: asked within a time, and left alone while it does not answer."""

import asyncio
import logging
from typing import TypeVar

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from recray.config import ConfigError
from recray.serve.circuit import Circuit
from recray.serve.stages.guard import FAILED, LATE
from recray.store import Reference

log = logging.getLogger(__name__)

LOADED_WITHIN_S = 60.0

T = TypeVar("T")


class UnansweredError(Exception):
    """The deployment gave no answer: ``reason`` is what answers say of a stage that was left out."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Elsewhere:
    """A deployment, asked by one event loop.

    Where it is gone, or has had its time, nobody waits any more, whoever came later included: once a second
    what is asked is tried beside the request, until there is an answer.

    Args:
        name: for the log and ``problem``.
        within_s: of requests without a budget; whoever takes longer counts as gone.
    """

    def __init__(self, name: str, handle: DeploymentHandle, within_s: float) -> None:
        self._name, self._handle, self._within_s = name, handle, within_s
        self._circuit, self._reason = Circuit(), FAILED
        self._trial: asyncio.Task[None] | None = None
        self._waiting: set[asyncio.Task[object]] = set()
        self._given_up: set[asyncio.Task[object]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def problem(self) -> str | None:
        return None if self._circuit.answers else f"the {self._name} deployment does not answer"

    def load(self, reference: Reference) -> None:
        """Waits until it holds a version, for a thread that loads one as well. One that is mute is not
        waited for: there is a stand-in for it.

        Raises:
            ConfigError: it cannot load the version; says why.
        """
        if self._loop is None or not self._loop.is_running():
            return  # nobody has asked yet
        # Serve's handles belong to the event loop.
        loading = asyncio.run_coroutine_threadsafe(self._response("load", reference), self._loop)
        try:
            loading.result(LOADED_WITHIN_S)
        except RayTaskError as error:
            raise ConfigError(f"the {self._name} deployment does not load it: {error.cause}") from None
        except (TimeoutError, RayError, RayServeException) as error:
            log.error("the %s deployment does not say that it has %s: %r", self._name, reference, error)

    async def ask(self, kind: type[T], method: str, *arguments: object, budget_ms: float | None = None) -> T:
        """
        Args:
            kind: of the answer.
            budget_ms: what the request has left for it; None: as long as anyone may take.
        Raises:
            UnansweredError: it is late, it failed, or it is not asked now.
        """
        self._loop = asyncio.get_running_loop()
        if not self._circuit.answers:
            if self._circuit.may_ask():
                self._trial = asyncio.create_task(self._try(kind, method, *arguments))
            raise UnansweredError(self._reason)
        return await self._ask(kind, method, *arguments, within_s=self._within(budget_ms))

    def _within(self, budget_ms: float | None) -> float:
        return self._within_s if budget_ms is None else min(budget_ms / 1e3, self._within_s)

    async def _try(self, kind: type[object], method: str, *arguments: object) -> None:
        """For all the others; whether it answers is all that is wanted."""
        try:
            await self._ask(kind, method, *arguments, within_s=self._within_s)
        except UnansweredError:
            return

    async def _ask(self, kind: type[T], method: str, *arguments: object, within_s: float) -> T:
        asked = asyncio.create_task(self._response(method, *arguments))
        self._waiting.add(asked)
        try:
            answer = await asyncio.wait_for(asked, within_s)
        except asyncio.CancelledError:
            if asked in self._given_up:
                raise UnansweredError(self._reason) from None
            raise
        except TimeoutError:
            if within_s >= self._within_s:  # little time is the request's own matter
                self._is_gone(LATE)
            raise UnansweredError(LATE) from None
        except RayTaskError:  # it is there, and could not answer this
            log.exception("%s of the %s deployment failed", method, self._name)
            self._circuit.answered()
            raise UnansweredError(FAILED) from None
        except (RayError, RayServeException) as error:
            self._is_gone(FAILED, f": {type(error).__name__}: {error}")
            raise UnansweredError(FAILED) from None
        finally:
            self._waiting.discard(asked)
            self._given_up.discard(asked)
        if not self._circuit.answers:
            log.warning("the %s deployment answers again", self._name)
        self._circuit.answered()
        assert isinstance(answer, kind)
        return answer

    async def _response(self, method: str, *arguments: object) -> object:
        """A deployment's response can be waited for and is no coroutine."""
        return await getattr(self._handle, method).remote(*arguments)

    def _is_gone(self, reason: str, why: str = "") -> None:
        if self._circuit.answers:
            log.error(
                "the %s deployment does not answer (%s): answers go without it%s", self._name, reason, why
            )
        self._reason = reason
        self._circuit.failed()
        for asked in self._waiting:  # who came later need not find it out by themselves
            self._given_up.add(asked)
            asked.cancel()
