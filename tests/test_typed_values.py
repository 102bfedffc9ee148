"""Values as types want them: generated dataclasses of generated types, against a slow oracle of what fits."""

import dataclasses
import datetime
import enum
import functools
import json
import operator
import types
import typing
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recray.config import Config, ConfigError, from_dict, override, to_dict, value_at
from recray.typed_values import convert


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


LETTERS = Literal["a", "b", 1, False]
SCALARS = (int, float, bool, str, types.NoneType)
WORDS = st.text("abcxyz", min_size=1, max_size=4)
NUMBERS = st.integers(-(2**53), 2**53)
FLOATS = st.floats(allow_nan=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)


def dataclass_of(kinds: dict[str, object]) -> type:
    return dataclasses.make_dataclass("Made", list(kinds.items()), frozen=True)


def list_of(kind: object) -> types.GenericAlias:
    return types.GenericAlias(list, (kind,))


def composed(inner: st.SearchStrategy) -> st.SearchStrategy:
    scalars = st.lists(st.sampled_from(SCALARS), min_size=1, max_size=3, unique=True)
    return st.one_of(
        inner.map(lambda t: types.GenericAlias(tuple, (t, ...))),
        st.lists(inner, max_size=3).map(lambda ts: types.GenericAlias(tuple, tuple(ts))),
        inner.map(list_of),
        inner.map(lambda t: types.GenericAlias(dict, (str, t))),
        st.dictionaries(WORDS, inner, max_size=3).map(dataclass_of),
        # members that look different in JSON, as those of a sensible union do
        st.tuples(scalars, inner.map(list_of)).map(lambda p: functools.reduce(operator.or_, [*p[0], p[1]])),
        st.tuples(inner, inner).map(lambda p: dataclass_of({"Left": p[0]}) | dataclass_of({"Right": p[1]})),
    )


TYPES = st.recursive(st.sampled_from([*SCALARS, Path, Colour, LETTERS]), composed, max_leaves=6)
CONFIGS = st.dictionaries(WORDS, TYPES, min_size=1, max_size=4).map(dataclass_of)


def values_of(hint: Any) -> st.SearchStrategy:
    """Values that a field of this type holds."""
    kind, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    plain = {
        int: NUMBERS,
        float: FLOATS,
        bool: st.booleans(),
        str: st.text(max_size=4),
        types.NoneType: st.none(),
    }
    if kind in plain:
        return plain[kind]
    if kind is Path:
        return st.text("ab/.", max_size=5).map(Path)
    if kind is Colour or kind is Literal:
        return st.sampled_from(list(Colour) if kind is Colour else args)
    if kind is types.UnionType:
        return st.one_of([values_of(a) for a in args])
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        return st.builds(kind, **{name: values_of(t) for name, t in typing.get_type_hints(kind).items()})
    if kind is tuple and args[-1:] != (...,):
        return st.tuples(*map(values_of, args))
    if kind is dict:
        return st.dictionaries(st.text(max_size=3), values_of(args[1]), max_size=3)
    return st.lists(values_of(args[0]), max_size=3).map(kind)


def fits(hint: Any, value: object) -> bool:
    """Whether a JSON value is one of this type: the oracle, written case by case."""
    kind, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is float:
        return (type(value) is float and value == value) or (type(value) is int and abs(value) < 2**1023)
    if kind in SCALARS:
        return type(value) is kind
    if kind is Path:
        return type(value) is str
    if kind is Colour:
        return type(value) is str and value in ("RED", "BLUE")
    if kind is Literal:
        return [type(value), value] in [[type(a), a] for a in args]
    if kind is types.UnionType:
        return any(fits(a, value) for a in args)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if not isinstance(value, dict) or value.keys() != hints.keys():
            return False
        return all(fits(hints[k], v) for k, v in value.items())
    if kind is dict:
        return isinstance(value, dict) and all(fits(args[1], v) for v in value.values())
    if kind is tuple and args[-1:] != (...,):
        return isinstance(value, list) and len(value) == len(args) and all(map(fits, args, value))
    return isinstance(value, list) and all(fits(args[0], v) for v in value)


