"""Small searches of any model that has a space, and what must hold of each."""

from pathlib import Path
from typing import Any, Literal

from recray.config import override
from recray.pipelines.semantic_ids import publish_semantic_ids
from recray.pipelines.train import train
from recray.pipelines.tune.application import ApplicationSubject
from recray.pipelines.tune.search import Found, SearchConfig, search
from recray.pipelines.tune.spaces import Space, open_space
from recray.pipelines.tune.subject import RecipeSubject, Subject
from recray.recipes import RECIPES, run_for
from recray.store import Store
from recray.train.context import LaunchConfig

LOCAL = LaunchConfig(where="local")


def publish_foundations(events: Path) -> None:
    """A retriever and semantic ids, which a ranker and a decoder stand on."""
    for name in ("two_tower", "rqvae"):
        run = override(run_for(RECIPES[name], str(events)), {"loop.epochs": 1})
        bundle = train(RECIPES[name], run, LOCAL, Store()).bundle
    publish_semantic_ids(bundle, Store())


def subject_of(model: str) -> Subject[Any]:
    return ApplicationSubject() if model == "two_stage" else RecipeSubject(RECIPES[model])


def searched(
    model: str,
    events: Path,
    name: str,
    space: Space | None = None,
    where: Literal["ray", "local"] = "ray",
    **config: Any,
) -> Found:
    """Two epochs a trial, where there are any."""
    subject = subject_of(model)
    run = subject.run(str(events))
    path = "retriever.loop.epochs" if model == "two_stage" else "loop.epochs"
    changes = {} if model in ("gbdt_ranker", "item_knn", "ease", "slim", "ials") else {path: 2}
    launch = LaunchConfig(where=where, workers=1, run=name)
    settings = SearchConfig(**{"trials": 2, "concurrent": 1, **config})
    return search(subject, override(run, changes), space or open_space(model), settings, launch)


def require_whole(model: str, found: Found) -> None:
    """Both trials ended, the best is no worse than the preset, and its run file is its run."""
    assert [(record.status, record.reason) for record in found.records] == [("finished", "")] * 2
    assert found.best.score is not None
    baseline = next(record for record in found.records if record.number == 0)
    assert found.space.goal.sign() * (found.best.score - (baseline.score or 0.0)) >= 0
    again = subject_of(model).run(str(found.best_file))
    assert again == found.best_run
    assert again == override(found.run, found.best.changes)
