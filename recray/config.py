"""Typed configs: ``override`` by dotted path, JSON round trip, and the error a user of them reads.

A run is a frozen dataclass. Presets are values, the command line is generated from them, and a
hyperparameter search changes them by the same dotted paths. Unknown names fail and name the nearest.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
ELASTIC = "elastic"  # in a field's metadata: an interrupted run may be continued with another value


class ConfigError(ValueError):
    """A setting is wrong: the message names it, its value and what to write instead."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """``", did you mean 'x'?"`` where something close exists, else the valid names."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1)
    return f", did you mean {close[0]!r}?" if close else f"; valid: {', '.join(names)}"


def override(config: T, changes: Mapping[str, Any]) -> T:
    """A copy of a frozen dataclass with fields replaced, addressed as ``"optim.lr"``.

    Raises:
        ConfigError: a path names no field, or the value does not fit the field's type.
    """
    for path, value in changes.items():
        config = _replace(config, path, path.split("."), value)
    return config


def _replace(config: Any, path: str, parts: list[str], value: Any) -> Any:
    fields = {f.name for f in dataclasses.fields(config)} if dataclasses.is_dataclass(config) else set()
    name, rest = parts[0], parts[1:]
    if name not in fields:
        raise ConfigError(f"no setting {path!r} in {type(config).__name__}{nearest(name, fields)}")
    if rest:
        value = _replace(getattr(config, name), path, rest, value)
    else:
        value = _convert(typing.get_type_hints(type(config))[name], value, path)
    return dataclasses.replace(config, **{name: value})


def to_dict(config: Any) -> dict[str, Any]:
    """A frozen dataclass as JSON-ready values; tuples become lists."""
    return {k: _plain(v) for k, v in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def from_dict(kind: type[T], values: Mapping[str, Any]) -> T:
    """The dataclass that ``to_dict`` wrote; fields that are absent take their defaults.

    Raises:
        ConfigError: an unknown key, a missing required one, or a value of the wrong type.
    """
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in hints:
            raise ConfigError(f"no setting {key!r} in {kind.__name__}{nearest(key, hints)}")
    converted = {k: _convert(hints[k], v, k) for k, v in values.items()}
    try:
        return kind(**converted)
    except TypeError as error:
        raise ConfigError(f"{kind.__name__}: {error}") from error


def _convert(hint: Any, value: Any, path: str) -> Any:
    """``value`` as ``hint`` wants it: nested dataclasses, tuples, int where float is asked."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, path)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_dict(typing.cast(type[Any], hint), value)
    if origin is tuple and isinstance(value, (list, tuple)):
        inner = args[0] if args else Any
        return tuple(_convert(inner, v, path) for v in value)
    if origin is typing.Literal and value not in args:
        raise ConfigError(f"{path} must be one of {', '.join(map(str, args))}, got {value!r}")
    if hint is float and type(value) is int:
        return float(value)
    if hint in (int, float, bool, str) and type(value) is not hint:
        raise ConfigError(f"{path} must be {hint.__name__}, got {value!r}")
    return value
