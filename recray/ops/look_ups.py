"""The loops of ``look_up_loops``, compiled when one is first asked for: a second that many never need."""

import importlib
from collections.abc import Callable
from typing import Any


def __getattr__(name: str) -> Callable[..., Any]:
    loop: Callable[..., Any] = getattr(importlib.import_module("recray.ops.look_up_loops"), name)
    globals()[name] = loop  # found here from now on
    return loop
