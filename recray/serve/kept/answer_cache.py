"""Answers that are given again for a while: to the same question, of the same version, as long as nothing was
told that they would miss."""

import json
import time
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import recray
from recray.serve.events.feed import Feed
from recray.serve.http import answers
from recray.serve.http.made import Made
from recray.serve.http.requests import RecommendRequest
from recray.serve.kept.answer_store import AnswerStore, KeptAnswer
from recray.serve.position import Position
from recray.serve.stages.guard import FAILED, LATE
from recray.serve.versions import ServedBundles

AHEAD_S = 1.0  # what another machine's clock may be ahead; more, and a clock was set back


class Question(NamedTuple):
    """What was asked, and what was known when it was."""

    key: str
    newest: int  # unix seconds of what the user did last
    heard: Position


class AnswerCache:
    """Whether a question may be answered as before, and whether an answer may be given again.

    Never kept are answers with reasons, at a time that the client named, from which something was left out
    for lack of time or by a fault, or that do not know yet what is known here.

    Args:
        options: all that the service is set to: with others it is another question.
        keep_s: seconds for which an answer may be given again.
    """

    def __init__(self, store: AnswerStore, feed: Feed, options: Mapping[str, Any], *, keep_s: float) -> None:
        self._keep_s, self._store = keep_s, store
        self._feed, self._marks = feed, feed.marked()
        self._options = json.dumps([recray.__version__, options], sort_keys=True)

    def question(
        self, request: RecommendRequest, bundles: ServedBundles, revision: int, arm: str = ""
    ) -> Question | None:
        """None where an answer is for this one request alone.

        Args:
            revision: how much of what was told of items is taken in, see ``Growing``.
            arm: of an experiment: each learns of its own answers alone.
        """
        if request.explain or request.request_time is not None:
            return None
        told = self._marks.of(None if request.user_id is None else str(request.user_id))
        heard = self._feed.position  # after the marks: what these know was heard
        asked = [
            request.model_dump_json(exclude={"budget_ms"}),
            json.dumps([bundles.versions(), revision, arm]),
            told.digest.hex(),
            self._options,
        ]
        return Question(blake2b("\n".join(asked).encode(), digest_size=20).hexdigest(), told.newest, heard)

    async def answer(self, question: Question) -> Made | None:
        """The one that was made before; says how long before."""
        began = time.perf_counter()
        kept = await self._store.get(question.key)
        if kept is None:
            return None
        age_s = time.time() - kept.made_at
        if not -AHEAD_S <= age_s <= self._keep_s:
            return None
        took_ms = round((time.perf_counter() - began) * 1e3, 3)
        again: answers.Recommendations = {
            **kept.answer,
            "cached_s": round(max(age_s, 0.0), 3),
            "timings_ms": {"cache": took_ms, "total": took_ms},
        }
        return Made(again, rules=kept.rules, went_by=kept.went_by)

    async def keep(self, question: Question, bundles: ServedBundles, made: Made) -> None:
        """Where it may be given again."""
        answer = made.answer
        is_whole = all(one["reason"] not in (LATE, FAILED) for one in answer["skipped"])
        knows_all = all(each.reaches(question.heard) for each in made.heard)
        # What happens within a second is known from the next one on.
        knows_newest = answer["request_time"] > question.newest
        if is_whole and knows_all and knows_newest and answer["version"] == bundles.versions():
            await self._store.put(question.key, KeptAnswer(time.time(), answer, made.rules, made.went_by))
