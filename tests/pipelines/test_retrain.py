"""Rounds of retraining: what is right becomes a candidate, what is not leaves production alone."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recray import paths
from recray.arrays import Bools, Float64s
from recray.cli import main
from recray.config import override
from recray.data.events.split_data import DataConfig, open_split
from recray.data.logged.log_report import log_report
from recray.event_log.reading import read
from recray.event_log.records import Drawn, Exposure
from recray.event_log.tables import encoded
from recray.event_log.writer import LogWriter
from recray.features.candidates import CandidateConfig
from recray.features.examples import load_examples
from recray.models.gbdt import GBDTConfig
from recray.pipelines.feedback import FeedbackConfig, build_feedback, joined
from recray.pipelines.gates import GateConfig, label_gates, metric_gate, require
from recray.pipelines.lineage import trace
from recray.pipelines.retrain import RetrainConfig, Retrained, retrain, rounds
from recray.pipelines.same_queries import Contender, ask_the_same
from recray.pipelines.train import train
from recray.recipes import RECIPES, run_again, run_for
from recray.recipes.ranker import DLRM_RANKER, GBDT_RANKER, DLRMRankerRun, GBDTRankerRun
from recray.recipes.ranking_data import HOLDOUT, TRAIN
from recray.schema import DataError
from recray.store import Store, run_record
from recray.train.context import LaunchConfig
from tests.pipelines.days import BEGIN, DAY_S, Clicks, at_random, by_taste, serve_a_day, turned_round
from tests.pipelines.tiny import NUM_USERS, tiny_events

LOCAL = LaunchConfig(where="local")
NAME = "tiny-ranker"
EASY = GateConfig(least_lists=20, tolerance=0.5, order_loss=0.02)
CONFIG = RetrainConfig(feedback=FeedbackConfig(attribution="1h"), gates=EASY)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a ranker in production."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECRAY_HOME", str(folder / "home"))
        _train(f"{tiny_events(folder)}?name=tiny")
    return folder / "home"


@pytest.fixture
def store(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Of a home of its own."""
    monkeypatch.setenv("RECRAY_HOME", str(shutil.copytree(trained, tmp_path / "home")))
    return Store()


def _train(dataset: str) -> None:
    store, data = Store(), DataConfig(dataset=dataset)
    run = override(run_for(RECIPES["item_knn"], data.dataset), {"data": data})
    retriever = train(RECIPES["item_knn"], run, LOCAL, store).bundle
    ranker = GBDTRankerRun(
        data=data,
        retriever=retriever.manifest.name,
        candidates=CandidateConfig(retrieved=30, popular=5),
        model=GBDTConfig(rounds=5),
    )
    assert train(GBDT_RANKER, ranker, LOCAL, store).bundle.manifest.name == NAME
    store.promote(NAME, 1)


def one_round(store: Store, until: float, config: RetrainConfig = CONFIG) -> Retrained:
    return retrain(NAME, config, LOCAL, store, until=until)


@pytest.mark.parametrize("wrong", [at_random, pytest.param(turned_round, marks=pytest.mark.slow)])
def test_a_bad_round_is_stopped_and_set_aside(store: Store, wrong: Clicks) -> None:
    promoting = override(CONFIG, {"then": "promote"})
    first = one_round(store, serve_a_day(NAME, 0, by_taste), promoting)
    assert first.round.failed is None, first.round.failed
    assert store.names(NAME) == {"production": 2, "candidate": 2}
    bad = one_round(store, serve_a_day(NAME, 1, wrong), promoting)
    assert bad.round.failed is not None
    assert bad.round.failed.name == "labels"
    assert "before" in bad.round.failed.text
    assert bad.candidate is None
    assert store.names(NAME) == {"production": 2, "candidate": 2}
    assert len(store.versions(NAME)) == 2
    good = one_round(store, serve_a_day(NAME, 2, by_taste), promoting)
    assert good.round.failed is None, good.round.failed
    made = run_record(store.open(NAME, 3)).feedback
    assert (made["since"], made["until"]) == (BEGIN + 2 * DAY_S, BEGIN + 3 * DAY_S)
    assert [one.failed.name if one.failed else "" for one in rounds(NAME)] == ["", "labels", ""]


