"""An evaluation as files of a folder: its card and what is a number, and what has a value for each query."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from recray.config import from_dict, to_dict
from recray.eval.evaluate import Evaluation
from recray.schema import ProtocolCard

SAID, PER_QUERY = "evaluation.json", "per_query.npz"


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Into a folder that is there."""
    said = {"card": to_dict(evaluation.card), "means": evaluation.means(), "scalars": evaluation.scalars}
    columns: dict[str, Any] = {"user_ids_U": evaluation.user_ids_U, **evaluation.per_query}
    np.savez_compressed(folder / PER_QUERY, **columns)
    (folder / SAID).write_text(json.dumps(said, indent=1))


def read_evaluation(folder: Path) -> Evaluation:
    """Equal to what was written, to the bit."""
    said = json.loads((folder / SAID).read_text())
    with np.load(folder / PER_QUERY) as kept:
        per_query = {name: kept[name] for name in kept.files}
    users = per_query.pop("user_ids_U")
    card = from_dict(ProtocolCard, said["card"])
    return Evaluation(card=card, per_query=per_query, scalars=said["scalars"], user_ids_U=users)
