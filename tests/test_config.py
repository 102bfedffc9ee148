"""Configs: dotted overrides, JSON round trips, and errors that name the nearest setting."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from recray.config import ConfigError, from_dict, override, to_dict
from recray.schema import Feature, FeatureSchema, ProtocolCard


@dataclass(frozen=True)
class Optim:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass(frozen=True)
class Run:
    optim: Optim = field(default_factory=Optim)
    kind: Literal["a", "b"] = "a"
    steps: int = 10
    name: str | None = None


def test_override_by_dotted_path_leaves_the_original_alone() -> None:
    run = Run()
    changed = override(run, {"optim.lr": 1, "steps": 3, "kind": "b", "name": "x"})
    assert (changed.optim.lr, changed.steps, changed.kind, changed.name) == (1.0, 3, "b", "x")
    assert type(changed.optim.lr) is float
    assert run == Run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim.lrr": 1.0}, r"no setting 'optim.lrr' in Optim, did you mean 'lr'\?"),
        ({"zzz": 1}, "no setting 'zzz' in Run; valid: kind, name, optim, steps"),
        ({"steps.more": 1}, "no setting 'steps.more' in int"),
        ({"steps": "many"}, "steps must be int, got 'many'"),
        ({"steps": True}, "steps must be int, got True"),
        ({"kind": "c"}, "kind must be one of a, b, got 'c'"),
    ],
)
def test_override_refuses_what_does_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(Run(), changes)


def test_json_round_trip_of_nested_configs() -> None:
    run = override(Run(), {"optim.betas": (0.8, 0.9), "name": "n"})
    assert from_dict(Run, to_dict(run)) == run
    assert to_dict(run)["optim"]["betas"] == [0.8, 0.9]


def test_from_dict_names_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="no setting 'stepz' in Run, did you mean 'steps'"):
        from_dict(Run, {"stepz": 1})
    with pytest.raises(ConfigError, match="Feature: .*missing.*'name'"):
        from_dict(Feature, {"kind": "ids", "size": 1, "width": 1})


def test_schema_and_card_round_trip() -> None:
    schema = FeatureSchema(
        num_users=3, num_items=4, item=(Feature(name="genres", kind="ids", size=9, width=2),)
    )
    assert FeatureSchema.from_json(schema.to_json()) == schema
    card = ProtocolCard(
        dataset="d", dataset_hash="h", split="s", target="test", relevance="all", k_core=0, num_users=7
    )
    assert ProtocolCard.from_json(card.to_json()) == card
    other = ProtocolCard.from_json({**card.to_json(), "k_core": 5})
    assert card.differences(other) == {"k_core": (0, 5)}
