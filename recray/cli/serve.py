"""Serve a published ranker (or retriever, or DLRM) over HTTP until Ctrl-C; follows promotions and rollbacks.

A supervisor starts the server again where it, Ray or the ingress dies.

recray serve synthetic --port 8001
recray serve shop.csv --name candidate
recray serve --application ml-100k-sasrec --service.rules.diversity.strength 0.2
recray serve --application clicks-dlrm    # POST /score {"rows": [{"country": "DE"}]}
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro

from recray.bundles.naming import bundle_name
from recray.cli.jobs import run_on_data
from recray.data.sources import data_name
from recray.serve.place.config import PlacementConfig, ServiceConfig
from recray.serve.place.session import serving, supervise, wants_supervisor

SHORT = {
    "--dataset": "--data.dataset",
    "--application": "--service.application",
    "--name": "--service.name",
}


@dataclass(frozen=True)
class Serve:
    dataset: Annotated[str, tyro.conf.arg(name="data.dataset")] = "synthetic"
    """A data set by name or path: its ranker is served, where service.application names no other bundle."""
    service: ServiceConfig = field(default_factory=lambda: ServiceConfig(application=""))
    placement: PlacementConfig = field(default_factory=PlacementConfig)
    port: int = 8000
    """Where the application listens."""
    host: str = ""
    """At which address: empty is 127.0.0.1 on a Ray of one node, else all addresses of every node."""


def serve(config: Serve, args: Sequence[str]) -> None:
    """
    Args:
        args: that said so: a supervisor starts the server by them.
    """
    default = bundle_name(data_name(config.dataset), "ranker")
    service = replace(config.service, application=config.service.application or default)
    # A bundle that is missing is said before Ray starts.
    call = """/score -d '{"rows": [{}]}'""" if service.open_served().scorer else "/recommend -d '{}'"
    if wants_supervisor():
        raise SystemExit(supervise(["-m", "recray", "serve", *args], config.port, config.host))
    with serving(config.port, config.host) as session:
        url = session.start(service, config.placement)
        print(f"serving at {url}; try: curl -H 'content-type: application/json' {url}{call}")
        print("Ctrl-C stops it", flush=True)
        session.wait()


def main(args: Sequence[str]) -> int:
    return run_on_data("serve", lambda config: serve(config, args), Serve, __doc__, args, SHORT)
