"""What a run's numbers look like, and where they first stopped being finite.

The statistics cost one norm a step. Who is to blame is asked only when a run is over: the step is repeated
with hooks on every module.
"""

# mypy: disable-error-code="no-untyped-call"

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack

import torch
from torch import Tensor, nn

Loss = Callable[[], Tensor]
MOST_NAMES = 4  # parameters that a message lists


def gradient_norm(model: nn.Module) -> Tensor:
    """The norm of all gradients together, a scalar on their device."""
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    return nn.utils.get_total_norm(gradients)


class Tally:
    """Loss and gradient norm of the steps since it was last taken."""

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._norms: list[float] = []

    def add(self, loss: float, norm: float) -> None:
        self._losses.append(loss)
        self._norms.append(norm)

    def take(self) -> dict[str, tuple[float, float]]:
        """(sum, count) of ``train_loss`` (this worker's), ``grad_norm``, ``grad_norm_max``; forgets them."""
        steps = float(len(self._losses))
        highest = (max(self._norms, default=math.nan), 1.0)
        sums = {"train_loss": (math.fsum(self._losses), steps), "grad_norm": (math.fsum(self._norms), steps)}
        self._losses, self._norms = [], []
        return {**sums, "grad_norm_max": highest}


def first_offender(model: nn.Module, loss: Loss) -> str:
    """Repeats a forward pass and names the first module whose output is not finite, in one sentence."""
    found: list[str] = []

    def look(name: str, module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if not found and not _finite(output):
            came_in = "finite" if _finite(inputs) else "not finite already"
            weights = _names(n for n, w in module.named_parameters() if not _finite(w))
            broken = f", its parameters {weights} are not finite" if weights else ""
            found.append(f"first in the output of {_called(name, module)}, its input was {came_in}{broken}")

    with ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():
            hooks.enter_context(module.register_forward_hook(_named(look, name)))
        value = loss()
    if found:
        return found[0]
    if _finite(value):
        return "the step was finite when it was repeated"
    return "every module's output was finite: the loss itself is where it begins"


def first_gradient_offender(model: nn.Module, loss: Loss) -> str:
    """Repeats forward and backward and names where gradients stop being finite, in one sentence.

    Modules are met from the loss backwards. Named is the first one whose own parameters get a gradient that
    is not finite while its output got a finite one, or the two between whose outputs it stopped being finite.
    """
    arrived: list[tuple[str, nn.Module, bool]] = []  # modules in the order that gradients reach their outputs

    def look(name: str, module: nn.Module, _: tuple[object, ...], output: object) -> None:
        for values in _tensors(output):
            if values.requires_grad:
                values.register_hook(lambda grad: arrived.append((name, module, _finite(grad))))

    model.zero_grad(set_to_none=True)
    with ExitStack() as hooks, torch.enable_grad():
        for name, module in model.named_modules():
            hooks.enter_context(module.register_forward_hook(_named(look, name)))
        loss().backward()
    broken = {n for n, w in model.named_parameters() if w.grad is not None and not _finite(w.grad)}
    weights = f"; gradients that are not finite: {_names(sorted(broken))}" if broken else ""
    after = "the loss"
    for name, module, finite in arrived:
        if not finite:
            return f"first on the way back from {after} to {_called(name, module)}{weights}"
        after = _called(name, module)
        if any(f"{name}.{n}".lstrip(".") in broken for n, _ in module.named_parameters(recurse=False)):
            return f"first in {after}, which a finite gradient reaches{weights}"
    return weights.removeprefix("; ") or "the step's own gradients were finite when it was repeated"


def _named(look: Callable[..., None], name: str) -> Callable[..., None]:
    return lambda module, inputs, output: look(name, module, inputs, output)


def _called(name: str, module: nn.Module) -> str:
    return f"{name or 'the model'} ({type(module).__name__})"


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:MOST_NAMES]) + (" ..." if len(listed) > MOST_NAMES else "")


def _tensors(values: object) -> Iterator[Tensor]:
    """The float tensors of what a module takes or gives."""
    if isinstance(values, Tensor):
        if values.is_floating_point() or values.is_complex():
            yield values
    elif isinstance(values, list | tuple | dict):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _tensors(value)


def _finite(values: object) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(values))


def diagnosis(model: nn.Module, what: str, value: float, step: int, offender: str) -> str:
    norms = sorted(((float(p.detach().norm()), name) for name, p in model.named_parameters()), reverse=True)
    listing = ", ".join(f"{name} {norm:.3g}" for norm, name in norms[:8])
    return (
        f"{what} is {value} at step {step}: {offender}. Largest parameter norms: {listing}. "
        "Lower optim.lr, set optim.max_grad_norm, or look at the inputs of that batch."
    )
