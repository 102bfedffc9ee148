"""Any model of RecBole 1.2.1, trained by RecBole and measured like every model here.

RecBole needs older numpy, pandas and SciPy than recray, so it runs as a Ray task in a runtime
environment of its own: a folder of packages that stand before recray's, built once under the home
folder. PyTorch and Ray are recray's. What RecBole does there is in ``recbole_worker``.

Shapes: B users that are asked for, I catalogue.
"""

import ast
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import ray
import torch
import tyro
from torch import Tensor

from recray import paths
from recray.batch import QueryBatch
from recray.config import ConfigError
from recray.data.events.atomic_files import side_fields, write_atomic_files
from recray.data.events.examples import Target, eval_examples, item_counts
from recray.data.events.split_data import DataConfig, SplitData, open_split
from recray.data.events.splits import split_by_name
from recray.eval.compare import Row, to_json
from recray.eval.evaluate import Evaluation, evaluate
from recray.eval.protocol import require_same_card
from recray.folders import build_once
from recray.peers import recbole_worker
from recray.peers.recbole_worker import FIXED, OPTIONS, Epoch, Scores
from recray.schema import ProtocolCard

log = logging.getLogger(__name__)

# RecBole and what its training imports; without dependencies, or pip would bring its old Ray and a PyTorch.
PACKAGES = (
    "recbole==1.2.1",
    "setuptools<81",
    "numpy<2",
    "pandas<2.3",
    "scipy<1.13",
    "scikit-learn<1.6",
    "pyarrow<22",  # Ray imports it, and later ones need numpy 2
    "pytz",
    "tensorboard",
    "absl-py",
    "Markdown",
    "Werkzeug",
    "colorlog==4.7.2",
    "colorama==0.4.4",
    "texttable",
)


@dataclass(frozen=True, kw_only=True)
class RecBoleRun:
    """Train a model of RecBole on a prepared data set."""

    dataset: Annotated[str, tyro.conf.arg(name="data.dataset")] = "synthetic"
    """A registered data set (`recray datasets`), or the path of a CSV, Parquet, .inter or sequence file."""
    split: Annotated[str, tyro.conf.arg(name="data.split")] = "leave-one-out"
    """Only leave-one-out: RecBole cuts its data itself, and this cut is the same on both sides."""
    model: str = "BPR"
    """A model of RecBole by its own name, e.g. SASRec, NeuMF, BPR, ItemKNN, Pop."""
    epochs: int = 300
    """Epochs at most; RecBole stops on its validation NDCG@10."""
    settings: tuple[str, ...] = ()
    """Parameters of RecBole that differ from its defaults, each as name=value."""
    side_features: bool = False
    """Also give RecBole the columns of users and items; for models that read them."""
    seed: int = 0
    """RecBole's seed."""
    threads: int = 1
    """CPU threads of RecBole."""
    gpu: bool = False
    """Train on a GPU."""

    def __post_init__(self) -> None:
        if self.split != "leave-one-out":
            raise ConfigError(f"RecBole is measured on leave-one-out only, got split {self.split!r}")
        if self.threads < 1:
            raise ConfigError(f"threads must be at least 1, got {self.threads}")
        parse_settings(self.settings)


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch as it went; ``elapsed_s`` is the time of training and validation up to its end."""

    epoch: int  # from 1
    train_loss: float
    train_s: float
    validation_s: float
    elapsed_s: float
    validation: float  # NDCG@10 by recray: seen items filtered
    recbole_validation: dict[str, float]  # RecBole's own, by which it stops


@dataclass(frozen=True, kw_only=True)
class RecBoleResult:
    """The best epoch by RecBole's validation, measured by recray, and how it came about."""

    run: RecBoleRun
    evaluation: Evaluation
    history: list[EpochRecord]
    best_epoch: int
    recbole_test: dict[str, float]  # RecBole's own metrics of the best epoch
    finished: bool  # False where it was stopped before RecBole would have

    def row(self) -> Row:
        return Row(f"recbole:{self.run.model}", self.run.seed, self.evaluation)

    def to_json(self) -> dict[str, Any]:
        """What ``eval.compare.to_json`` says of the row, how it came about, and the metrics of each user."""
        measured = self.evaluation
        return to_json([self.row()]) | {
            "run": asdict(self.run),
            "best_epoch": self.best_epoch,
            "finished": self.finished,
            "recbole_test": self.recbole_test,
            "history": [asdict(record) for record in self.history],
            "scalars": measured.scalars,
            "per_query": {name: values_U.tolist() for name, values_U in measured.per_query.items()},
            "user_ids": measured.user_ids_U.tolist(),
        }


