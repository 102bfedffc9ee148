"""RecBole's own training, as a Ray task in RecBole's environment; the only file that imports RecBole.

What leaves this file are plain numbers per epoch and scores in the data set's own numbering.
Measuring them is left to ``launch/recbole.py``.

Shapes: B users that are asked for, I catalogue.
"""

import contextlib
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recray.arrays import Float32s, Int64s
from recray.config import ConfigError, nearest

DATA = "data"  # what RecBole calls the data set: not a name that it has settings for
METRIC = "NDCG@10"

# Settings of RecBole (its utils/argument_list.py) that say what the data are, how they are cut, when and by
# what a model is measured, and where files lie: recray says all that, and alike for every model.
FIXED = frozenset(
    {
        "field_separator",
        "seq_separator",
        "encoding",
        "USER_ID_FIELD",
        "ITEM_ID_FIELD",
        "RATING_FIELD",
        "TIME_FIELD",
        "LABEL_FIELD",
        "threshold",
        "NEG_PREFIX",
        "ITEM_LIST_LENGTH_FIELD",
        "LIST_SUFFIX",
        "POSITION_FIELD",
        "HEAD_ENTITY_ID_FIELD",
        "TAIL_ENTITY_ID_FIELD",
        "RELATION_ID_FIELD",
        "ENTITY_ID_FIELD",
        "unload_col",
        "unused_col",
        "additional_feat_suffix",
        "preload_weight",
        "rm_dup_inter",
        "val_interval",
        "filter_inter_by_user_or_item",
        "user_inter_num_interval",
        "item_inter_num_interval",
        "alias_of_user_id",
        "alias_of_item_id",
        "alias_of_entity_id",
        "alias_of_relation_id",
        "benchmark_filename",
        "data_path",
        "save_dataset",
        "dataset_save_path",
        "save_dataloaders",
        "dataloaders_save_path",
        "eval_args",
        "eval_step",
        "repeatable",
        "metrics",
        "topk",
        "valid_metric",
        "valid_metric_bigger",
        "valid_neg_sample_args",
        "test_neg_sample_args",
        "checkpoint_dir",
        "show_progress",
    }
)
OPTIONS = {  # settings of RecBole that are options of a run
    "model": "--model",
    "dataset": "--dataset",
    "load_col": "--side-features",
    "epochs": "--epochs",
    "seed": "--seed",
    "use_gpu": "--gpu",
    "gpu_id": "--gpu",
}


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be trained, and on what."""

    model: str
    settings: Mapping[str, Any]  # RecBole's own parameters
    seed: int
    threads: int
    gpu: bool
    num_items: int
    files: Mapping[str, bytes]  # atomic files, name -> content
    load_columns: Mapping[str, list[str]]  # of "inter" and, where wanted, "user" and "item"


class Scores(NamedTuple):
    """Scores of users for the whole catalogue; -inf where RecBole itself ranks no item."""

    user_ids_B: Int64s
    scores_BI: Float32s


class Epoch(NamedTuple):
    """What RecBole had after an epoch; ``test`` is None where validation was not the best so far."""

    train_loss: float
    train_s: float
    validation_s: float
    validation: Scores
    validation_metrics: dict[str, float]  # RecBole's own
    test: Scores | None
    test_metrics: dict[str, float]  # RecBole's own


def train(order: Order) -> Iterator[Epoch]:
    """Trains to RecBole's own early stopping; gives each epoch as soon as it is validated.

    Raises:
        ConfigError: RecBole has no such model or setting.
    """
    found: queue.Queue[Epoch | BaseException | None] = queue.Queue()

    def work() -> None:
        try:
            with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
                _fit(order, Path(folder), found.put)
            found.put(None)
        except BaseException as error:  # raised again below, where Ray sees it
            found.put(error)

    threading.Thread(target=work, daemon=True).start()
    while (epoch := found.get()) is not None:
        if isinstance(epoch, BaseException):
            raise epoch
        yield epoch


def _fit(order: Order, folder: Path, give: Callable[[Epoch], None]) -> None:
    import torch
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, init_seed

    torch.set_num_threads(order.threads)
    for name, content in order.files.items():
        (folder / DATA).mkdir(exist_ok=True)
        (folder / DATA / name).write_bytes(content)
    config = _config(order, folder)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    _hold_out_as_recray(dataset, config)
    training, validation, test = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, training._dataset).to(config["device"])
    trainer = _watched(config, model, order.num_items)

    def after_validation(epoch: int, _score: float) -> None:
        seen = trainer.collected()
        best = trainer.cur_step == 0
        test_metrics = trainer.evaluate(test, load_best_model=False) if best else {}
        give(
            Epoch(
                train_loss=float(trainer.train_loss_dict[epoch]),
                train_s=trainer.train_s,
                validation_s=trainer.validation_s,
                validation=seen,
                validation_metrics={name: float(x) for name, x in trainer.validation_metrics.items()},
                test=trainer.collected() if best else None,
                test_metrics={name: float(x) for name, x in test_metrics.items()},
            )
        )

    trainer.fit(training, validation, verbose=False, saved=False, callback_fn=after_validation)


def _config(order: Order, folder: Path) -> Any:
    """RecBole's configuration: its defaults, the protocol, and then the settings of the order."""
    from recbole.config import Config

    sys.argv = sys.argv[:1]  # RecBole would read Ray's own arguments as settings
    protocol = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder),
        "load_col": dict(order.load_columns),
        "eval_args": {
            "split": {"LS": "valid_and_test"},
            "group_by": "user",
            "order": "TO",
            "mode": {"valid": "full", "test": "full"},
        },
        "metrics": ["Hit", "NDCG", "MRR"],
        "topk": [10],
        "valid_metric": METRIC,
        "seed": order.seed,
        "show_progress": False,
        "use_gpu": order.gpu,
        "gpu_id": os.environ.get("CUDA_VISIBLE_DEVICES", "0") if order.gpu else "",  # Ray has chosen it
    }
    try:
        defaults = {**protocol, **_negatives(order.model, {})}
        known = Config(order.model, DATA, config_dict=defaults).final_config_dict
        for name in order.settings:
            if name not in known:
                raise ConfigError(f"it has no setting {name!r}{nearest(name, known)}")
        negatives = _negatives(order.model, order.settings)
        return Config(order.model, DATA, config_dict={**protocol, **negatives, **order.settings})
    except ConfigError:
        raise
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(f"RecBole says: {error}") from error


