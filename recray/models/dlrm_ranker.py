"""DLRM as a ranking stage: the explicit features are its dense columns, the item's id its sparse one.

Takes the place of the trees of ``models.gbdt``: the same examples in, the same ``contract.Scorer`` out.
One safetensors file holds the weights and, as text in its header, all that rebuilds the model.

Shapes: K candidates, F features, N training rows.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from recray.arrays import Float32s, Int64s
from recray.batch import KeyedJagged, RankingBatch
from recray.config import from_dict, to_dict
from recray.models.dlrm import DLRM, DLRMConfig
from recray.schema import DataError, RowSchema, SparseFeature

ITEM = "item_id"


def ranker_schema(feature_names: Sequence[str], num_items: int) -> RowSchema:
    """Columns of ranking examples; item i has id i + 1, because 0 is an item without an id."""
    return RowSchema(
        dense=tuple(feature_names), sparse=(SparseFeature(name=ITEM, size=num_items + 1),), sessions=True
    )


class DLRMRanker:
    """A ``contract.Scorer`` around a trained DLRM of ``ranker_schema``."""

    def __init__(self, model: DLRM, config: DLRMConfig, schema: RowSchema) -> None:
        self._model, self.config, self.schema = model.eval(), config, schema

    @property
    def feature_names(self) -> tuple[str, ...]:
        return self.schema.dense

    def score(self, features_KF: Float32s, item_ids_K: Int64s) -> Float32s:
        """scores_K, float32: logits, comparable within one call.

        Raises:
            DataError: not as many columns as the model has features.
        """
        if features_KF.ndim != 2 or features_KF.shape[1] != len(self.feature_names):
            raise DataError(
                f"features of shape {features_KF.shape} for a ranker of {len(self.feature_names)} features: "
                "compute those that its feature_names say"
            )
        known_K = (item_ids_K >= 0) & (item_ids_K < self.schema.sparse[0].size - 1)
        ids_K = torch.from_numpy(np.where(known_K, item_ids_K + 1, 0))
        sparse = KeyedJagged((ITEM,), ids_K, torch.ones(1, len(ids_K), dtype=torch.int64))
        with torch.inference_mode():
            batch = RankingBatch(torch.from_numpy(features_KF), sparse, torch.zeros(len(ids_K)))
            scores_K: Float32s = self._model.score(batch).numpy()
        return scores_K

    def explain(self, features_KF: Float32s, item_ids_K: Int64s) -> Float32s:
        """contributions_KF, float32: how much each score would lose with the feature at its training mean.

        One feature at a time, so that what features do together is not shared out among them.
        """
        count, width = features_KF.shape
        changed_FKF = np.repeat(features_KF[None], width, axis=0)
        columns = np.arange(width)
        changed_FKF[columns, :, columns] = self._model.scaler.mean_F.numpy()[:, None]
        without = self.score(changed_FKF.reshape(-1, width), np.tile(item_ids_K, width))
        contributions_KF: Float32s = (
            self.score(features_KF, item_ids_K)[:, None] - without.reshape(width, count).T
        )
        return np.ascontiguousarray(contributions_KF)

    def save(self, path: Path) -> None:
        """Writes model, config and schema as one safetensors file."""
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in self._model.state_dict().items()}
        header = {"config": json.dumps(to_dict(self.config)), "schema": json.dumps(self.schema.to_json())}
        safetensors.torch.save_file(tensors, path, metadata=header)

    @staticmethod
    def load(path: Path) -> "DLRMRanker":
        """The ranker that ``save`` wrote.

        Raises:
            DataError: the file is missing or no ranker.
        """
        header, tensors = _read(path)
        config = from_dict(DLRMConfig, json.loads(header["config"]))
        schema = RowSchema.from_json(json.loads(header["schema"]))
        model = DLRM(config, schema)
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise DataError(f"{path}: its weights do not fit its config: {error}") from error
        return DLRMRanker(model, config, schema)


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; a ranker bundle holds one, see DLRMRanker.save")
    try:
        with safetensors.safe_open(path, "pt") as file:
            header: dict[str, str] = file.metadata() or {}
            if not {"config", "schema"} <= header.keys():
                raise DataError(f"{path}: no ranker: its header has neither config nor schema")
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except safetensors.SafetensorError as error:
        raise DataError(f"{path}: not a readable safetensors file: {error}") from error