def read_row(path: Path) -> Row:
    """The row of a run from the JSON of its result, for a table with others.

    Raises:
        ConfigError: the file is not there, or is not the JSON of a RecBole run.
    """
    try:
        found = json.loads(path.read_text())
        evaluation = Evaluation(
            card=ProtocolCard.from_json(found["card"]),
            per_query={name: np.array(values_U) for name, values_U in found["per_query"].items()},
            scalars=found["scalars"],
            user_ids_U=np.array(found["user_ids"], dtype=np.int64),
        )
        return Row(found["rows"][0]["model"], found["rows"][0]["seed"], evaluation)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is not what `recray recbole --json` writes: {error!r}") from error


def read_rows(paths: Sequence[Path], dataset: str, split: str, k: int) -> list[Row]:
    """The rows of finished runs, for a table at ``k`` of models that are measured on this data set.

    Raises:
        ConfigError: a file is not of a RecBole run, or was measured on other data, under another protocol
            or not at ``k``; names the file.
        DataError: the data set is not at hand.
    """
    rows = [read_row(path) for path in paths]
    if rows:
        data = open_split(DataConfig(dataset=dataset)).dataset
        _, card = eval_examples(data, split_by_name(data, split), "test")
    for path, (_, _, evaluation) in zip(paths, rows, strict=True):
        if f"ndcg@{k}" not in evaluation.per_query:
            raise ConfigError(f"{path} holds no metrics at {k}, the first of ks; RecBole is measured at 10")
        try:
            require_same_card(evaluation.card, card)
        except ConfigError as error:
            raise ConfigError(f"{path} does not belong into this table: {error}") from error
    return rows


