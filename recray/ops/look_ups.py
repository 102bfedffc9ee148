"""The loops of ``look_up_loops``, compiled when one is first asked for: a second that many never need."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any


def load() -> ModuleType:
    """Compiles them now: for who will answer requests, of which the first must not wait."""
    return importlib.import_module("recray.ops.look_up_loops")


def __getattr__(name: str) -> Callable[..., Any]:
    loop: Callable[..., Any] = getattr(load(), name)
    globals()[name] = loop  # found here from now on
    return loop
