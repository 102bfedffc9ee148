"""Serve a published ranker (or retriever, or DLRM) over HTTP until Ctrl-C; follows promotions and rollbacks.

A supervisor starts the server again where it, Ray or the ingress dies.

python jobs/serve.py synthetic
python jobs/serve.py --service.application ml-100k-sasrec --service.rules.diversity.strength 0.2
python jobs/serve.py --service.application clicks-dlrm    # POST /score {"rows": [{"country": "DE"}]}
"""

import sys
from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro

from recray.bundles.naming import bundle_name
from recray.cli.jobs import run_on_data
from recray.data.sources import data_name
from recray.serve.place.config import PlacementConfig, ServiceConfig
from recray.serve.place.session import serving, supervise, wants_supervisor


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


def main(config: Serve) -> None:
    default = bundle_name(data_name(config.dataset), "ranker")
    service = replace(config.service, application=config.service.application or default)
    # A bundle that is missing is said before Ray starts.
    call = """/score -d '{"rows": [{}]}'""" if service.open_served().scorer else "/recommend -d '{}'"
    if wants_supervisor():
        raise SystemExit(supervise(sys.argv, config.port))
    with serving(config.port, config.host) as session:
        url = session.start(service, config.placement)
        print(f"serving at {url}; try: curl -H 'content-type: application/json' {url}{call}")
        print("Ctrl-C stops it", flush=True)
        session.wait()


if __name__ == "__main__":
    run_on_data(main, Serve, __doc__)
