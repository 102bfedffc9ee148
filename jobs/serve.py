"""Serve a published ranker (or retriever) over HTTP until Ctrl-C; follows promotions and rollbacks.

python jobs/serve.py --dataset synthetic
"""

import signal
from dataclasses import dataclass

from recray.cli.jobs import run_job
from recray.serve.session import serving


@dataclass(frozen=True)
class Serve:
    dataset: str = "synthetic"
    """Serves the bundle "<dataset>-ranker"."""
    application: str = ""
    """Another bundle's name, as `recray versions` lists it."""
    port: int = 8000
    """Where the application listens on this machine."""


def main(config: Serve) -> None:
    with serving(config.port) as session:
        url = session.start(config.application or f"{config.dataset}-ranker")
        ask = f"curl {url}/recommend -H 'content-type: application/json'"
        print(f"serving at {url}; try: {ask} -d '{{}}'")
        print("Ctrl-C stops it", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    run_job(main, Serve, __doc__)
