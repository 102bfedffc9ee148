"""Versions judged by the log: what was served comes out as it went in, and another one is told from it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from benchmarks import loop_world
from benchmarks.loop_world import EXPLORE, LOCAL, Policy, first_version, world_of, write_base
from recray import paths
from recray.cli.logged import EvaluateLogged, evaluate_logged
from recray.config import override
from recray.eval.bootstrap import Interval
from recray.eval.off_policy.estimate import NoSupportError
from recray.event_log.reading import Log, read
from recray.pipelines.examined import examined_ranks
from recray.pipelines.exposed import by_exposure
from recray.pipelines.feedback import FeedbackConfig, joined
from recray.pipelines.gates import GateConfig, exposure_gate, log_gate
from recray.pipelines.off_policy import JudgeConfig, Judged, ask_again, chances_of, judge_by_log
from recray.pipelines.replay import Order
from recray.pipelines.retrain import _compared
from recray.pipelines.same_queries import Contender
from recray.pipelines.train import train
from recray.recipes import run_again
from recray.serve.http.requests import RecommendRequest
from recray.serve.rules.explore import ExploreConfig
from recray.serve.stages.listed import StagesConfig
from recray.store import Store

DRAWS = ExploreConfig(policy="plackett_luce", temperature=2.0, among=4)
CONFIG = JudgeConfig(stages=StagesConfig(rules=EXPLORE), depths=(1, 10))


def test_the_chances_of_a_list() -> None:
    order, weights = Order(list("abcde"), 5), np.exp(-np.arange(4) / 2.0)
    by_hand = [weights[2] / weights.sum(), weights[0] / (weights.sum() - weights[2])]
    assert chances_of(order, ["c", "a"], 2, DRAWS) == pytest.approx(by_hand, rel=1e-12)
    assert chances_of(order, ["c", "e", "a"], 3, DRAWS)[1:].tolist() == [0.0, 0.0]  # e is not among the four
    assert chances_of(order, ["z", "a"], 2, DRAWS).tolist() == [0.0, 0.0]
    best = ExploreConfig()
    assert chances_of(order, ["a", "b", "d"], 3, best).tolist() == [1.0, 1.0, 0.0]
    now_and_then = ExploreConfig(policy="epsilon", epsilon=0.2, among=5)
    assert chances_of(order, ["b", "a"], 2, now_and_then) == pytest.approx([0.2 / 5, 0.2 / 4 + 0.8])


def test_what_fills_a_list_is_not_drawn() -> None:
    order = Order(list("abcde"), 2)
    assert chances_of(order, ["b", "a", "c"], 3, DRAWS)[1:].tolist() == [1.0, 1.0]
    assert chances_of(order, ["b", "a", "d"], 3, DRAWS)[2] == 0.0
    assert chances_of(order, ["b", "c", "a"], 3, DRAWS).tolist()[1:] == [0.0, 0.0]


class Naming(Policy):
    """Of three requests one brings a history along, and one excludes items."""

    def request(self, user: int, at: int) -> RecommendRequest:
        asked, items = super().request(user, at), [f"i{(user + n) % 1_500}" for n in range(200)]
        named = ({}, {"history": items[:5]}, {"exclude": items})[user % 3]
        return asked.model_copy(update=named)


class Served(NamedTuple):
    store: Store
    now: Contender
    log: Log
    until: float


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two days of an application that draws its lists; what somebody does is known to the next one."""
    home = tmp_path_factory.mktemp("judged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECRAY_HOME", str(home))
        patch.setattr(loop_world, "TOGETHER", 1)
        store, world = Store(), world_of(4)
        application = first_version(write_base(home, world), store)
        policy = Naming(store, application, 4, log=True)
        for day in range(2):
            policy.serve(day)
        policy.stop()
        now = Contender.of(store, store.open(application, "production"))
        until = float(world.visits(1).times_V.max()) + 7_200.0
        yield Served(store, now, read(paths.events_dir() / application), until)


def judged(served: Served, new: Contender, config: JudgeConfig = CONFIG) -> list[Judged]:
    return judge_by_log(
        served.store, "world-ranker", served.log, served.now, new, config, FeedbackConfig(), served.until
    )


