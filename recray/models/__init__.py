"""Model name -> (config, model), imported when asked for: all that a replica needs to rebuild a bundle."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from recray.config import Config, ConfigError, from_dict, nearest
from recray.schema import Schema


@dataclass(frozen=True)
class ModelEntry:
    module: str
    config: str
    model: str


MODELS: Mapping[str, ModelEntry] = {
    "popularity": ModelEntry("recray.models.popularity", "PopularityConfig", "Popularity"),
    "item_knn": ModelEntry("recray.models.item_knn", "ItemKNNConfig", "ItemKNN"),
    "two_tower": ModelEntry("recray.models.two_tower", "TwoTowerConfig", "TwoTower"),
    "ncf": ModelEntry("recray.models.ncf", "NCFConfig", "NCF"),
    "gat": ModelEntry("recray.models.gat", "GATConfig", "GAT"),
    "sasrec": ModelEntry("recray.models.sasrec", "SASRecConfig", "SASRec"),
    "ss4rec": ModelEntry("recray.models.ss4rec", "SS4RecConfig", "SS4Rec"),
    "decoder": ModelEntry("recray.models.decoder", "DecoderConfig", "Decoder"),
    "rqvae": ModelEntry("recray.models.rqvae", "RQVAEConfig", "RQVAE"),
    "dlrm": ModelEntry("recray.models.dlrm", "DLRMConfig", "DLRM"),
}
"""Networks that a bundle's config, schema and weights rebuild; ``recipes`` says what can be trained."""


def _load(name: str, attribute: str) -> type[Any]:
    if name not in MODELS:
        raise ConfigError(f"no model {name!r}{nearest(name, MODELS)}")
    entry = MODELS[name]
    found: type[Any] = getattr(importlib.import_module(entry.module), getattr(entry, attribute))
    return found


def config_of(name: str) -> type[Any]:
    """The config class of a registered model.

    Raises:
        ConfigError: no model has this name.
    """
    return _load(name, "config")


def build(name: str, config: Mapping[str, object] | Config, schema: Schema) -> nn.Module:
    """An untrained model from its config (an instance, or what ``to_dict`` made of one) and schema."""
    if isinstance(config, Mapping):
        config = from_dict(config_of(name), config)
    model: nn.Module = _load(name, "model")(config, schema)
    return model
