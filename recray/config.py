"""Typed configs: ``override`` by dotted path, JSON round trip, and the error a user of them reads.

A run is a frozen dataclass. Presets are values, the command line is generated from them, and a
hyperparameter search changes them by the same dotted paths. Unknown names fail and name the nearest.
What a value must be to fit a field's type is said in ``recray.typed_values``.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from recray.typed_values import Config, ConfigError, convert, nearest, plain, settable, struct

__all__ = [
    "ELASTIC",
    "Config",
    "ConfigError",
    "UnavailableError",
    "from_dict",
    "nearest",
    "override",
    "settings",
    "to_dict",
    "value_at",
]
C = TypeVar("C", bound=Config)
ELASTIC = "elastic"  # in a field's metadata: an interrupted run may be continued with another value


class UnavailableError(ConfigError):
    """What was asked for is right, and what it needs is not there now: the same may be asked again."""


@runtime_checkable
class Pinned(Protocol):
    """A config whose elastic settings decide something that an interrupted run cannot change."""

    def pinned(self) -> Mapping[str, object]:
        """What that is, by name."""


def override(config: C, changes: Mapping[str, object]) -> C:
    """A copy of a frozen dataclass with fields replaced, addressed as ``"optim.lr"``, all at once.

    Raises:
        ConfigError: a path names no field, or the value does not fit the field's type.
    """
    return _changed(config, changes, "")


def _changed(config: C, changes: Mapping[str, object], prefix: str) -> C:
    types = settable(type(config))
    values: dict[str, object] = {}
    deeper: dict[str, dict[str, object]] = {}
    for path, value in changes.items():
        name, dot, rest = path.partition(".")
        _require(name, types, prefix + path, config)
        if dot:
            deeper.setdefault(name, {})[rest] = value
        else:
            values[name] = convert(types[name], value, prefix + name)
    for name, inner in deeper.items():
        within: Config = values.get(name, getattr(config, name))  # type: ignore[assignment]  # a leaf has no fields
        values[name] = _changed(within, inner, f"{prefix}{name}.")
    return dataclasses.replace(config, **values)


def value_at(config: Config, path: str) -> object:
    """What stands at a dotted path.

    Raises:
        ConfigError: the path names no field.
    """
    value: object = config
    for name in path.split("."):
        _require(name, settable(type(value)), path, value)
        value = getattr(value, name)
    return value


def _require(name: str, valid: Mapping[str, object], path: str, config: object) -> None:
    if name not in valid:
        raise ConfigError(f"no setting {path!r} in {type(config).__name__}{nearest(name, valid)}")


def settings(config: Config, *, elastic: bool = True) -> dict[str, object]:
    """Every setting by its dotted path, as JSON-ready values: a run as one flat row.

    Args:
        elastic: with those that may change while a run is interrupted; without, what they fix for good.
    """
    found: dict[str, object] = {}
    if not elastic and isinstance(config, Pinned):
        found |= {name: plain(value) for name, value in config.pinned().items()}
    for field in dataclasses.fields(config):
        if not field.init or (not elastic and field.metadata.get(ELASTIC)):
            continue
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            inner = settings(value, elastic=elastic)
            found |= {f"{field.name}.{path}": leaf for path, leaf in inner.items()}
        else:
            found[field.name] = plain(value)
    return found


def to_dict(config: Config) -> dict[str, Any]:
    """A frozen dataclass as JSON-ready values: tuples become lists, paths text, enums their names."""
    return {name: plain(getattr(config, name)) for name in settable(type(config))}


def from_dict(kind: type[C], values: Mapping[str, object]) -> C:
    """The dataclass that ``to_dict`` wrote; fields that are absent take their defaults.

    Raises:
        ConfigError: an unknown key, a missing required one, or a value of the wrong type.
    """
    return struct(kind, values)
