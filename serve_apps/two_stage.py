"""Two-stage recommendation as a Serve application: ``serve run serve_apps/two_stage.yaml``.

Its arguments are the options of ``recray.serve.place.config``.
"""

from recray.serve.place.application import build

__all__ = ["build"]
