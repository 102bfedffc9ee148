"""One model, one file: its name is the file's, and the file says which class it is: ``MODEL``.

A model is imported when it is asked for: all that a replica needs to rebuild a bundle. What can be trained,
and how, is said in ``recray.recipes``.
"""

import importlib
import pkgutil
import typing
from collections.abc import Mapping
from typing import Any

from torch import nn

from recray.config import Config, ConfigError, from_dict, nearest
from recray.schema import Schema


def _load(name: str) -> type[Any]:
    try:
        found: type[Any] = importlib.import_module(f"{__name__}.{name}").MODEL
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name != f"{__name__}.{name}":
            raise  # a library that it needs is not installed
        files = [module.name for module in pkgutil.iter_modules(__path__)]
        raise ConfigError(f"no model {name!r}{nearest(name, files)}") from None
    return found


def config_of(name: str) -> type[Any]:
    """The config class of a model.

    Raises:
        ConfigError: no model has this name.
    """
    kind: type[Any] = typing.get_type_hints(_load(name).__init__)["config"]
    return kind


def build(name: str, config: Mapping[str, object] | Config, schema: Schema, *parts: object) -> nn.Module:
    """An untrained model from its config (an instance, or what ``to_dict`` made of one) and schema.

    Args:
        parts: what a model is made with beside them while it is trained, such as tables that are cut.
    """
    if isinstance(config, Mapping):
        config = from_dict(config_of(name), config)
    model: nn.Module = _load(name)(config, schema, *parts)
    return model
