"""The whole two-stage application as one thing to search: retriever, candidates, ranker and rules together.

What is searched is judged by the lists that are shown. The retriever learns the training part; a share of the
users lend the ranker their validation queries, and the lists of the others are measured. So no list is judged
by what its retriever or its ranker has seen, and which users judge does not depend on the settings.
"""

import logging
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from recray.batch import EvalExamples
from recray.bundles.ranker import write_ranker
from recray.config import ConfigError, override, to_dict
from recray.contract import Scorer
from recray.data.events.examples import eval_examples, item_counts
from recray.data.events.split_data import DataConfig, SplitData
from recray.eval.evaluate import Evaluation
from recray.eval.lists import evaluate_lists
from recray.features.examples import quantized, ranking_examples
from recray.features.log_until import LogUntil
from recray.features.ranking import chosen
from recray.launch.runs import Task
from recray.launch.tasks import run_each
from recray.pipelines.train import train
from recray.pipelines.tune.run_files import read_run
from recray.pipelines.tune.spaces import Goal
from recray.pipelines.two_stage import lists_of
from recray.recipes import RECIPES, run_for
from recray.recipes.pairs import TwoTowerRun
from recray.recipes.ranker import GBDTRankerRun
from recray.recipes.two_stage import TwoStage
from recray.serve.stages.listed import StagesConfig
from recray.serve.versions import OpenedVersion, open_served
from recray.store import Bundle, Store
from recray.train.boosted import train_boosted
from recray.train.context import Context, LaunchConfig
from recray.train.run import Measured, Part

log = logging.getLogger(__name__)
RETRIEVER, RANKER = "retriever", "ranker"  # in a trial's own store
K = 10


@dataclass(frozen=True, kw_only=True)
class TwoStageRun:
    """Train a retriever and a ranker of its candidates, and show their lists by some rules."""

    data: DataConfig = field(default_factory=DataConfig)
    """Of both stages."""
    retriever: TwoTowerRun = field(default_factory=TwoTowerRun)
    ranker: GBDTRankerRun = field(default_factory=GBDTRankerRun)
    stages: StagesConfig = field(default_factory=StagesConfig)
    judging: float = 0.5
    """Share of the users whose lists are judged; the ranker learns from the others."""
    seed: int = 0
    """Of both stages, and of who judges."""

    def __post_init__(self) -> None:
        if not 0 < self.judging < 1:
            raise ConfigError(f"judging must be above 0 and below 1, got {self.judging}")

    @property
    def first(self) -> TwoTowerRun:
        return override(self.retriever, {"data": self.data, "seed": self.seed})

    @property
    def second(self) -> GBDTRankerRun:
        return override(self.ranker, {"data": self.data, "seed": self.seed})


class _Halves(NamedTuple):
    """The queries of a part, by what they are for."""

    learnt: EvalExamples
    judged: EvalExamples


def measured(run: TwoStageRun, context: Context, part: Part) -> Evaluation:
    """The shown lists of users that the ranker did not learn from, on the validation or the test part.

    For the test part the ranker learns from all users' validation queries. Reports the retriever, once.
    """
    recipe = RECIPES["two_tower"]
    data: SplitData = recipe.open(run.first)
    with tempfile.TemporaryDirectory(prefix="recray-application-") as name:
        store, best = Store(Path(name) / "store"), Path(name) / "best"

        def keep(metrics: dict[str, float], checkpoint: Path | None) -> None:
            if checkpoint is not None and "score" in metrics:
                shutil.rmtree(best, ignore_errors=True)
                shutil.copytree(checkpoint, best)

        recipe.work(run.first, Context(device=context.device, report=keep), data=data)
        context.report({"epoch": 1.0}, best)
        model = recipe.restore(run.first, data, best)
        draft = recipe.draft(run.first, data, model, recipe.measure(run.first, data, model, "validation"))
        bundle = store.publish(**{**vars(draft), "name": RETRIEVER})
        queries, card = eval_examples(data.dataset, data.split, "validation")
        learnt, judged = _halves(queries, run)
        if part == "test":
            learnt, (judged, card) = queries, eval_examples(data.dataset, data.split, "test")
        _publish_ranker(store, run.second, TwoStage(bundle, data, run.second.candidates), learnt)
        opened = OpenedVersion(open_served(store, RANKER, "latest"), LogUntil)
        _, shown = lists_of(run.stages, opened, judged.queries, K)
    told = replace(card, served=f"two stages, {len(judged.queries.user_ids_B)} users")
    return evaluate_lists(shown, judged, told, item_counts(data.dataset, data.split.train_N), ks=(K,))


