"""Model name -> (config, model), imported lazily: all that a replica needs to rebuild a bundle."""

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
    summary: str


MODELS = {  # retrievers
    "popularity": ModelEntry(
        "recray.models.popularity", "PopularityConfig", "Popularity", "most interactions first"
    ),
    "item_knn": ModelEntry(
        "recray.models.item_knn", "ItemKNNConfig", "ItemKNN", "cosine item neighbourhoods (Deshpande 2004)"
    ),
    "two_tower": ModelEntry(
        "recray.models.two_tower", "TwoTowerConfig", "TwoTower", "in-batch softmax with logQ (Yi et al. 2019)"
    ),
    "ncf": ModelEntry("recray.models.ncf", "NCFConfig", "NCF", "NeuMF: factors and an MLP (He et al. 2017)"),
    "sasrec": ModelEntry(
        "recray.models.sasrec", "SASRecConfig", "SASRec", "causal transformer (Kang & McAuley 2018)"
    ),
    "ss4rec": ModelEntry(
        "recray.models.ss4rec", "SS4RecConfig", "SS4Rec", "S5 in continuous time, and Mamba (Xiao 2025)"
    ),
    "gat": ModelEntry(
        "recray.models.gat", "GATConfig", "GAT", "graph attention over users and items (Brody et al. 2022)"
    ),
    "decoder": ModelEntry(
        "recray.models.decoder",
        "DecoderConfig",
        "Decoder",
        "generates semantic ids (TIGER, Rajput 2023)",
    ),
}
ROW_MODELS = {
    "dlrm": ModelEntry(
        "recray.models.dlrm", "DLRMConfig", "DLRM", "clicks, or sessions by LambdaRank (Naumov et al. 2019)"
    ),
}
"""Models that score rows, not the catalogue."""
CONTENT_MODELS = {
    "rqvae": ModelEntry(
        "recray.models.rqvae", "RQVAEConfig", "RQVAE", "item content to semantic ids (Rajput et al. 2023)"
    ),
}
"""Models of what items are, not of who likes them."""


def _load(name: str, attribute: str) -> type[Any]:
    known = MODELS | ROW_MODELS | CONTENT_MODELS
    if name not in known:
        raise ConfigError(f"no model {name!r}{nearest(name, known)}")
    entry = known[name]
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
