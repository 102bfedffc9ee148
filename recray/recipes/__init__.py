"""Model name -> recipe: the only room that joins data, model, evaluation and loop for training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from recray.config import ConfigError, nearest
from recray.recipes import clicks, generative, graph, ncf, retrieval, semantic_ids, sequence
from recray.train.context import Context


@dataclass(frozen=True)
class Recipe:
    """How a model is trained."""

    presets: dict[str, tuple[str, Any]]
    """Preset name -> (one line about it, complete run config)."""
    train: Callable[[Any, Context], object]
    """(run config, context) -> the trained model, its best weights in a checkpoint; run by every worker."""


RECIPES: dict[str, Recipe] = {
    "popularity": Recipe(retrieval.COUNT_PRESETS["popularity"], retrieval.train_counts),
    "item_knn": Recipe(retrieval.COUNT_PRESETS["item_knn"], retrieval.train_counts),
    "two_tower": Recipe(retrieval.TWO_TOWER_PRESETS, retrieval.train_pairs),
    "ncf": Recipe(ncf.NCF_PRESETS, ncf.train_ncf),
    "gat": Recipe(graph.GAT_PRESETS, graph.train_gat),
    "sasrec": Recipe(sequence.SASREC_PRESETS, sequence.train_sequence),
    "ss4rec": Recipe(sequence.SS4REC_PRESETS, sequence.train_sequence),
    "s5": Recipe(sequence.halves("s5"), sequence.train_sequence),
    "mamba": Recipe(sequence.halves("mamba"), sequence.train_sequence),
    "ideal": Recipe({"synthetic": ("the planted truth", retrieval.IdealRun())}, retrieval.reveal_ideal),
    "rqvae": Recipe(semantic_ids.RQVAE_PRESETS, semantic_ids.train_rqvae),
    "decoder": Recipe(generative.DECODER_PRESETS, generative.train_decoder),
    "dlrm": Recipe(clicks.DLRM_PRESETS, clicks.train_rows),
}


def recipe(name: str) -> Recipe:
    """The recipe of a model.

    Raises:
        ConfigError: no model of this name can be trained.
    """
    if name not in RECIPES:
        raise ConfigError(f"no recipe for model {name!r}{nearest(name, RECIPES)}")
    return RECIPES[name]


def preset(model: str, dataset: str) -> Any:
    """The run config of a model for a data set: its preset, or the first preset pointed at that data."""
    presets = recipe(model).presets
    if dataset in presets:
        return presets[dataset][1]
    return retrieval.for_dataset(next(iter(presets.values()))[1], dataset)
