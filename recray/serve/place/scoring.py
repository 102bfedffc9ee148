"""One version of a model of rows, loaded, and the service that follows it. Its one stage is the model."""

from recray.bundles.clicks import open_scorer
from recray.config import ConfigError
from recray.data.row_encoding import NoNumberError
from recray.schema import DataError
from recray.serve.clock import StageClock
from recray.serve.follower import Follower
from recray.serve.http import answers
from recray.serve.http.requests import RequestError, ScoreRequest
from recray.serve.place.config import ServiceConfig
from recray.serve.place.following import FollowingService, follow
from recray.serve.versions import ServedBundles
from recray.store import StoreError

MESSAGE_LETTERS = 300  # a client's value in a message may be long


class Scoring:
    """A model of rows, loaded after all its files were read against their digests.

    Raises:
        ConfigError, DataError: the bundle is damaged, takes no raw values or does not fit this code.
    """

    def __init__(self, bundles: ServedBundles) -> None:
        if bundles.scorer is None:
            raise StoreError(f"{bundles.reference} recommends, it scores no rows: ask it at /recommend")
        bundles.verify()
        self._bundles, self._model = bundles, bundles.scorer.manifest.model
        self._scorer = open_scorer(bundles.scorer)
        # A version that cannot answer is refused here, and the first real request finds warm caches.
        self.score(ScoreRequest(rows=[{}]))

    def score(self, request: ScoreRequest) -> answers.Scores:
        """The answer, but for its request id.

        Raises:
            RequestError: 422, a column that the model does not know, or text in a column of numbers.
        """
        clock = StageClock()
        try:
            table = self._scorer.encoding.table(request.rows)
            clock.lap("rows")
            scored = self._scorer.score_table(table)
        except ConfigError as error:
            raise RequestError(422, "unknown_column", str(error)) from None
        except NoNumberError as error:
            message = f"rows[{error.row}].{error}"[:MESSAGE_LETTERS]
            raise RequestError(422, "invalid_value", message) from None
        except DataError as error:
            raise RequestError(422, "invalid_value", str(error)[:MESSAGE_LETTERS]) from None
        clock.lap("score")
        return {
            "scores": scored.probabilities_N.tolist(),
            "unknown": scored.unknown,
            "model": self._model,
            "version": self._bundles.versions(),
            "request_id": "",
            "timings_ms": clock.stop(),
        }


class ScoringService(FollowingService):
    """A model of rows in this process."""

    def __init__(self, config: ServiceConfig) -> None:
        self._scoring: Follower[Scoring] = follow(config, Scoring)
        super().__init__(config, self._scoring)
        self._scoring.start()

    async def score(self, request: ScoreRequest) -> answers.Scores:
        return self._scoring.current.content.score(request)
