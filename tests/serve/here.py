"""The deployments of the spread placement without Ray: the same objects, called in this process."""

import asyncio
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

    async def remote(self, *arguments: Any) -> Any:
        self._handle.calls += 1
        if self._handle.state == "dead":
            raise ActorDiedError
        if self._handle.state == "stopped":
            await asyncio.sleep(1000)
        return await self._method(*arguments)
