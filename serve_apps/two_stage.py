"""Two-stage recommendation as a Serve application: ``serve run serve_apps/two_stage.yaml``."""

from typing import Literal

from pydantic import BaseModel, ConfigDict
from ray.serve import Application

from recray.serve.deployments import PlacementConfig, build_application
from recray.serve.service import ServiceConfig


class TwoStageArgs(BaseModel):
    """Arguments of the application, in a config file or as ``serve run ... application=NAME``."""

    model_config = ConfigDict(extra="forbid")

    application: str
    """Bundle to serve, e.g. synthetic-ranker; its retriever comes along."""
    name: str = "production"
    """Version name to follow."""
    store: str = ""
    """Folder of the store; empty: the store under RECRAY_HOME."""
    poll_s: float = 1.0
    diversity: float = 0.0
    also: str = ""
    """Bundle of a decoder over the same catalogue, as one more source of candidates (placement fused)."""
    also_items: int = 50
    cold_share: float = 0.0
    placement: Literal["fused", "spread"] = "fused"
    replicas: int = 1
    retrieval_replicas: int = 1
    ranking_replicas: int = 1
    cpus_per_replica: float = 1.0
    max_ongoing_requests: int = 256


def build(args: TwoStageArgs) -> Application:
    """The application that the arguments describe."""
    service = ServiceConfig.__dataclass_fields__
    values = args.model_dump()
    return build_application(
        ServiceConfig(**{k: v for k, v in values.items() if k in service}),
        PlacementConfig(**{k: v for k, v in values.items() if k not in service}),
    )
