"""The deployments of the spread placement without Ray: the same objects, called in this process."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from ray.exceptions import ActorDiedError


class Here:
    """A handle of a deployment; ``state`` is what becomes of it: "up", "dead" or "stopped"."""

    def __init__(self, deployment: Any) -> None:
        self._deployment, self.state, self.calls = deployment, "up", 0

    def __getattr__(self, method: str) -> "Method":
        return Method(self, getattr(self._deployment, method))


class Method:
    def __init__(self, handle: Here, method: Any) -> None:
        self._handle, self._method = handle, method

    def remote(self, *arguments: Any) -> "Response":
        return Response(self._asked(*arguments))

    async def _asked(self, *arguments: Any) -> Any:
        self._handle.calls += 1
        if self._handle.state == "dead":
            raise ActorDiedError
        if self._handle.state == "stopped":
            await asyncio.sleep(1000)
        return await self._method(*arguments)


class Response:
    """To be waited for in an event loop, or by a thread that has none."""

    def __init__(self, answer: Coroutine[Any, Any, Any]) -> None:
        self._answer = answer

    def __await__(self) -> Any:
        return self._answer.__await__()

    def result(self, timeout_s: float) -> Any:
        return asyncio.run(asyncio.wait_for(self._answer, timeout_s))
