"""The context of a ``torch.autograd.Function``, typed: PyTorch's stubs say nothing about what it keeps."""

from typing import Protocol

from torch import Tensor


class AutogradContext(Protocol):
    """What the forward pass leaves for the backward pass; a function that leaves more extends it."""

    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keeps tensors that are inputs or outputs of the function, or made on the way."""
