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
    "popularity": ModelEntry("popularity", "PopularityConfig", "Popularity"),
    "item_knn": ModelEntry("item_knn", "ItemKNNConfig", "ItemKNN"),
    "two_tower": ModelEntry("two_tower", "TwoTowerConfig", "TwoTower"),
    "ncf": ModelEntry("ncf", "NCFConfig", "NCF"),
    "gat": ModelEntry("gat", "GATConfig", "GAT"),
    "sasrec": ModelEntry("sasrec", "SASRecConfig", "SASRec"),
    "ss4rec": ModelEntry("ss4rec", "SS4RecConfig", "SS4Rec"),
    "decoder": ModelEntry("decoder", "DecoderConfig", "Decoder"),
    "rqvae": ModelEntry("rqvae", "RQVAEConfig", "RQVAE"),
    "dlrm": ModelEntry("dlrm", "DLRMConfig", "DLRM"),
}
"""Networks that a bundle's config, schema and weights rebuild; ``recipes`` says what can be trained."""


def _load(name: str, attribute: str) -> type[Any]:
    if name not in MODELS:
        raise ConfigError(f"no model {name!r}{nearest(name, MODELS)}")
    entry = MODELS[name]
    module = importlib.import_module(f"recray.models.{entry.module}")
    found: type[Any] = getattr(module, getattr(entry, attribute))
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
