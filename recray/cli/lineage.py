"""The command that says where a list came from."""

from dataclasses import dataclass

import tyro

from recray.cli.listing import Listing


@dataclass(frozen=True)
class Trace:
    """Where a list that was shown came from: versions, data, rows of the log, run and code."""

    name: tyro.conf.Positional[str]
    """The application's bundle."""
    request: tyro.conf.Positional[str]
    """The id of the answer, as it was sent with it."""
    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> Listing:
        from recray.pipelines.lineage import trace
        from recray.store import Store

        rows = [found._asdict() for found in trace(Store(), self.name, self.request)]
        return Listing(
            f"answer {self.request}", rows, ("role", "version", "data", "data_hash", "feedback", "code")
        )
