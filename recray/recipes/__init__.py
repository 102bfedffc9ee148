"""What can be trained, by name: the only room that joins data, model, evaluation and loop.

A recipe is imported when it is first asked for.
"""

import importlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from recray.config import ConfigError, from_dict, nearest, settings
from recray.store import Bundle, run_record
from recray.train.run import AnyRecipe, Recipe, Run

log = logging.getLogger(__name__)
R = TypeVar("R", bound=Run)

_PLACES = {
    "popularity": "at_once.POPULARITY",
    "item_knn": "at_once.ITEM_KNN",
    "ease": "at_once.EASE",
    "slim": "at_once.SLIM",
    "ials": "at_once.IALS",
    "two_tower": "pairs.TWO_TOWER",
    "ncf": "pairs.NCF",
    "bpr": "lightgcn.BPR",
    "gat": "graph.GRAPH_ATTENTION",
    "lightgcn": "lightgcn.LIGHTGCN",
    "gru4rec": "sequence.GRU4REC",
    "sasrec": "sequence.SASREC",
    "hstu": "sequence.HSTU",
    "ss4rec": "sequence.SS4REC",
    "s5": "sequence.S5",
    "mamba": "sequence.MAMBA",
    "decoder": "decoder.DECODER",
    "rqvae": "rqvae.RQVAE_RECIPE",
    "dlrm": "dlrm.DLRM_RECIPE",
    "lambdarank": "dlrm.LAMBDARANK",
    "gbdt_ranker": "ranker.GBDT_RANKER",
    "dlrm_ranker": "ranker.DLRM_RANKER",
    "ideal": "ideal.IDEAL",
}


class _Recipes(Mapping[str, AnyRecipe]):
    """Recipes by name, in the order of the list above."""

    def __getitem__(self, name: str) -> AnyRecipe:
        if name not in _PLACES:
            raise ConfigError(f"no recipe for model {name!r}{nearest(name, _PLACES)}")
        module, attribute = _PLACES[name].split(".")
        found: AnyRecipe = getattr(importlib.import_module(f"recray.recipes.{module}"), attribute)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


RECIPES: Mapping[str, AnyRecipe] = _Recipes()


def run_for(recipe: Recipe[R, Any, Any], dataset: str) -> R:
    """The run of a model for a data set: its preset, else the model's own defaults at the size of the data.

    Never another data set's preset; where there is none, the log says which settings were taken.

    Raises:
        ConfigError, DataError: there is no such data.
    """
    if dataset in recipe.presets:
        return recipe.presets[dataset][1]
    run = recipe.default(dataset)
    taken = settings(run)
    plain = settings(type(run)())
    differing = ", ".join(f"{k} {v}" for k, v in taken.items() if v != plain.get(k) and k != "data.dataset")
    log.info(
        "%s has no preset for %s; by the size of the data: %s",
        recipe.name,
        dataset,
        differing or "its defaults",
    )
    return run


def run_again(bundle: Bundle) -> tuple[AnyRecipe, Run]:
    """The recipe and the run of a published version.

    Raises:
        StoreError: it was not trained.
    """
    record = run_record(bundle)
    recipe = RECIPES[record.recipe]
    some: Run = next(iter(recipe.presets.values()))[1]
    return recipe, from_dict(type(some), record.settings)