def environment(threads: int = 1) -> dict[str, Any]:
    """RecBole's Ray runtime environment; its packages are installed at the first call.

    Raises:
        ConfigError: pip could not install them; says what it said.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(" ".join((version, *PACKAGES)).encode()).hexdigest()[:8]
    folder = paths.home() / "environments" / f"recbole-{digest}"
    if not folder.is_dir():
        log.info("installing RecBole's environment into %s, once; about a minute", folder)
        build_once(folder, lambda _: True, _install)
    before = os.environ.get("PYTHONPATH")
    return {
        "env_vars": {
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), before))),
            "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",  # RecBole's checkpoints hold more than weights
            "PYTHONWARNINGS": "ignore::FutureWarning",  # of what pandas and PyTorch will drop some day
        }
    }


def _install(target: Path, scratch: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    done = subprocess.run([*pip, *PACKAGES], capture_output=True, text=True, cwd=scratch)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["nothing"]
        raise ConfigError(
            f"pip could not install RecBole's environment, it said: {said[-1]}; "
            "it needs a package index that pip can reach, once"
        )


def train_recbole(run: RecBoleRun, save: Callable[[RecBoleResult], None] = lambda _: None) -> RecBoleResult:
    """Trains with RecBole's own trainer and measures its best epoch; SIGTERM or Ctrl-C ends it early.

    Args:
        save: hears of the state after each epoch that is the best so far, and at the end.

    Raises:
        ConfigError: RecBole has no such model or setting, cannot train it on this data, or was stopped
            before its first epoch had ended.
        DataError: the data set is not at hand.
    """
    data = open_split(DataConfig(dataset=run.dataset))
    history: list[EpochRecord] = []
    result: RecBoleResult | None = None
    finished = False
    with closing(_epochs(run, data)) as epochs:
        try:
            for epoch in epochs:
                history.append(_record(epoch, data, history))
                log.info("%s", _line(run, history[-1], best=epoch.test is not None))
                if epoch.test is not None:
                    result = _measured(run, data, epoch, history)
                    save(result)
            finished = True
        except KeyboardInterrupt:
            log.warning("stopped after %d epochs; the best of them is measured", len(history))
    if result is None:
        raise ConfigError(f"RecBole's {run.model} validated no epoch, so there is nothing to measure")
    result = replace(result, history=history, finished=finished)
    save(result)
    return result


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """``("hidden_size=64", "loss_type=CE")`` as a dict; values are Python literals, anything else is text.

    Raises:
        ConfigError: a text without "=", or a setting that is not RecBole's to choose.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ConfigError(f"setting {text!r} is not name=value")
        if name in OPTIONS:
            raise ConfigError(f"setting {name!r} is an option of the run: use {OPTIONS[name]}")
        if name in FIXED:
            raise ConfigError(
                f"setting {name!r} is the same for all models: it belongs to the data or to the protocol; "
                "leave it out"
            )
        try:
            settings[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[name] = value
    return settings


def _epochs(run: RecBoleRun, data: SplitData) -> Generator[Epoch]:
    """The epochs of a Ray task in RecBole's environment, as they end; closing it ends the task."""
    runtime_env = environment(run.threads)
    if not ray.is_initialized():
        ray.init(logging_level=logging.WARNING)
    _require_room(run)
    task = ray.remote(recbole_worker.train).options(
        runtime_env=runtime_env,
        num_cpus=run.threads,
        num_gpus=int(run.gpu),
        num_returns="streaming",
        max_retries=0,
    )
    log.info("RecBole's %s on %s, seed %d", run.model, data.dataset.name, run.seed)
    with _stoppable():  # after Ray's start, which sets a handler of its own
        references = task.remote(_order(run, data))
        try:
            for reference in references:
                yield ray.get(reference)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            said = str(cause) if isinstance(cause, ConfigError) else f"{type(cause).__name__}: {cause}"
            raise ConfigError(f"RecBole's {run.model} could not be trained: {said}") from error
        finally:
            ray.cancel(references, force=True)


def _order(run: RecBoleRun, data: SplitData) -> recbole_worker.Order:
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    if run.side_features:
        columns["user"] = ["user_id", *side_fields(data.dataset.users)]
        columns["item"] = ["item_id", *side_fields(data.dataset.items)]
    with tempfile.TemporaryDirectory() as name:
        write_atomic_files(data.dataset, Path(name), recbole_worker.DATA)
        files = {path.name: path.read_bytes() for path in Path(name).iterdir()}
    return recbole_worker.Order(
        model=run.model,
        settings={"epochs": run.epochs, **parse_settings(run.settings)},
        seed=run.seed,
        threads=run.threads,
        gpu=run.gpu,
        num_items=data.dataset.num_items,
        files=files,
        load_columns=columns,
    )


def _require_room(run: RecBoleRun) -> None:
    """A task that can never be placed would wait for ever: say so at once."""
    have = ray.cluster_resources()
    for kind, needed in (("CPU", run.threads), ("GPU", int(run.gpu))):
        if needed > have.get(kind, 0):
            raise ConfigError(f"{needed} {kind} are asked for, the Ray cluster has {have.get(kind, 0):g}")


def _measured(run: RecBoleRun, data: SplitData, epoch: Epoch, history: list[EpochRecord]) -> RecBoleResult:
    assert epoch.test is not None
    return RecBoleResult(
        run=run,
        evaluation=_evaluate(epoch.test, data, "test"),
        history=list(history),
        best_epoch=len(history),
        recbole_test=epoch.test_metrics,
        finished=False,
    )


def _evaluate(scores: Scores, data: SplitData, target: Target) -> Evaluation:
    """recray's measure of RecBole's scores, for the users and under the card of every other model."""
    examples, card = eval_examples(data.dataset, data.split, target)
    row_U = np.full(data.dataset.num_users, -1)
    row_U[scores.user_ids_B] = np.arange(len(scores.user_ids_B))

    def score_items(queries: QueryBatch) -> Tensor:
        rows_B = row_U[queries.user_ids_B.numpy()]
        if (missing := queries.user_ids_B[rows_B < 0]).numel():
            raise ConfigError(
                f"RecBole's {target} part is another one: it lacks {len(missing)} of the users that recray "
                f"measures, the first is user {missing[0]}; a model that drops rows cannot be compared"
            )
        return torch.from_numpy(scores.scores_BI[rows_B])

    return evaluate(score_items, examples, card, item_counts(data.dataset, data.split.train_N), ks=(10,))


def _record(epoch: Epoch, data: SplitData, history: list[EpochRecord]) -> EpochRecord:
    before_s = history[-1].elapsed_s if history else 0.0
    return EpochRecord(
        epoch=len(history) + 1,
        train_loss=epoch.train_loss,
        train_s=epoch.train_s,
        validation_s=epoch.validation_s,
        elapsed_s=before_s + epoch.train_s + epoch.validation_s,
        validation=_evaluate(epoch.validation, data, "validation").means()["ndcg@10"],
        recbole_validation=epoch.validation_metrics,
    )


def _line(run: RecBoleRun, record: EpochRecord, *, best: bool) -> str:
    return (
        f"{run.model} epoch {record.epoch}: loss {record.train_loss:.4f}, validation ndcg@10 "
        f"{record.validation:.4f} (RecBole's own {record.recbole_validation['ndcg@10']:.4f})"
        f"{', the best so far' if best else ''}; "
        f"training {record.train_s:.1f} s, validation {record.validation_s:.1f} s"
    )


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM is raised as KeyboardInterrupt, as Ctrl-C is, also where a shell has turned Ctrl-C off."""

    def stop(_signal: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
