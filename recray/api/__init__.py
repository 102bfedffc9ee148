"""A notebook's door: load, fit, recommend, compare, by the same recipes and stages as commands and servers.

    data = recray.load("events.csv", items="products.csv")
    model = recray.fit("sasrec", data)
    model.recommend(["anna", "ben"], k=5)
    recray.compare(["popularity", model], data)

All names are found in ``recray`` itself, which imports this room when one of them is first used.
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TypeAlias

from recray.api.comparison import Comparison
from recray.api.dataset import Dataset, load
from recray.api.model import Model, open
from recray.config import ConfigError, override
from recray.data.events.split_data import DataConfig, SplitData, open_split
from recray.eval.compare import Row
from recray.eval.evaluate import Evaluation
from recray.eval.metrics import require_metric
from recray.eval.two_stage import MeasuredStages
from recray.pipelines.compare import called, entries_of, measured_once
from recray.pipelines.same_queries import Contender, ask_the_same
from recray.pipelines.train import train
from recray.recipes import RECIPES, run_for
from recray.store.drafts import Drafts
from recray.track.console import setup_logging
from recray.train.context import LaunchConfig

__all__ = ["Comparison", "Dataset", "LaunchConfig", "Model", "compare", "fit", "load", "open"]

HERE = LaunchConfig(where="local")
Compared: TypeAlias = str | Model | tuple[str, Mapping[str, object]]


def fit(
    name: str, data: object, *, launch: LaunchConfig = HERE, strict: bool = False, **changes: object
) -> Model:
    """Trains a model, measures it on the test part of its split, and fits it again on everything.

    Its preset for the data or, where there is none, its defaults at the size of the data are what ``changes``
    differ from. Nothing is published; the run's curves are among `recray runs`.

    Args:
        name: one of `recray models`. A ranker orders what a published retriever finds.
        data: of ``load``, or what it takes.
        launch: where; ``LaunchConfig(workers=4)`` trains on Ray.
        strict: data with a leak is refused.
        changes: dotted settings, as on the command line; a dot may be written as two underscores:
            ``optim__lr=1e-3``, ``data__split="global-time"``, or ``**{"optim.lr": 1e-3}``.

    Raises:
        ConfigError, DataError: no such model or setting, or it cannot be trained on this data.
    """
    log_lines()
    recipe = RECIPES[name]
    run = override(run_for(recipe, _reference(data)), _dotted(changes))
    drafts = Drafts()
    trained = train(recipe, run, launch, drafts, strict=strict)
    return Model(trained.bundle, trained.measured, drafts)


def compare(
    these: Sequence[Compared],
    data: object,
    *,
    metric: str = "ndcg@10",
    seeds: int = 1,
    **choices: object,
) -> Comparison:
    """Models side by side on the test part of one split, with intervals over users and paired tests.

    Args:
        these: names of `recray models`, which are trained here; names with settings, such as
            ``("sasrec", {"model.dim": 128})``; models of ``fit`` or ``open``; versions: ``"shop-sasrec:3"``.
        data: of ``load``, or what it takes.
        metric: that differences are told of.
        seeds: of what is trained here.
        choices: how the data is split and understood (``DataConfig``): ``split="global-time"``.

    Raises:
        ConfigError: nothing to compare, no such metric or setting; or one of them was measured otherwise, or
            on other data, and what differs is named.
    """
    log_lines()
    if isinstance(these, str) or not these:
        raise ConfigError(f"these is a list of models, such as ['popularity', model], got {these!r}")
    if seeds < 1:
        raise ConfigError(f"seeds must be at least 1, got {seeds}")
    ks = tuple({10, require_metric(metric, ()) or 10})
    config = override(DataConfig(dataset=_reference(data)), _dotted(choices))
    split = open_split(config)
    rows: list[Row] = []
    for one in these:
        if isinstance(one, str) and ":" in one:
            one = open(one)
        if isinstance(one, Model):
            rows.append(Row(_free(one.title, rows), 0, _measured(one, split)))
            continue
        model, settings = (one, {}) if isinstance(one, str) else one
        title = _free(called(model, settings.items()), rows)
        for entry in entries_of(model, config, seeds, _dotted(settings), title):
            opened = entry.recipe.open(entry.run)
            rows.append(Row(title, entry.run.seed, measured_once(entry, opened, ks, [])))
    return Comparison(tuple(rows), metric)


def log_lines() -> None:
    """Says what happens, as commands do, unless the program has a log of its own."""
    if not logging.getLogger().handlers:
        setup_logging()


def _measured(model: Model, split: SplitData) -> Evaluation:
    """As ``fit`` measured it; a version that was opened is asked now, the model that learnt no test part."""
    if isinstance(model.measured, MeasuredStages):
        return model.measured.ranker
    if isinstance(model.measured, Evaluation):
        return model.measured
    return ask_the_same([Contender.of(model.store, model.bundle)], split)[0]


def _free(title: str, rows: Sequence[Row]) -> str:
    """The title, or with a number where another model has it."""
    taken = {row.model for row in rows}
    return next(name for n in count(1) if (name := title if n == 1 else f"{title} #{n}") not in taken)


def _reference(data: object) -> str:
    if isinstance(data, str):
        return data
    return (data if isinstance(data, Dataset) else load(data)).reference


def _dotted(changes: Mapping[str, object]) -> dict[str, object]:
    return {name.replace("__", "."): value for name, value in changes.items()}
