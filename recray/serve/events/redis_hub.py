"""A hub in Redis: it outlives the cluster, and several clusters may share it."""

import json
import uuid
from collections.abc import Sequence

import redis

from recray.serve.events.hub import MOST_AT_ONCE, MOST_KEPT, Batch, HubFullError
from recray.serve.events.told import Availability, Event, Told

ANSWER_WITHIN_S = 2.0
# One step for Redis: looked at and added to by nobody else in between.
_APPEND = """
if redis.call('LLEN', KEYS[1]) + #ARGV - 1 > tonumber(ARGV[1]) then return 0 end
for n = 2, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[n]) end
return 1
"""


class RedisHub:
    """A list under one key, and the name that it was given when it was new.

    Args:
        url: such as ``redis://localhost:6379/0``.
        application: each has a list of its own.
    Raises, when it is used:
        redis.exceptions.RedisError: Redis is out of reach; it is asked anew the next time.
    """

    def __init__(self, url: str, application: str, most: int = MOST_KEPT) -> None:
        within = {"socket_timeout": ANSWER_WITHIN_S, "socket_connect_timeout": ANSWER_WITHIN_S}
        self._redis = redis.Redis.from_url(url, decode_responses=True, **within)
        self._key, self._most = f"recray:{application}:told", most
        self._append = self._redis.register_script(_APPEND)

    def append(self, told: Sequence[Told]) -> None:
        values = [json.dumps([type(one).__name__.lower(), *one]) for one in told]
        if not self._append([self._key], [self._most, *values]):
            raise HubFullError(f"{self._redis.llen(self._key):,} of at most {self._most:,} are kept")

    def after(self, number: int, hub: str) -> Batch:
        self._redis.set(f"{self._key}:name", uuid.uuid4().hex, nx=True)
        name = str(self._redis.get(f"{self._key}:name"))
        first = number if hub == name else 0
        values = self._redis.lrange(self._key, first, first + MOST_AT_ONCE - 1)
        assert isinstance(values, list)
        return Batch(name, first + len(values), [_told(value) for value in values])


def _told(value: str | bytes) -> Told:
    kind, *fields = json.loads(value)
    return Event(*fields) if kind == "event" else Availability(*fields)
