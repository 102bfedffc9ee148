"""What is inside the bundle of a ranker: its one file, the events that features look into, its candidates."""

import json
from pathlib import Path

import polars as pl

from recray.config import from_dict, nearest, to_dict
from recray.contract import Scorer
from recray.features.candidates import CandidateConfig
from recray.features.items import NO_ITEM_FEATURES, Columns, item_features
from recray.features.log import ITEM_FILE, EventLog
from recray.features.ranking import features_of
from recray.models.dlrm_ranker import DLRMRanker
from recray.models.gbdt import GBDTRanker
from recray.schema import DataError
from recray.store.bundle import Bundle
from recray.store.manifest import StoreError

RANKERS = {"gbdt": "ranker.ubj", "dlrm": "ranker.safetensors"}  # model -> its one file
CANDIDATES = "candidates.json"
NO_COLUMNS = NO_ITEM_FEATURES.columns()


def write_ranker(
    folder: Path, model: str, ranker: Scorer, log: EventLog, candidates: CandidateConfig
) -> None:
    """Fills the bundle of a ranker; ``model`` is a name in ``RANKERS``."""
    ranker.save(folder / RANKERS[model])
    log.save(folder)
    (folder / CANDIDATES).write_text(json.dumps(to_dict(candidates)))


def load_ranker(model: str, path: Path, columns: Columns = NO_COLUMNS) -> Scorer:
    """The ranker in a file; ``model`` is a name in ``RANKERS``. It says itself which features it wants.

    Args:
        columns: of the items whose features it is given.
    Raises:
        DataError: the file is damaged, or its ranker wants features that this code does not know.
    """
    ranker = DLRMRanker.load(path) if model == "dlrm" else GBDTRanker.load(path)
    unknown = [name for name in ranker.feature_names if name not in features_of(columns)]
    if unknown:
        raise DataError(
            f"{path}: the ranker wants features that this code does not know ({', '.join(unknown)}): "
            "serve it with the version of recray that it was trained with, or train it again"
        )
    return ranker


def read_ranker(bundle: Bundle) -> Scorer:
    """The ranker of a bundle.

    Raises:
        StoreError: a bundle without one, or of a model that this version does not know.
        DataError: as ``load_ranker``.
    """
    model = bundle.manifest.model
    if model not in RANKERS:
        raise StoreError(f"{bundle.reference} is a {model!r}, no ranker{nearest(model, RANKERS)}")
    items = pl.read_parquet(bundle.path(ITEM_FILE), glob=False)
    return load_ranker(model, bundle.path(RANKERS[model]), item_features(items).columns())


def read_candidate_config(bundle: Bundle) -> CandidateConfig:
    """How many candidates a ranker bundle wants, by source."""
    return from_dict(CandidateConfig, json.loads(bundle.path(CANDIDATES).read_text()))
