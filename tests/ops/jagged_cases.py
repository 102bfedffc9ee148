"""Jagged inputs, and what a backend makes of them: results and gradients.

``python -m tests.ops.jagged_cases FILE`` writes what the Triton kernels make of every case; with
TRITON_INTERPRET=1, which triton reads when it is imported, without a GPU.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor

from recray.ops import jagged
from recray.ops.jagged import Backend

LENGTHS = {
    "mixed": [3, 0, 1, 40, 7],
    "one row": [5],
    "all empty": [0, 0],
    "no rows": [],
    "longer than a block": [70, 33, 32],
    "all full": [45, 45],
    "as many as if full": [3, 1],
}
WIDE = (2, 35)  # more columns than a program handles at a time


@dataclass(frozen=True)
class Case:
    """One operation on one input."""

    operation: str
    lengths: str
    tail: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        return f"{self.operation}, {self.lengths}, {list(self.tail)}, {str(self.dtype)[6:]}"


def padded_and_back(values_N: Tensor, offsets_B: Tensor, backend: Backend) -> Tensor:
    longest = int(offsets_B.diff().max()) if len(offsets_B) > 1 else 0
    padded = jagged.to_padded(values_N, offsets_B, longest + 2, backend=backend)
    return jagged.from_padded(padded * 2, offsets_B, backend=backend)


def mask(positions_N: Tensor, offsets_B: Tensor, backend: Backend) -> Tensor:
    """Queries and keys of the same rows."""
    sizes = 41, 75
    return jagged.attention_mask(
        offsets_B, offsets_B, positions_N, positions_N.flip(0), *sizes, backend=backend
    )


OPERATIONS: dict[str, Callable[[Tensor, Tensor, Backend], Tensor]] = {
    "to_padded": lambda v, o, b: jagged.to_padded(v, o, 45, 3, backend=b),
    "to_padded, tails cut": lambda v, o, b: jagged.to_padded(v, o, 2, backend=b),
    "padded and back": padded_and_back,
    "softmax": lambda v, o, b: jagged.softmax(v, o, backend=b),
    "mean": lambda v, o, b: jagged.mean(v, o, backend=b),
    "mask": mask,
    "mask without positions": lambda _, o, b: jagged.attention_mask(o, o, None, None, 41, 75, backend=b),
}
FLOATS = ("to_padded", "to_padded, tails cut", "padded and back", "softmax", "mean")
CASES = [
    *(Case(name, lengths, tail) for name in FLOATS for lengths in LENGTHS for tail in ((), (3,))),
    *(Case(name, "mixed", WIDE) for name in FLOATS if name != "softmax"),
    *(Case(name, "mixed", (3,), torch.bfloat16) for name in FLOATS),
    *(Case(name, "mixed", (), torch.int64) for name in ("to_padded", "padded and back")),
    *(
        Case(name, lengths, (), torch.int64)
        for name in ("mask", "mask without positions")
        for lengths in LENGTHS
    ),
]


def offsets(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def values(case: Case) -> Tensor:
    shape = (sum(LENGTHS[case.lengths]), *case.tail)
    generator = torch.Generator().manual_seed(len(shape))
    if case.dtype == torch.int64:
        return torch.randint(0, 2**40, shape, generator=generator)  # beyond what float32 can tell apart
    return torch.randn(shape, generator=generator).to(case.dtype)


def outcome(case: Case, backend: Backend, device: str = "cpu") -> dict[str, Tensor]:
    """The result and, of floats, the gradient of its sum with seeded weights."""
    leaf = values(case).to(device)
    leaf.requires_grad_(case.dtype.is_floating_point)
    result = OPERATIONS[case.operation](leaf, offsets(LENGTHS[case.lengths]).to(device), backend)
    found = {"result": result.detach().cpu()}
    if leaf.requires_grad:
        weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(7)).to(result)
        (result * weights).sum().backward()
        assert leaf.grad is not None
        found["gradient"] = leaf.grad.cpu()
    return found


if __name__ == "__main__":
    everything = {
        f"{case}: {what}": tensor.contiguous()
        for case in CASES
        for what, tensor in outcome(case, "triton").items()
    }
    safetensors.torch.save_file(everything, sys.argv[1])