def test_what_was_served_comes_out_as_it_went_in(served: Served) -> None:
    first, whole = judged(served, served.now)
    for one in (first, whole):
        assert one.both is not None, one.why_not
        assert one.both.production.effective_lists == pytest.approx(one.both.production.lists, rel=1e-9)
        assert one.both.production.reward == pytest.approx(one.shown, rel=1e-6)
        assert one.both.gain == (0.0, 0.0, 0.0)
        assert one.given_back == 1.0
    assert (first.depth, whole.depth) == (1, 10)
    assert whole.shown.mean > first.shown.mean


def other_trees(served: Served, rounds: int) -> Contender:
    assert served.now.ranker
    recipe, run = run_again(served.now.ranker)
    other = train(recipe, override(run, {"model.rounds": rounds}), LOCAL, served.store)
    return Contender(served.now.retriever, other.bundle)


def test_a_version_that_is_near_is_judged(served: Served) -> None:
    first, whole = judged(served, other_trees(served, 40))
    for one in (first, whole):
        assert one.both is not None, one.why_not
        production, candidate, gain = one.both
        assert candidate.effective_lists < production.effective_lists
        assert gain.mean == pytest.approx(candidate.reward.mean - production.reward.mean, abs=1e-9)
        assert gain.high - gain.low < candidate.reward.high - candidate.reward.low
    gate = log_gate([first, whole], GateConfig())
    assert gate.passed
    assert "in the first 10 of a list" in gate.text
    assert whole.both
    far_below = whole.both._replace(gain=whole.both.gain._replace(mean=-0.3, low=-0.4, high=-0.2))
    assert not log_gate([first, whole._replace(both=far_below)], GateConfig()).passed


def test_whole_lists_are_compared_by_what_is_seen_of_their_items(served: Served) -> None:
    asked = partial(ask_again, served.store, "world-ranker", served.log, served.now)
    told = CONFIG, FeedbackConfig(), served.until
    examined = examined_ranks(joined(served.log, FeedbackConfig(), served.until).rows)
    itself = by_exposure(asked(served.now, *told), examined)
    assert itself.earned.gain == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)
    assert itself.earned.effective_lists == pytest.approx(itself.lists)
    again = asked(other_trees(served, 5), *told)  # of which judged by chances of whole lists nothing is known
    found = by_exposure(again, examined)
    assert found.lists / 4 < found.earned.effective_lists < found.lists
    assert exposure_gate(found, GateConfig()).passed
    worse = found.earned._replace(gain=Interval(-0.3, -0.4, -0.2))
    assert not exposure_gate(found._replace(earned=worse), GateConfig()).passed
    with pytest.raises(NoSupportError, match="is not known"):
        by_exposure(again, ())
    compared = _compared(served.now, served.now, GateConfig(by="lists"), again, examined)
    assert compared.by_drawn
    assert compared.text.startswith("drawn lists: ")
    strangers = [Order([f"none-{n}" for n in range(40)], 40)] * found.lists
    with pytest.raises(NoSupportError, match="can show 0%"):
        by_exposure(again._replace(candidate=strangers), examined)


def test_the_job_shows_it(served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "judged.json"
    evaluate_logged("world-ranker", EvaluateLogged(candidate="1", by=CONFIG), file)
    said = capsys.readouterr().out
    assert "judged by 424 lists of" in said
    assert "snrips; 95 % intervals over users" in said
    document = json.loads(file.read_text())
    assert [one["depth"] for one in document["judged"]] == [1, 10]
    both = document["judged"][1]["both"]
    assert both["gain"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert both["candidate"]["card"]["reward"] == "items with an outcome within 1h, first 10"


def test_of_a_version_that_is_far_the_log_cannot_tell(served: Served) -> None:
    judgements = judged(served, other_trees(served, 5), replace(CONFIG, depths=(10,)))
    assert all(one.both is None for one in judgements)
    assert "and 100 are needed" in judgements[0].why_not
    gate = log_gate(judgements, GateConfig())
    assert gate.passed  # the canary will tell
    assert gate.text.startswith("the log cannot tell")


def test_lists_that_a_version_has_learnt_do_not_judge_it(served: Served) -> None:
    shown_before = served.log.shown.with_columns(at=served.log.shown["at"] - 86_400.0 * 365)
    before = served._replace(log=served.log._replace(shown=shown_before))
    with pytest.raises(NoSupportError, match="no list was drawn"):
        judged(before, served.now)
