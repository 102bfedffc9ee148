"""Weights as safetensors: tensors and nothing else, so that reading them runs no code."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
from torch import nn

from recray import models
from recray.mapped import read_pages
from recray.store.bundle import Bundle
from recray.store.manifest import StoreError

WEIGHTS_FILE = "model.safetensors"


def save_model(model: nn.Module, folder: Path) -> None:
    """Writes the state dict of ``model`` into a bundle's folder."""
    # Tied weights share memory, which safetensors refuses: every name gets its own copy.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(state, folder / WEIGHTS_FILE)


def load_model(bundle: Bundle) -> nn.Module:
    """The model of a bundle, rebuilt from its config and schema, in evaluation mode on the CPU.

    Its weights are pages of their file, as ``load_arrays`` has them.

    Raises:
        StoreError: it has no schema, or weights and model do not fit each other.
    """
    manifest = bundle.manifest
    if manifest.schema is None:
        raise StoreError(f"{manifest.reference} has no schema, so its model cannot be rebuilt; publish one")
    model = models.build(manifest.model, manifest.config, manifest.schema)
    state = safetensors.torch.load_file(bundle.path(WEIGHTS_FILE))
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise StoreError(
            f"{manifest.reference}: its weights do not fit {manifest.model!r}: {error}"
        ) from error
    return model.eval()


def load_arrays(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Arrays by name: pages of the file, read when they are looked at and shared by a node's processes.

    Raises:
        StoreError: the file is not safetensors.
    """
    try:
        return read_pages(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise StoreError(f"{path}: not a readable safetensors file: {error}") from error