def _halves(examples: EvalExamples, run: TwoStageRun) -> _Halves:
    """Whole users, drawn by the seed: the same for all settings."""
    users_B = examples.queries.user_ids_B.numpy()
    users = np.unique(users_B)
    count = min(max(1, round(run.judging * len(users))), len(users) - 1)
    judging_B = np.isin(users_B, np.random.default_rng(run.seed).choice(users, count, replace=False))
    return _Halves(*(examples.take(torch.from_numpy(np.flatnonzero(b))) for b in (~judging_B, judging_B)))


def _publish_ranker(store: Store, run: GBDTRankerRun, stages: TwoStage, learnt: EvalExamples) -> Bundle:
    ranker = _grown(run, stages, learnt)
    return store.publish(
        RANKER,
        lambda folder: write_ranker(folder, "gbdt", ranker, stages.log, run.candidates),
        model="gbdt",
        config={"gbdt": to_dict(run.model), "candidates": to_dict(run.candidates)},
        requires={"retriever": stages.bundle.reference},
    )


def _grown(run: GBDTRankerRun, stages: TwoStage, learnt: EvalExamples) -> Scorer:
    rows = ranking_examples(
        stages.log,
        learnt.queries,
        stages.candidates(learnt.queries),
        learnt.targets,
        chosen(run.features, stages.log.columns),
        negatives=run.negatives or None,
        seed=run.seed,
    )
    return train_boosted(quantized(rows), run.model)


@dataclass(frozen=True)
class ApplicationTrial:
    """A trial: it is judged once, at its end; one that was cut off starts again."""

    goal: Goal

    def __call__(self, run: TwoStageRun, context: Context) -> None:
        found = measured(run, context, "validation").means()
        if self.goal.metric not in found:
            raise ConfigError(f"an application has no {self.goal.metric!r}, it has {sorted(found)}")
        context.report({"epoch": 1.0, self.goal.metric: found[self.goal.metric]}, None)


class ApplicationSubject:
    """A ``Subject``: what is published are both stages, the rules are options of whoever serves."""

    name: str = "two_stage"
    communicator: Literal["torch", "xgboost"] = "torch"

    @property
    def presets(self) -> list[str]:
        return list(RECIPES["two_tower"].presets)

    def run(self, first: str) -> TwoStageRun:
        if first.endswith(".json"):
            return read_run(Path(first), self.name, TwoStageRun)
        return TwoStageRun(
            data=DataConfig(dataset=first),
            retriever=run_for(RECIPES["two_tower"], first),
            ranker=run_for(RECIPES["gbdt_ranker"], first),
        )

    def open(self, run: TwoStageRun) -> None:
        data: SplitData = RECIPES["two_tower"].open(run.first)
        log.info("%s: %s", data.dataset.name, data.sizes())
        if run.second.model.early_stopping_rounds:
            raise ConfigError("ranker.model.early_stopping_rounds: the users that it would go by judge here")

    def epochs(self, run: TwoStageRun) -> int:
        return 1

    def task(self, goal: Goal) -> Task[TwoStageRun]:
        return ApplicationTrial(goal)

    def measure(self, run: TwoStageRun, where: LaunchConfig) -> Measured:
        """In a process that has what ``where`` gives a worker."""
        [(_, found)] = run_each(partial(_on_test, gpu=where.gpu), [run], where)
        if isinstance(found, Exception):
            raise found
        return found

    def publish(
        self, run: TwoStageRun, where: LaunchConfig, store: Store, beside: dict[str, bytes]
    ) -> list[str]:
        at = replace(where, run=f"{where.run}-retriever")
        first = train(RECIPES["two_tower"], run.first, at, store, beside=beside).bundle.reference
        named = {"retriever": first.name, "retriever_version": str(first.version)}
        at = replace(where, run=f"{where.run}-ranker")
        second = train(RECIPES["gbdt_ranker"], override(run.second, named), at, store, beside=beside)
        return [str(first), str(second.bundle.reference)]


def _on_test(run: TwoStageRun, gpu: bool) -> Evaluation:
    return measured(run, Context(device=torch.device("cuda" if gpu else "cpu")), "test")
