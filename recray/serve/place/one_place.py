"""A place that one request at a time may take: the next one is told to come back."""

from types import TracebackType

from recray.serve.http.requests import RequestError


class OnePlace:
    """A context manager for what takes long; belongs to one event loop.

    Args:
        what: in the plural, for the message.
    """

    def __init__(self, what: str) -> None:
        self._what, self._is_taken = what, False

    def __enter__(self) -> None:
        """
        Raises:
            RequestError: 429, another request has the place.
        """
        if self._is_taken:
            message = f"{self._what} are made one at a time, and one is being made: try again in a second"
            raise RequestError(429, "busy", message, {"retry-after": "1"})
        self._is_taken = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_taken = False
