"""PyTorch's optimizers without its compiler, which they import (two seconds of every process that trains)
when one is made and when it first steps, only to tell it to leave them alone: nothing here compiles one.
"""

import inspect

import torch
from torch.optim import SGD, Adagrad, AdamW, Optimizer


def _uncompiled(kind: type[Optimizer]) -> type[Optimizer]:
    """The same optimizer; its methods are those that PyTorch has wrapped."""
    for method in vars(Optimizer).values():
        code = getattr(method, "__code__", None)
        if code is not None and code.co_filename == torch._compile.__file__:
            method.__wrapped__.__dynamo_disable = method.__wrapped__
    step = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), {"step": step})


OPTIMIZERS = {"adamw": _uncompiled(AdamW), "adagrad": _uncompiled(Adagrad), "sgd": _uncompiled(SGD)}
