"""Presets: every complete run that comes with recray can be written down as JSON and read again."""

import json
from typing import Any

import pytest

from recray.config import from_dict, override, settings, to_dict
from recray.data.events.split_data import DataConfig
from recray.pipelines.compare import entries_of
from recray.recipes import RECIPES

RUNS = {
    f"{model}/{name}": run for model, recipe in RECIPES.items() for name, (_, run) in recipe.presets.items()
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_a_run_returns_from_json_as_it_was(run: Any) -> None:
    again = from_dict(type(run), json.loads(json.dumps(to_dict(run))))
    assert again == run
    assert repr(again) == repr(run)


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_a_run_is_its_flat_settings(run: Any) -> None:
    assert override(run, json.loads(json.dumps(settings(run)))) == run


@pytest.mark.parametrize(("model", "runs"), [("ease", 1), ("slim", 1), ("ials", 3), ("two_tower", 3)])
def test_what_draws_at_random_has_a_run_for_each_seed(model: str, runs: int) -> None:
    entries = entries_of(model, DataConfig(), 3)
    assert [entry.run.seed for entry in entries] == list(range(runs))
