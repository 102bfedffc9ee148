"""Generative retrieval as a Serve application: ``serve run serve_apps/generative.yaml``.

The arguments, requests and answers are those of the two-stage application: history in, items out.
"""

from recray.serve.place.application import build

__all__ = ["build"]
