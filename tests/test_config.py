"""Configs: dotted overrides, JSON round trips, and errors that name the nearest setting."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from recray.config import ELASTIC, ConfigError, from_dict, override, settings, to_dict, value_at
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
        ({"optim.LR": 1.0}, r"no setting 'optim.LR' in Optim, did you mean 'lr'\?"),
        ({"zzz": 1}, "no setting 'zzz' in Run; valid: kind, name, optim, steps"),
        ({"steps.more": 1}, "no setting 'steps.more' in int"),
        ({"steps": "many"}, "steps must be int, got 'many'"),
        ({"steps": True}, "steps must be int, got True"),
        ({"optim.betas": [0.9]}, r"optim.betas must be tuple\[float, float\], got \[0.9\]"),
        ({"optim": {"lr": "fast"}}, "optim.lr must be float, got 'fast'"),
        ({"optim": {"lrr": 1.0}}, r"no setting 'optim.lrr' in Optim, did you mean 'lr'\?"),
        ({"optim.": 1}, "no setting 'optim.' in Optim"),
        ({"kind": "c"}, "kind must be one of a, b, got 'c'"),
    ],
)
def test_override_refuses_what_does_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(Run(), changes)


@dataclass(frozen=True)
class Levels:
    sizes: tuple[int, ...] = (8, 8)
    count: int = 2

    def __post_init__(self) -> None:
        if len(self.sizes) != self.count:
            raise ConfigError(f"{self.count} levels, and sizes of {len(self.sizes)}")


def test_changes_that_need_each_other_are_made_at_once() -> None:
    assert override(Levels(), {"count": 1, "sizes": [4]}) == Levels((4,), 1)
    both = override(Run(), {"optim": Optim(lr=2.0), "optim.betas": (0.0, 0.1)})
    assert both.optim == Optim(2.0, (0.0, 0.1))


@dataclass(frozen=True)
class Tables:
    backend: str = field(default="torch", metadata={ELASTIC: True})
    root: Path = Path("a/b")

    def pinned(self) -> dict[str, int]:
        return {"blocks": len(self.backend)}


@dataclass(frozen=True)
class Whole:
    run: Run = field(default_factory=Run)
    tables: Tables = field(default_factory=Tables)


def test_settings_are_flat_and_ready_for_json() -> None:
    found = settings(Whole())
    assert found == {
        "run.optim.lr": 1e-3,
        "run.optim.betas": [0.9, 0.999],
        "run.kind": "a",
        "run.steps": 10,
        "run.name": None,
        "tables.backend": "torch",
        "tables.root": "a/b",
    }
    assert override(Whole(Run(steps=3), Tables("x")), json.loads(json.dumps(found))) == Whole()
    fixed = settings(Whole(), elastic=False)
    assert fixed["tables.blocks"] == 5
    assert "tables.backend" not in fixed


def test_value_at_a_path() -> None:
    assert value_at(Whole(), "run.optim.lr") == 1e-3
    assert value_at(Whole(), "tables") == Tables()
    with pytest.raises(ConfigError, match=r"no setting 'run.optim.lrr' in Optim, did you mean 'lr'\?"):
        value_at(Whole(), "run.optim.lrr")
    with pytest.raises(ConfigError, match="no setting 'run.steps.real' in int"):
        value_at(Whole(), "run.steps.real")


def test_json_round_trip_of_nested_configs() -> None:
    run = override(Run(), {"optim.betas": (0.8, 0.9), "name": "n"})
    assert from_dict(Run, to_dict(run)) == run
    assert to_dict(run)["optim"]["betas"] == [0.8, 0.9]


def test_from_dict_names_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="no setting 'stepz' in Run, did you mean 'steps'"):
        from_dict(Run, {"stepz": 1})
    with pytest.raises(ConfigError, match="Feature: .*missing.*'name'"):
        from_dict(Feature, {"kind": "ids", "size": 1, "width": 1})
    with pytest.raises(ConfigError, match=r"Run must be a mapping of settings, got \['steps'\]"):
        from_dict(Run, ["steps"])  # type: ignore[arg-type]


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