def _negatives(model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Where RecBole does not find out by itself how many negatives a model needs: none, or one.

    Cross-entropy over all items draws none, and RecBole insists on hearing so. Models of clicks expect
    labels, which interactions alone do not have: a drawn item is what was not clicked.
    """
    import recbole
    import yaml
    from recbole.utils import ModelType, get_model

    defaults_of = {p.stem: p for p in (Path(recbole.__file__).parent / "properties" / "model").glob("*.yaml")}
    if model not in defaults_of:
        raise ConfigError(f"RecBole has no model of that name{nearest(model, defaults_of)}")
    kind = get_model(model).type
    loss = settings.get("loss_type", (yaml.safe_load(defaults_of[model].read_text()) or {}).get("loss_type"))
    if kind == ModelType.SEQUENTIAL and loss == "CE":
        return {"train_neg_sample_args": None}
    if kind == ModelType.CONTEXT:
        drawn = {
            "distribution": "uniform",
            "sample_num": 1,
            "alpha": 1.0,
            "dynamic": False,
            "candidate_num": 0,
        }
        return {"train_neg_sample_args": drawn}
    return {}


def _hold_out_as_recray(dataset: Any, config: Any) -> None:
    """Has users with fewer than three events stay in training whole, as ``data.splits.leave_one_out`` does.

    RecBole's sequential data sets hold a row less per user: the first event is nobody's target.
    """
    from recbole.utils import ModelType

    rows_needed = 2 if config["MODEL_TYPE"] == ModelType.SEQUENTIAL else 3

    def split(grouped_index: Any, leave_one_num: int) -> list[list[int]]:
        parts: list[list[int]] = [[], [], []]
        for index in map(list, grouped_index):
            held_out = 2 if len(index) >= rows_needed else 0
            kept = len(index) - held_out
            parts[0] += index[:kept]
            for part, row in zip(parts[1:], index[kept:], strict=False):
                part.append(row)
        return parts

    dataset._split_index_by_leave_one_out = split


def _watched(config: Any, model: Any, num_items: int) -> Any:
    """RecBole's trainer of the model, which also notes times, metrics and the scores it ranks by."""
    from recbole.utils import get_trainer

    kind: Any = get_trainer(config["MODEL_TYPE"], config["model"])

    class Watched(kind):  # type: ignore[misc]
        train_s = validation_s = 0.0
        validation_metrics: Mapping[str, float] = {}

        def _train_epoch(self, *args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            loss = super()._train_epoch(*args, **options)
            self.train_s = time.perf_counter() - began
            return loss

        def _valid_epoch(self, *args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            score, self.validation_metrics = super()._valid_epoch(*args, **options)
            self.validation_s = time.perf_counter() - began
            return score, self.validation_metrics

        def evaluate(self, eval_data: Any, *args: Any, **options: Any) -> Any:
            self._rows: list[Scores] = []
            self._dataset = eval_data._dataset
            return super().evaluate(eval_data, *args, **options)

        def _full_sort_batch_eval(self, batched_data: Any) -> Any:
            interaction, scores, *rest = super()._full_sort_batch_eval(batched_data)
            users = interaction[self._dataset.uid_field].cpu().numpy()
            self._rows.append(Scores(users, scores.detach().float().cpu().numpy().copy()))
            return interaction, scores, *rest

        def collected(self) -> Scores:
            """The scores of the last evaluation, in the data set's own numbering."""
            uid, iid = self._dataset.uid_field, self._dataset.iid_field
            users = np.concatenate([rows.user_ids_B for rows in self._rows])
            numbers = self._dataset.field2id_token[uid][users].astype(np.int64)
            items = self._dataset.field2id_token[iid][1:].astype(np.int64)  # 0 is the padding
            scores_BI = np.full((len(users), num_items), -np.inf, dtype=np.float32)
            scores_BI[:, items] = np.concatenate([rows.scores_BI for rows in self._rows])[:, 1:]
            return Scores(numbers, scores_BI)

    return Watched(config, model)
