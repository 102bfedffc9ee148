"""recray: train, tune and serve recommenders on Ray, from one code base.

``load``, ``fit``, ``open`` and ``compare`` are a notebook's door; see ``recray.api``.
"""

import importlib

__version__ = "0.17.0"

_OF_API = ("Comparison", "Dataset", "LaunchConfig", "Model", "compare", "fit", "load", "open")


def __getattr__(name: str) -> object:
    """The door's names, whose imports take seconds, when they are first asked for."""
    if name in _OF_API:
        return getattr(importlib.import_module("recray.api"), name)
    raise AttributeError(f"module 'recray' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_OF_API]
