"""A hub in Redis: it outlives the cluster, and several clusters may share it."""

import json
import logging
import uuid
from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from recray.serve.events.hub import MOST_AT_ONCE, MOST_KEPT, Batch, HubFullError
from recray.serve.events.told import Availability, Content, Event, Gone, Told, id_of

log = logging.getLogger(__name__)

ANSWER_WITHIN_S = 2.0
NOBODY = "null"  # in the place of what somebody did who is gone
_KINDS: dict[str, type[Any]] = {kind.__name__.lower(): kind for kind in (Event, Availability, Content, Gone)}
# One step for Redis: looked at and added to by nobody else in between.
_APPEND = """
if redis.call('EXISTS', KEYS[1]) == 0 then  -- also where somebody deleted it
  redis.call('SET', KEYS[3], ARGV[2])
  redis.call('DEL', KEYS[2])
end
local new, ids = {}, {}
for n = 3, #ARGV, 2 do
  local id = ARGV[n]
  if id == '' or not ids[id] and redis.call('SISMEMBER', KEYS[2], id) == 0 then
    new[#new + 1] = n
    if id ~= '' then ids[id] = true end
  end
end
if redis.call('LLEN', KEYS[1]) + #new > tonumber(ARGV[1]) then return -1 end
for _, n in ipairs(new) do
  redis.call('RPUSH', KEYS[1], ARGV[n + 1])
  if ARGV[n] ~= '' then redis.call('SADD', KEYS[2], ARGV[n]) end
end
return #new
"""


class RedisHub:
    """A list under one key, the ids in it under another, and the name that it was given when it was new: by
    it a replica knows that a list is another one, of which it has heard nothing.

    Args:
        url: such as ``redis://localhost:6379/0``.
        application: each has a list of its own.
    Raises, when it is used:
        redis.exceptions.RedisError: Redis is out of reach; it is asked anew the next time.
    """

    def __init__(self, url: str, application: str, most: int = MOST_KEPT) -> None:
        self._redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=ANSWER_WITHIN_S,
            socket_connect_timeout=ANSWER_WITHIN_S,
            # One that was idle may be closed. What timed out may have been taken in: it is not sent again.
            retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),
        )
        self._key, self._most = f"recray:{application}:told", most
        self._name_key = f"{self._key}:name"
        self._append = self._redis.register_script(_APPEND)

    def append(self, told: Sequence[Told]) -> int:
        for one in told:
            if isinstance(one, Gone):
                self._forget(one.user_id)
        values = [(id_of(one) or "", json.dumps([type(one).__name__.lower(), *one])) for one in told]
        flat = [text for value in values for text in value]
        keys = [self._key, f"{self._key}:ids", self._name_key]
        taken = int(self._append(keys, [self._most, uuid.uuid4().hex, *flat]))
        if taken < 0:
            raise HubFullError(f"{self._redis.llen(self._key):,} of at most {self._most:,} are kept")
        return taken

    def _forget(self, user_id: str) -> None:
        values = self._redis.lrange(self._key, 0, -1)
        assert isinstance(values, list)
        for place, value in enumerate(values):
            one = _told(value)
            if isinstance(one, Event) and one.user_id == user_id:
                self._redis.lset(self._key, place, NOBODY)
                self._redis.srem(f"{self._key}:ids", one.event_id)

    def after(self, number: int, hub: str) -> Batch:
        # A name that was lost is the one that it had: else all would be heard again.
        self._redis.set(self._name_key, hub or uuid.uuid4().hex, nx=True)
        name = str(self._redis.get(self._name_key))
        first = number if hub == name else 0
        values = self._redis.lrange(self._key, first, first + MOST_AT_ONCE - 1)
        assert isinstance(values, list)
        told = [one for value in values if (one := _told(value)) is not None]
        if unread := len(values) - len(told) - values.count(NOBODY):
            log.warning("%s: %d entries cannot be read and are passed over", self._key, unread)
        return Batch(name, first + len(values), told)


def _told(value: str | bytes) -> Told | None:
    """None for what another program put there, or a later version of this one that says more."""
    try:
        name, *fields = json.loads(value)
        kind = _KINDS[name]
        told: Told = kind(*fields[: len(kind._fields)])
    except (ValueError, TypeError, KeyError):
        return None
    return told
