"""A value as the type of a field wants it, exactly, or a ``ConfigError`` that says what would do.

A truth value is no number and a number no text; an int does where a float is asked, text where a path is,
a list where a tuple is, a mapping where a dataclass is. NaN is refused: nothing equals it, so two runs that
hold it could not be told to be the same. Infinity passes, and returns from JSON as Python writes it.
"""

import dataclasses
import difflib
import enum
import json
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar, Union, get_args, get_origin

UNIONS = (Union, types.UnionType)
EXACT = (int, float, str, tuple, list, dict, Mapping)  # an instance alone does not do: bool is an int


class ConfigError(ValueError):
    """A setting is wrong: the message names it, its value and what to write instead."""


class Config(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


C = TypeVar("C", bound=Config)


def nearest(name: str, valid: Iterable[str]) -> str:
    """``", did you mean 'x'?"`` where something close exists, else the valid names."""
    names = sorted(valid)
    same = [one for one in names if one.casefold() == name.casefold()]
    close = same or difflib.get_close_matches(name, names, n=1)
    if close:
        return f", did you mean {close[0]!r}?"
    return f"; valid: {', '.join(names)}" if names else ""


def settable(kind: type) -> dict[str, object]:
    """Name -> type of each field that a dataclass is made from; none where ``kind`` is no dataclass."""
    if not dataclasses.is_dataclass(kind):
        return {}
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind) if f.init}


def plain(value: object) -> object:
    """The JSON-ready form of a value: lists, mappings, names of enums; what has none stays as it is."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name)) for name in settable(type(value))}
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def struct(kind: type[C], values: Mapping[str, object], path: str = "") -> C:
    """A dataclass from its fields by name; ``path`` is where it stands in the whole config.

    Raises:
        ConfigError: an unknown name, a missing one, or a value that does not fit.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path or kind.__name__} must be a mapping of settings, got {values!r}")
    hints = settable(kind)
    for name in values:
        if name not in hints:
            raise ConfigError(f"no setting {_at(path, name)!r} in {kind.__name__}{nearest(str(name), hints)}")
    missing = [f.name for f in dataclasses.fields(kind) if _is_required(f) and f.name not in values]
    if missing:
        raise ConfigError(f"{path or kind.__name__}: missing {', '.join(map(repr, missing))}")
    return kind(**{name: convert(hints[name], value, _at(path, name)) for name, value in values.items()})


def _is_required(field: dataclasses.Field[Any]) -> bool:
    nothing = dataclasses.MISSING
    return field.init and field.default is nothing and field.default_factory is nothing


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def convert(hint: object, value: object, path: str) -> object:
    """``value`` as a field of type ``hint`` holds it.

    Raises:
        ConfigError: it does not fit; the message names ``path``, the value and what would do.
    """
    kind: Any = get_origin(hint) or hint
    if kind is Any or isinstance(kind, TypeVar):
        return value
    if kind in UNIONS:
        return _member(hint, value, path)
    if kind is Literal and any(type(a) is type(value) and a == value for a in get_args(hint)):
        return value
    if kind is float and type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    if kind in (int, str, float) and type(value) is kind and value == value:  # NaN is not
        return value
    if kind is Path and isinstance(value, str):
        return Path(value)
    if isinstance(kind, enum.EnumType) and isinstance(value, str) and value in kind.__members__:
        return kind[value]
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return struct(kind, value, path)
    if kind in (tuple, list) and isinstance(value, (list, tuple)):
        places = _places(hint, len(value))
        if len(places) == len(value):
            return kind(convert(places[i], each, f"{path}[{i}]") for i, each in enumerate(value))
    if kind in (dict, Mapping) and isinstance(value, Mapping):
        key_kind, value_kind = get_args(hint) or (Any, Any)
        return {convert(key_kind, k, path): convert(value_kind, v, _at(path, k)) for k, v in value.items()}
    if isinstance(kind, type) and kind not in EXACT and isinstance(value, kind):
        return value
    raise ConfigError(f"{path} must be {_told(hint)}, got {value!r}")


def _places(hint: object, count: int) -> tuple[object, ...]:
    """The type of each place of a tuple or list that holds ``count`` values."""
    args = get_args(hint) if get_origin(hint) else (Any, ...)
    return args[:1] * count if args[-1:] == (...,) or get_origin(hint) is list else args


def _member(union: object, value: object, path: str) -> object:
    """``value`` as the member of a union that takes it as it is, else as the only one that takes it."""
    fits: list[object] = []
    reasons: list[str] = []
    for member in get_args(union):
        try:
            fits.append(convert(member, value, path))
        except ConfigError as error:
            if dataclasses.is_dataclass(member) and isinstance(value, Mapping):
                reasons.append(str(error))
    if not fits:
        because = f" ({'; '.join(reasons)})" if reasons else ""
        raise ConfigError(f"{path} must be {_told(union)}, got {value!r}{because}")
    if len(fits) > 1:
        fits = [f for f in fits if _json(f) == _json(value)] or fits
        fits = [f for f in fits if type(f) is type(value)] or fits
    if any(type(f) is not type(fits[0]) or f != fits[0] for f in fits):
        alike = " and ".join(type(f).__name__ for f in fits)
        raise ConfigError(f"{path} could be {alike}, got {value!r}: give what only one of them has")
    return fits[0]


def _json(value: object) -> str:
    return json.dumps(plain(value), sort_keys=True, default=repr)


def _told(hint: object) -> str:
    """A type as an error names it."""
    kind, args = get_origin(hint) or hint, get_args(hint)
    if kind in UNIONS:
        return " or ".join(map(_told, args))
    if kind is Literal:
        return f"one of {', '.join(map(str, args))}"
    if isinstance(kind, enum.EnumType):
        return f"one of {', '.join(kind.__members__)}"
    if kind is Path:
        return "a path"
    if kind is ...:
        return "..."
    name = "None" if kind is types.NoneType else getattr(kind, "__name__", str(kind))
    return f"{name}[{', '.join(map(_told, args))}]" if args else name
