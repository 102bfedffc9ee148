"""Answers in Redis, which replicas share and which forgets them by itself. Without it each is made anew."""

import asyncio
import base64
import logging
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pydantic_core
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from recray.serve.circuit import Circuit
from recray.serve.http.made import WentBy
from recray.serve.kept.answer_store import KeptAnswer

log = logging.getLogger(__name__)
ANSWER_WITHIN_S = 0.05  # making an answer takes less than waiting for a kept one

T = TypeVar("T")


class RedisAnswers:
    """Of one event loop. Where Redis is out of reach, it is asked once a second whether it is back.

    Args:
        url: such as ``redis://localhost:6379/0``.
        application: part of the keys, beside what decides the answer.
    """

    def __init__(self, url: str, application: str, keep_s: float) -> None:
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=ANSWER_WITHIN_S,
            socket_connect_timeout=ANSWER_WITHIN_S,
            retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),  # one that was idle may be closed
        )
        self._prefix, self._keep_ms = f"recray:{application}:answer:", max(1, round(keep_s * 1e3))
        self._reads, self._writes = Circuit(), Circuit()  # a full one, or a replica, can still be read

    async def get(self, key: str) -> KeptAnswer | None:
        value = await _asked(self._reads, lambda: self._redis.get(self._prefix + key))
        return kept_in(value) if isinstance(value, bytes) else None

    async def put(self, key: str, kept: KeptAnswer) -> None:
        value = bytes_of(kept)
        await _asked(self._writes, lambda: self._redis.set(self._prefix + key, value, px=self._keep_ms))


def bytes_of(kept: KeptAnswer) -> bytes:
    """JSON; features are float32 in base 64, S x F."""
    went_by = None
    if kept.went_by is not None:
        names, features_SF = kept.went_by
        went_by = names, base64.b64encode(features_SF.astype(np.float32).tobytes()).decode()
    return pydantic_core.to_json([kept.made_at, kept.answer, kept.rules, went_by], inf_nan_mode="null")


def kept_in(value: bytes) -> KeptAnswer | None:
    """What was put; None where somebody else wrote it."""
    try:
        made_at, answer, rules, went_by = pydantic_core.from_json(value)
        is_object = isinstance(answer, dict)
        return KeptAnswer(float(made_at), answer, tuple(rules), _went_by(went_by)) if is_object else None
    except (TypeError, ValueError):
        return None


def _went_by(kept: tuple[list[str], str] | None) -> WentBy | None:
    if kept is None:
        return None
    names, features = kept
    return WentBy(tuple(names), np.frombuffer(base64.b64decode(features), np.float32).reshape(-1, len(names)))


async def _asked(circuit: Circuit, ask: Callable[[], T]) -> T | None:
    if not circuit.may_ask():
        return None
    try:
        # In a thread: a mute server must not stop the others.
        answer = await asyncio.wait_for(asyncio.to_thread(ask), 2 * ANSWER_WITHIN_S)
    except (redis.RedisError, TimeoutError, OSError) as error:
        if circuit.answers:
            log.error("answers in Redis are out of reach: %s: %s", type(error).__name__, error)
        circuit.failed()
        return None
    circuit.answered()
    return answer
