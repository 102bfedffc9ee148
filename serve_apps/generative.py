"""Generative retrieval as a Serve application: ``serve run serve_apps/generative.yaml``.

The requests and answers are those of the two-stage application: history in, items out.
"""

from pydantic import BaseModel, ConfigDict
from ray.serve import Application

from recray.serve.deployments import PlacementConfig, build_application
from recray.serve.service import ServiceConfig


class GenerativeArgs(BaseModel):
    """Arguments of the application, in a config file or as ``serve run ... application=NAME``."""

    model_config = ConfigDict(extra="forbid")

    application: str
    """Bundle of a decoder, e.g. ml-100k-decoder."""
    name: str = "production"
    """Version name to follow."""
    store: str = ""
    """Folder of the store; empty: the store under RECRAY_HOME."""
    poll_s: float = 1.0
    diversity: float = 0.0
    cold_share: float = 0.0
    """Share of an answer that is kept for items without training events."""
    replicas: int = 1
    cpus_per_replica: float = 1.0
    max_ongoing_requests: int = 256


def build(args: GenerativeArgs) -> Application:
    """The application that the arguments describe: everything in each replica."""
    service = ServiceConfig.__dataclass_fields__
    values = args.model_dump()
    return build_application(
        ServiceConfig(**{k: v for k, v in values.items() if k in service}),
        PlacementConfig(**{k: v for k, v in values.items() if k not in service}),
    )