def written(value: object) -> object:
    """What a value is after it went through JSON."""
    return json.loads(json.dumps(to_dict(dataclass_of({"x": object})(value))))["x"]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_config_returns_from_json_as_it_was(data: st.DataObject) -> None:
    kind = data.draw(CONFIGS)
    made = data.draw(values_of(kind))
    again: Config = from_dict(kind, json.loads(json.dumps(to_dict(made))))
    assert again == made
    assert repr(again) == repr(made)  # 1, 1.0 and True are equal, and not the same
    assert from_dict(kind, {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}) == made


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_what_fits_is_taken_and_all_else_is_a_config_error(data: st.DataObject) -> None:
    hint, other = data.draw(TYPES), data.draw(TYPES)
    value = data.draw(JSON | values_of(other).map(written) | values_of(hint).map(written))
    if fits(hint, value):
        assert repr(convert(hint, convert(hint, value, "x"), "x")) == repr(convert(hint, value, "x"))
    else:
        with pytest.raises(ConfigError, match=r"\bx\b"):
            convert(hint, value, "x")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_an_override_is_a_replacement_by_hand(data: st.DataObject) -> None:
    inner, outer = data.draw(CONFIGS), data.draw(CONFIGS)
    kind = dataclass_of({"Top": int, "Inner": inner, "Outer": outer})
    made, other = data.draw(values_of(kind)), data.draw(values_of(kind))
    part, part_kind = data.draw(st.sampled_from([("Inner", inner), ("Outer", outer)]))
    name, hint = data.draw(st.sampled_from(list(typing.get_type_hints(part_kind).items())))
    value = data.draw(values_of(hint))
    by_hand = dataclasses.replace(made, **{part: dataclasses.replace(getattr(made, part), **{name: value})})
    changed = override(made, {f"{part}.{name}": value})
    assert repr(changed) == repr(by_hand)
    assert repr(value_at(changed, f"{part}.{name}")) == repr(value)
    assert override(other, {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}) == made


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (tuple[float, float], [0.9], r"x must be tuple\[float, float\], got \[0.9\]"),
        (tuple[int, str], [1, 2], r"x\[1\] must be str, got 2"),
        (dict[str, int], {"k": "1"}, "x.k must be int, got '1'"),
        (dict[Literal["a"], int], {"b": 1}, "x must be one of a, got 'b'"),
        (float, True, "x must be float, got True"),
        (float, float("nan"), "x must be float, got nan"),
        (float, 10**400, "x must be float, got 1000"),
        (int | None, "1", "x must be int or None, got '1'"),
        (Colour, "GREEN", "x must be one of RED, BLUE, got 'GREEN'"),
        (Path, 1, "x must be a path, got 1"),
        (list[tuple[int, ...]], [[1], ["a"]], r"x\[1\]\[0\] must be int, got 'a'"),
        (list[str], "ab", r"x must be list\[str\], got 'ab'"),
        (int | tuple[int, ...], 1.5, r"x must be int or tuple\[int, \.\.\.\], got 1.5"),
    ],
)
def test_errors_say_what_would_do(hint: object, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        convert(hint, value, "x")


@dataclasses.dataclass(frozen=True)
class Nothing:
    pass


@dataclasses.dataclass(frozen=True)
class Near:
    radius: float = 1.0
    count: int = 2


@dataclasses.dataclass(frozen=True)
class Far:
    radius: float = 1.0
    depth: int = 3


def test_the_member_of_a_union_is_the_one_that_fits_as_it_is() -> None:
    assert repr(convert(float | int, 1, "x")) == "1"
    assert repr(convert(int | float, 1.0, "x")) == "1.0"
    assert repr(convert(float | None, 1, "x")) == "1.0"
    assert repr(convert(tuple[float, ...] | tuple[int, ...], [1, 2], "x")) == "(1, 2)"
    assert convert(Path | str, "a", "x") == "a"
    assert convert(Path | str, Path("a"), "x") == Path("a")


def test_a_union_of_dataclasses_is_chosen_by_its_keys() -> None:
    assert convert(Near | Far, {"depth": 4}, "x") == Far(depth=4)
    assert convert(Nothing | Near, {}, "x") == Nothing()  # all that Nothing has
    assert convert(Near | Far, Far(), "x") == Far()
    with pytest.raises(
        ConfigError, match=r"x could be Near and Far, got \{'radius': 2.0\}: give what only one"
    ):
        convert(Near | Far, {"radius": 2.0}, "x")
    with pytest.raises(ConfigError, match=r"no setting 'x.depht' in Far, did you mean 'depth'\?"):
        convert(Near | Far, {"depht": 2}, "x")
    with pytest.raises(ConfigError, match="x must be Near or None, got .*x.count must be int, got 'two'"):
        convert(Near | None, {"count": "two"}, "x")


def test_settings_of_a_type_that_conversion_does_not_know_are_instances() -> None:
    assert convert(type[int], int, "x") is int
    assert convert(Any, {"as": ("it", "is")}, "x") == {"as": ("it", "is")}
    with pytest.raises(ConfigError, match="x must be date, got '2026'"):
        convert(datetime.date, "2026", "x")
