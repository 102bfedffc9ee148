"""The one life of a run: every recipe lives it on a tiny data set, and its version says how to repeat it."""

import importlib
import json
import pkgutil
import shutil
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from recray import models
from recray.config import from_dict, override
from recray.data.events.dataset import load_dataset
from recray.data.events.side_features import encode_side_features
from recray.launch.machine import code, libraries, machine
from recray.pipelines.semantic_ids import publish_semantic_ids
from recray.pipelines.train import Trained, train
from recray.recipes import RECIPES, run_for
from recray.store import Store, StoreError, read_history, run_record
from recray.store.bundle import open_folder
from recray.train.context import LaunchConfig
from recray.train.run import Run
from tests.pipelines.tiny import tiny_events

LOCAL = LaunchConfig(where="local")
TRAINED = [name for name in RECIPES if name != "ideal"]  # the planted truth is there to be compared with
SIDE_FEATURES = {"two_tower": 1, "gat": 1}  # times that they are encoded; everybody else: never


class Lived(NamedTuple):
    """A run, what came of it, and how often it read data on the way."""

    run: Run
    trained: Trained
    loads: int
    encodings: int


class Lives:
    """Recipes that are lived when first asked for, after what they stand on."""

    def __init__(self, dataset: Path) -> None:
        self.dataset, self.store = dataset, Store()
        self._lived: dict[str, Lived] = {}
        self._has_map = False

    def __getitem__(self, name: str) -> Lived:
        if name not in self._lived:
            if name.endswith("_ranker"):
                self["two_tower"]
            if name == "decoder" and not self._has_map:
                publish_semantic_ids(self["rqvae"].trained.bundle, self.store)
                self._has_map = True
            self._lived[name] = self._live(name)
        return self._lived[name]

    def _live(self, name: str) -> Lived:
        recipe: Any = RECIPES[name]
        run = override(run_for(recipe, str(self.dataset)), {"seed": 3})
        if recipe.loop(run):
            run = override(run, {"loop.epochs": 2, "loop.patience": 0})
        opened = mock.patch("recray.data.events.prepare.load_dataset", wraps=load_dataset)
        encoded = mock.patch("recray.data.events.split_data.encode_side_features", wraps=encode_side_features)
        with opened as loads, encoded as encodings:
            trained = train(recipe, run, LOCAL, self.store)
        return Lived(run, trained, loads.call_count, encodings.call_count)


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Lives:
    return Lives(tiny_events(tmp_path_factory.mktemp("raw")))


@pytest.mark.parametrize("name", TRAINED)
def test_a_version_carries_the_run_that_made_it(name: str, lives: Lives) -> None:
    recipe, (run, trained, *_) = RECIPES[name], lives[name]
    manifest = trained.bundle.manifest
    published = lives.store.open(manifest.name, manifest.version)  # as it lies on the disk
    published.verify()
    assert published.manifest.card == trained.measured.card
    assert published.manifest.metrics.items() >= trained.measured.means().items()
    record = run_record(published)
    data = recipe.open(run)
    assert from_dict(type(run), record.settings) == recipe.exact(run, data)
    facts, loop = recipe.facts(data), recipe.loop(run)
    assert (record.recipe, record.data, record.data_hash) == (name, facts.name, facts.hash)
    assert (record.seed, record.where) == (3, "in this process")
    assert (record.code, record.machine, record.versions) == (code(), machine(), libraries())
    assert record.versions["torch"]
    assert record.duration_s >= 0
    reports = read_history(published)
    assert reports
    assert record.epochs == reports[-1].get("epoch", 0.0)
    if loop:
        assert [report["epoch"] for report in reports] == [1, 2]
        assert all(loop.metric in report for report in reports)


@pytest.mark.parametrize("name", TRAINED)
def test_the_same_run_gives_the_same_numbers(name: str, lives: Lives) -> None:
    run, trained, *_ = lives[name]
    recorded = from_dict(type(run), run_record(trained.bundle).settings)
    assert train(RECIPES[name], recorded, LOCAL, lives.store).measured.means() == trained.measured.means()


@pytest.mark.parametrize("name", TRAINED)
def test_data_is_opened_once_and_encoded_for_who_reads_it(name: str, lives: Lives) -> None:
    assert lives[name].loads == 1
    assert lives[name].encodings == SIDE_FEATURES.get(name, 0)


def test_every_network_is_made_by_a_recipe(lives: Lives) -> None:
    made = {lives[name].trained.bundle.manifest.model for name in TRAINED}
    files = [module.name for module in pkgutil.iter_modules(models.__path__)]
    networks = {f for f in files if hasattr(importlib.import_module(f"recray.models.{f}"), "MODEL")}
    assert networks
    assert made >= networks


def test_a_manifest_of_the_first_format_is_refused_in_one_sentence(lives: Lives, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(lives["popularity"].trained.bundle.folder, tmp_path / "1"))
    values = json.loads((folder / "manifest.json").read_text())
    del values["run"]
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").write_text(json.dumps({**values, "format": 1}))
    with pytest.raises(StoreError) as refused:
        open_folder(folder)
    wanted = f"{folder / 'manifest.json'} has format 1, this version of recray reads 2: publish it again"
    assert str(refused.value) == wanted
