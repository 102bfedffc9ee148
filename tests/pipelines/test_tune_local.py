"""Searches in this process: every space, what fails, what is gone on with, and how the winner is judged."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from recray.config import ConfigError, override
from recray.pipelines.tune.judged import judge
from recray.pipelines.tune.search import SearchConfig, search
from recray.pipelines.tune.spaces import Budget, Goal, Space, open_space, spaces
from recray.pipelines.tune.subject import RecipeSubject
from recray.recipes import RECIPES
from recray.store import Store
from recray.train.context import LaunchConfig
from recray.train.run import Measured, Run
from tests.pipelines.searches import LOCAL, publish_foundations, require_whole, searched, subject_of
from tests.pipelines.tiny import tiny_events

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_events(tmp_path_factory.mktemp("raw"), "searched-here")


@pytest.fixture(scope="module")
def _foundations(events: Path) -> None:
    publish_foundations(events)


@pytest.mark.usefixtures("_foundations")
@pytest.mark.parametrize("model", spaces())
def test_every_space_can_be_searched(model: str, events: Path) -> None:
    require_whole(model, searched(model, events, f"here-{model}", where="local"))


def test_a_trial_that_fails_ends_itself_alone_and_nothing_is_done_again(events: Path) -> None:
    settings = {"model.dim": tune.choice([12, 64]), "model.num_heads": tune.choice([2, 4])}
    space = Space(settings=settings, goal=Goal("ndcg@10"), budget=Budget(trials=6, method="random"))
    first = searched("sasrec", events, "here-gone-on-with", space, where="local")
    ended = {path: path.read_bytes() for path in (first.folder / "trials").glob("*.json")}
    found = searched("sasrec", events, "here-gone-on-with", space, where="local", trials=8)
    assert {path: path.read_bytes() for path in ended} == ended
    assert sorted(record.number for record in found.records) == list(range(8))
    failed = [record for record in found.records if record.status == "failed"]
    assert {tuple(record.changes.values()) for record in failed} == {(12, 4)}
    assert {record.reason for record in failed} == {"dim must be a multiple of 2 x 4 heads, got 12"}


def test_a_population_is_refused_here(events: Path) -> None:
    subject, space = subject_of("two_tower"), open_space("two_tower")
    launch = LaunchConfig(where="local", workers=1, run="here-population")
    with pytest.raises(ConfigError, match="needs trials side by side: search on Ray"):
        search(subject, subject.run(str(events)), space, SearchConfig(trials=2, method="pbt"), launch)
    few = SearchConfig(trials=2, method="pbt", concurrent=1)
    with pytest.raises(ConfigError, match="needs its whole population under way.*leave concurrent out"):
        search(subject, subject.run(str(events)), space, few, launch)


@dataclass(frozen=True)
class Watched(RecipeSubject):
    """A real subject that notes which runs were measured."""

    measured: list[Any] = field(default_factory=list)

    def measure(self, run: Run, where: LaunchConfig) -> Measured:
        self.measured.append(run)
        return super().measure(run, where)


def test_the_winner_is_judged_by_seeds_that_did_not_choose_it_and_once(events: Path) -> None:
    found = searched("two_tower", events, "here-judged", where="local", trials=3)
    other = next(record for record in found.records if record.number)
    found, subject = found._replace(best=other), Watched(RECIPES["two_tower"])
    outcome = judge(subject, found, LOCAL, 2, Store())
    assert outcome.judged
    assert outcome.judged.seeds == 2
    assert [run.seed for run in subject.measured] == [found.run.seed + 1, found.run.seed + 2] * 2
    assert [override(run, {"seed": 0}) for run in subject.measured] == [
        override(run, {"seed": 0}) for run in [found.best_run] * 2 + [found.run] * 2
    ]
    [reference] = outcome.published
    name, _, version, *_ = reference.split()
    assert str(Store().open(name, int(version)).reference) == reference
    again = judge(subject, found, LOCAL, 2, Store())
    assert len(subject.measured) == 4
    assert again == outcome