def test_a_first_round_that_is_mislabelled_is_stopped_without_a_past(store: Store) -> None:
    bad = one_round(store, serve_a_day(NAME, 0, turned_round), override(CONFIG, {"then": "promote"}))
    assert bad.round.failed is not None
    assert bad.round.failed.name == "labels"
    assert "more than 50% is due" in bad.round.failed.text
    assert store.names(NAME) == {"production": 1}


@pytest.mark.parametrize(("clicks", "passes"), [(by_taste, True), (at_random, False), (turned_round, False)])
def test_without_a_past_clicks_must_go_with_the_order_of_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clicks: Clicks, passes: bool
) -> None:
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path))
    until = serve_a_day(NAME, 0, clicks)
    report = joined(read(paths.events_dir() / NAME), CONFIG.feedback, until).report()
    *_, order = label_gates(report, None, GateConfig())
    assert (order.name, order.passed) == ("order", passes), order.text
    *_, not_asked = label_gates(report, None, GateConfig(least_order=0.0))
    assert not_asked.passed
    *_, single = label_gates(replace(report, order=0.5, order_error=0.5), None, GateConfig())
    assert (single.passed, single.text[-13:]) == (True, "none compared"), "lists of one item"
    *_, small = label_gates(replace(report, order=0.55, order_error=0.1), None, GateConfig())
    assert not small.passed
    assert "--gates.least-order 0" in small.text


def test_clicks_of_other_lists_go_with_no_score() -> None:
    """At their ranks, so that the order of lists says nothing; only a log that is large enough is stopped."""
    rng, lists, ranks = np.random.default_rng(0), 12_000, np.arange(1, 6)
    scores_BK = np.sort(rng.normal(size=(lists, 5)), axis=1)[:, ::-1]
    clicked_BK = rng.random((lists, 5)) < 0.3 / (1 + np.exp(-scores_BK)) / ranks
    dealt_BK = rng.permutation(clicked_BK)
    passed = {}
    for name, labels_BK in {"honest": clicked_BK, "dealt": dealt_BK}.items():
        for size in (lists // 20, lists):
            now = log_report(*_shown(scores_BK[:size], labels_BK[:size]))
            gates = {gate.name: gate for gate in label_gates(now, None, GateConfig())}
            assert gates["order"].passed, gates["order"].text
            passed[name, size] = gates["scores"].passed
    assert passed == {
        ("honest", lists // 20): True,
        ("honest", lists): True,
        ("dealt", lists // 20): True,
        ("dealt", lists): False,
    }
    assert abs(now.agreement - 0.5) < 4 * now.agreement_error
    assert all(gate.passed for gate in label_gates(now, None, GateConfig(least_agreement=0.0)))
    alike = log_report(*_shown(np.ones_like(scores_BK), labels_BK))
    assert (alike.agreement, alike.agreement_error) == (0.5, 0.5)


def _shown(scores_BK: Float64s, clicked_BK: Bools) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Rows, events and users who are left out, as a report takes them."""
    lists, length = scores_BK.shape
    request = np.repeat(np.arange(lists), length).astype(str)
    rows = pl.DataFrame(
        {
            "request_id": request,
            "user_id": request,
            "rank": np.tile(np.arange(1, length + 1), lists),
            "score": scores_BK.ravel(),
            "label": clicked_BK.ravel().astype(np.float32),
            "version": "one",
            "at": BEGIN,
            "propensity": 1.0,
            "is_closed": True,
            "node": "a",
            "seq": np.arange(lists * length),
        }
    )
    empty = {"mark": pl.String, "user_id": pl.String, "at": pl.Float64, "kind": pl.String, "node": pl.String}
    users = {"user_id": pl.String, "why": pl.String}
    return rows, pl.DataFrame(schema=empty | {"seq": pl.Int64}), pl.DataFrame(schema=users)


def test_a_day_that_is_mislabelled_among_others_is_stopped_without_a_past(store: Store) -> None:
    for day, clicks in enumerate([by_taste, turned_round, by_taste]):
        until = serve_a_day(NAME, day, clicks)
    bad = one_round(store, until)
    assert bad.round.failed is not None
    assert bad.round.failed.name == "labels"
    assert re.search(r"days: .* in 89.7% of pairs, 2023-11-16 in \d\d\.\d%", bad.round.failed.text)


def test_an_unforeseen_error_is_written_down(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr("recray.pipelines.retrain.train", breaks)
    done = one_round(store, serve_a_day(NAME, 0, by_taste))
    assert done.round.failed is not None
    assert (done.round.failed.name, done.round.failed.text) == (
        "retriever",
        "ZeroDivisionError: a fault of ours",
    )
    assert rounds(NAME) == [done.round]
    assert store.names(NAME) == {"production": 1}


def test_a_round_says_what_it_was_made_of(store: Store) -> None:
    done = one_round(store, serve_a_day(NAME, 0, by_taste), override(CONFIG, {"gates.by": "lists"}))
    assert done.round.failed is None, done.round.failed
    assert done.candidate is not None
    assert store.names(NAME) == {"production": 1, "candidate": 2}
    record, before = run_record(done.candidate), run_record(store.open(NAME, 1))
    assert record.feedback["base_hash"] == before.data_hash != record.data_hash
    assert record.feedback["ranges"]["shown local"] == [1, 3 * NUM_USERS]
    assert before.feedback == {}
    assert record.settings["logged"]["folder"] in record.settings["data"]["dataset"]
    retriever = run_record(store.resolve(done.candidate.manifest.requires["retriever"]))
    assert retriever.feedback == record.feedback
    assert json.loads(done.round.file.read_text())["candidate"] == str(done.candidate.reference)
    assert [step.name for step in done.round.steps] == [
        *("production", "data", "lists", "labels", "retriever", "ranker", "leaks", "drawn"),
        *("comparison", "log", "candidate"),
    ]
    drawn, compared, log, _ = (step.text for step in done.round.steps[-4:])
    assert drawn == log
    assert "no list was drawn" in drawn
    assert compared.startswith("ndcg@10: ")
    assert compared.endswith(f"not by drawn lists: {drawn}")


@pytest.mark.slow
def test_the_rankers_examples_hold_the_lists(store: Store) -> None:
    done = one_round(store, serve_a_day(NAME, 0, by_taste))
    assert done.candidate is not None
    _, run = run_again(done.candidate)
    assert isinstance(run, GBDTRankerRun)
    learnt, alone = GBDT_RANKER.open(run), GBDT_RANKER.open(override(run, {"logged.folder": ""}))
    everything = GBDT_RANKER.learning(run, learnt, "all")
    without = GBDT_RANKER.learning(override(run, {"logged.folder": ""}), alone, "all")
    assert everything.num_queries - without.num_queries > learnt.num_queries - alone.num_queries > 0
    assert without.num_queries + 100 < everything.num_queries


@pytest.mark.slow
def test_versions_of_different_data_are_asked_the_same(store: Store) -> None:
    done = one_round(store, serve_a_day(NAME, 0, by_taste))
    assert done.candidate is not None
    _, run = run_again(done.candidate)
    assert isinstance(run.data, DataConfig)
    both = [Contender.of(store, store.open(NAME, version)) for version in (1, 2, 1)]
    first, second, again = ask_the_same(both, open_split(run.data))
    assert first.card == second.card
    assert len(first.user_ids_U) == len(second.user_ids_U) > 30
    np.testing.assert_array_equal(first.per_query["ndcg@10"], again.per_query["ndcg@10"])
    assert not np.array_equal(first.per_query["ndcg@10"], second.per_query["ndcg@10"])
    worse = replace(first, per_query={"ndcg@10": first.per_query["ndcg@10"] * 0.9})
    ways = [metric_gate(first, worse, GateConfig()), metric_gate(worse, first, GateConfig())]
    assert [gate.passed for gate in ways] == [False, True]
    assert metric_gate(first, worse, GateConfig(tolerance=0.11)).passed
    assert f"the same {len(first.user_ids_U)} queries" in ways[0].text
    with pytest.raises(DataError, match=r"ndcg@10: .* production"):
        require(ways)


@pytest.mark.parametrize(
    ("change", "step"),
    [
        ({"gates.least_lists": 10_000}, "lists"),
        ({"gates.untrusted": 0.0, "feedback.attribution": "30s"}, "labels"),
    ],
)
def test_a_failed_step_leaves_production_alone(store: Store, change: dict[str, object], step: str) -> None:
    done = one_round(store, serve_a_day(NAME, 0, by_taste), override(CONFIG, change))
    assert done.round.failed is not None
    assert done.round.failed.name == step
    assert store.names(NAME) == {"production": 1}


def test_nothing_to_go_by(store: Store) -> None:
    done = retrain("nobody", CONFIG, LOCAL, store)
    assert done.round.failed is not None
    assert done.round.failed.name == "production"
    missing = one_round(store, BEGIN)
    assert missing.round.failed is not None
    assert (missing.round.failed.name, "there is no log" in missing.round.failed.text) == ("data", True)


@pytest.mark.slow
def test_a_canary_begins(store: Store) -> None:
    done = one_round(store, serve_a_day(NAME, 0, by_taste), override(CONFIG, {"then": "canary"}))
    assert done.round.failed is None, done.round.failed
    assert store.names(NAME) == {"production": 1, "candidate": 2}
    assert done.round.steps[-1].text == "canary-2"


@pytest.mark.slow
def test_a_list_leads_back_to_what_it_came_from(store: Store) -> None:
    done = one_round(store, serve_a_day(NAME, 0, by_taste), override(CONFIG, {"then": "promote"}))
    assert done.candidate is not None
    log = LogWriter(paths.events_dir() / NAME)
    digest = done.candidate.manifest.digest
    for request, version in {
        "new": {"ranker": f"{NAME}@2 {digest[:12]}"},
        "other": {"ranker": f"{NAME}@2 0123"},
        "fallen": {},
    }.items():
        log.expose([encoded(Exposure(request, BEGIN, "u1", 1, 1, (Drawn("i1", 1.0, "x"),), version))])
    log.close()
    (found,) = trace(store, NAME, "new")
    assert (found.role, found.version) == ("ranker", str(done.candidate.reference))
    assert found.feedback["ranges"]["events local"][0] == 1
    assert found.feedback["base_hash"] == run_record(store.open(NAME, 1)).data_hash
    assert (found.recipe, found.data) == ("gbdt_ranker", "tiny")
    assert trace(store, NAME, "r0-1")[0].feedback == {}
    for request, why in (("other", "another one"), ("fallen", "fell back"), ("nothing", "no answer")):
        with pytest.raises(DataError, match=why):
            trace(store, NAME, request)


def test_the_commands(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    serve_a_day(NAME, 0, by_taste)
    assert main(["retrain", NAME, "--launch.where", "local", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)
    assert [steps[0]["step"], steps[-1]["step"]] == ["production", "candidate"]
    assert main(["trace", NAME, "r0-1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["recipe"] == "gbdt_ranker"
    assert main(["retrain", "nobody"]) == 2
    assert "nobody stays as it is: production: no bundle 'nobody'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_network_learns_the_lists_too_but_not_those_of_users_held_out(store: Store) -> None:
    _, run = run_again(store.open(NAME, 1))
    assert isinstance(run, GBDTRankerRun)
    made = build_feedback(NAME, run.data.dataset, CONFIG.feedback, until=serve_a_day(NAME, 0, by_taste))
    again, popular = run_again(store.resolve(store.open(NAME, 1).manifest.requires["retriever"]))
    retriever = train(again, override(popular, {"data.dataset": made.dataset}), LOCAL, store).bundle.manifest
    plain = DLRMRankerRun(
        data=DataConfig(dataset=made.dataset),
        retriever=retriever.name,
        candidates=run.candidates,
        holdout=0.3,
        refit=False,
    )
    alone = DLRM_RANKER.open(plain)
    logged = DLRM_RANKER.open(override(plain, {"logged.folder": str(made.folder)}))
    rows = {
        (file, data): len(load_examples(data.folder / file).labels_N)
        for file in (TRAIN, HOLDOUT)
        for data in (alone, logged)
    }
    more = [rows[file, logged] - rows[file, alone] for file in (TRAIN, HOLDOUT)]
    assert more[0] > more[1] > 0
    run_of_it = override(plain, {"logged.folder": str(made.folder), "loop.epochs": 1})
    trained = train(DLRM_RANKER, run_of_it, LOCAL, store)
    assert trained.bundle.manifest.model == "dlrm"
    assert run_record(trained.bundle).feedback["lists"] == made.origin.lists
