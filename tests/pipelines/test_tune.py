"""What a search is made of, without Ray: spaces, records, who proposes, the expected best, run files."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import tune

from recray.config import ConfigError, override, settings, to_dict, value_at
from recray.data.events.split_data import DataConfig
from recray.eval import clicks, over_seeds
from recray.eval.clicks import ClickEvaluation
from recray.eval.evaluate import Evaluation
from recray.eval.over_seeds import Runs
from recray.eval.semantic_ids import MeasuredCodes, code_quality
from recray.eval.two_stage import MeasuredStages
from recray.launch.ray_tune import Proposal, trial_folder
from recray.launch.tune_domains import Choice, Numbers, Range, range_of
from recray.pipelines.tune.application import ApplicationSubject
from recray.pipelines.tune.expected import by_trial, expected_best, running_best
from recray.pipelines.tune.judged import compared
from recray.pipelines.tune.records import SearchFolder, Status, TrialRecord, best_first
from recray.pipelines.tune.run_files import named_run, read_run, write_run
from recray.pipelines.tune.search import SearchConfig, search
from recray.pipelines.tune.spaces import Budget, Goal, Method, Space, open_space, spaces
from recray.pipelines.tune.study import Study, study_of
from recray.pipelines.tune.subject import RecipeSubject
from recray.recipes import RECIPES
from recray.recipes.pairs import NCFRun, TwoTowerRun
from recray.schema import ProtocolCard
from recray.train.context import LaunchConfig
from recray.train.run import Run

MAX, MIN = Goal("ndcg@10", "max"), Goal("reconstruction", "min")


def runs_of(model: str) -> list[Run]:
    if model == "two_stage":
        return [ApplicationSubject().run("ml-100k")]
    return [run for _, run in RECIPES[model].presets.values()]


def ended(number: int, score: float | None, status: Status = "finished", **changes: Any) -> TrialRecord:
    return TrialRecord(number=number, changes=changes, status=status, score=score)


# Spaces


@pytest.mark.parametrize("model", spaces())
def test_a_shipped_space_fits_every_preset(model: str) -> None:
    space = open_space(model)
    for run in runs_of(model):
        space.require_fits(run)
        study = Study(space.ranges(), space.goal, "random", 0)
        for number in range(5):
            changes = {**study.ask(number), **space.fixed()}
            changed = override(run, changes)
            for path, value in changes.items():
                assert value_at(changed, path) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("model", spaces())
def test_a_shipped_space_says_what_it_leaves_alone(model: str) -> None:
    space = open_space(model)
    assert space.ignored
    assert not space.ignored.keys() & space.settings.keys()


def test_every_model_of_the_issue_has_a_space() -> None:
    wanted = {"two_tower", "ncf", "sasrec", "ss4rec", "gat", "dlrm", "lambdarank", "rqvae", "decoder"}
    assert {*wanted, "gbdt_ranker", "item_knn", "two_stage"} <= set(spaces())


def test_a_model_without_a_space_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="no space to search for 'popularity'.* Write one"):
        open_space("popularity")
    with pytest.raises(ConfigError, match="did you mean 'two_tower'"):
        open_space("two_towers")


def test_a_space_of_ones_own_is_a_file(tmp_path: Path) -> None:
    own = tmp_path / "narrow.py"
    own.write_text(
        "from ray import tune\nfrom recray.pipelines.tune.spaces import Budget, Goal\n"
        "GOAL = Goal('hit@5')\nBUDGET = Budget(trials=2)\nSPACE = {'seed': tune.choice([1, 2])}\n"
    )
    assert open_space("popularity", own).words() == {"seed": "one of 1, 2"}
    own.write_text("SPACE = {}\n")
    with pytest.raises(ConfigError, match="narrow.py says no GOAL and no BUDGET"):
        open_space("popularity", own)
    with pytest.raises(ConfigError, match="there is no such file"):
        open_space("popularity", tmp_path / "nowhere.py")


def space_of(settings: dict[str, Any], **more: Any) -> Space:
    return Space(settings=settings, goal=MAX, budget=Budget(trials=3, **more))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optim.lrr": tune.uniform(0, 1)}, "no setting 'optim.lrr' in OptimConfig, did you mean 'lr'"),
        ({"model.dropout": tune.uniform(0.0, 1.0)}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"optim.schedule": tune.choice(["cosine", "cubic"])}, "optim.schedule must be .*got 'cubic'"),
        ({"optim.lr": tune.randn()}, "the space has .* at optim.lr: give tune.uniform"),
        ({"recency": "always"}, "recency must be float, got 'always'"),
    ],
)
def test_what_does_not_fit_fails_before_ray_starts(settings: dict[str, Any], said: str) -> None:
    subject, run = RecipeSubject(RECIPES["two_tower"]), TwoTowerRun()
    with pytest.raises(ConfigError, match=said):
        search(subject, run, space_of(settings), SearchConfig(), LaunchConfig(run="misspelt"))


def test_what_may_change_on_the_way_must_be_searched() -> None:
    space = space_of({"optim.lr": tune.uniform(1e-3, 1e-2)}, mutable=("optim.l",))
    with pytest.raises(ConfigError, match=r"lets 'optim.l' change on the way, did you mean 'optim.lr'"):
        space.require_fits(TwoTowerRun())


def test_domains_are_told_in_words() -> None:
    assert str(range_of("x", tune.loguniform(1e-3, 0.1))) == "0.001 to 0.1, log"
    assert range_of("x", tune.randint(1, 4)) == Numbers(1, 3, whole=True)
    assert range_of("x", tune.lograndint(10, 501)) == Numbers(10, 500, log=True, whole=True)
    assert range_of("x", tune.quniform(0.0, 1.0, 0.25)) == Numbers(0.0, 1.0, step=0.25)
    assert range_of("x", tune.qrandint(2, 8, 2)) == Numbers(2, 8, step=2, whole=True)
    assert str(range_of("x", tune.choice([[64, 32], None, True]))) == "one of [64, 32], None, True"


# Records


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> SearchFolder:
    made = SearchFolder(f"records-{abs(hash(request.node.name))}")
    made.claim({"model": "ncf", "space": {"optim.lr": "0 to 1"}})
    return made


def test_another_search_of_the_same_name_is_refused(folder: SearchFolder) -> None:
    folder.claim({"space": {"optim.lr": "0 to 1"}, "model": "ncf"})
    with pytest.raises(ConfigError, match=r"started otherwise \(space.optim.lr was 0 to 1, now 0 to 2\)"):
        folder.claim({"model": "ncf", "space": {"optim.lr": "0 to 2"}})


def test_a_run_of_the_same_name_is_refused(folder: SearchFolder) -> None:
    (folder.folder / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match="is the name of a run: choose another --launch.run"):
        folder.claim({})


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_what_cannot_name_a_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a search"):
        SearchFolder(name)


def test_what_was_cut_off_goes_first_and_what_ended_does_not(folder: SearchFolder) -> None:
    for number in range(4):
        folder.propose(Proposal(number, {"optim.lr": 0.1 * number, "model.hidden_dims": (64, 32)}))
    folder.end(ended(0, 0.5))
    folder.end(ended(2, None, "failed"))
    assert [record.number for record in folder.records()] == [0, 2]
    assert folder.unfinished() == [
        Proposal(n, {"optim.lr": 0.1 * n, "model.hidden_dims": [64, 32]}) for n in (1, 3)
    ]
    assert folder.next_number() == 4


def test_a_damaged_record_is_no_end(folder: SearchFolder, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(2):
        folder.propose(Proposal(number, {}))
        folder.end(ended(number, 0.5))
    (folder.folder / "trials" / "0001.json").write_text('{"number": 1, "chan')
    assert [record.number for record in folder.records()] == [0]
    assert [proposal.number for proposal in folder.unfinished()] == [1]


def test_a_proposal_that_was_cut_off_is_none(folder: SearchFolder) -> None:
    folder.propose(Proposal(0, {}))
    (trial_folder(folder.name, 0) / "proposal.json").write_text('{"numb')
    assert folder.unfinished() == []
    assert folder.next_number() == 1


def test_checkpoints_of_what_ended_are_removed(folder: SearchFolder) -> None:
    folder.propose(Proposal(0, {}))
    (trial_folder(folder.name, 0) / "checkpoint_000000").mkdir()
    folder.end(ended(0, 0.5))
    assert sorted(p.name for p in trial_folder(folder.name, 0).iterdir()) == ["outcome.json", "proposal.json"]


def test_the_best_comes_first_whichever_way_is_better() -> None:
    records = [ended(0, 0.2), ended(1, None, "failed"), ended(2, 0.4), ended(3, 0.2)]
    assert [record.number for record in best_first(records, MAX)] == [2, 0, 3, 1]
    assert [record.number for record in best_first(records, MIN)] == [0, 3, 2, 1]


# Who proposes

RANGES: dict[str, Range] = {"x": Numbers(0.0, 1.0), "sizes": Choice(([8], [16, 8], [32]))}


@pytest.mark.parametrize("method", ["tpe", "random"])
def test_a_proposal_follows_from_seed_number_and_records(method: Method) -> None:
    records = [ended(n, n / 20, x=n / 20, sizes=[8]) for n in range(14)]
    asked = [study_of(records, RANGES, MAX, method, 3).ask(14) for _ in range(2)]
    assert asked[0] == asked[1]
    others = [
        study_of(records, RANGES, MAX, method, 3).ask(15),
        study_of(records, RANGES, MAX, method, 4).ask(14),
    ]
    assert all(other["x"] != asked[0]["x"] for other in others)


def test_tpe_goes_where_it_was_good_and_random_does_not() -> None:
    rng = np.random.default_rng(0)
    records = [ended(n, -abs(x - 0.8), x=float(x), sizes=[8]) for n, x in enumerate(rng.random(40))]
    errors = {
        method: np.mean(
            [abs(study_of(records, RANGES, MAX, method, 0).ask(n)["x"] - 0.8) for n in range(40, 60)]
        )
        for method in ("tpe", "random")
    }
    assert errors["tpe"] < 0.15 < errors["random"]


def test_values_with_parts_come_back_as_they_were() -> None:
    study = Study(RANGES, MAX, "random", 0)
    assert all(study.ask(n)["sizes"] in ([8], [16, 8], [32]) for n in range(10))
    assert study.tell(ended(0, 0.5, x=0.5, sizes=(16, 8)))


def test_what_lies_outside_the_space_teaches_nothing() -> None:
    study = Study(RANGES, MAX, "tpe", 0)
    assert not study.tell(ended(0, 0.5, x=1.5, sizes=[8]))
    assert not study.tell(ended(1, 0.5, x=0.5, sizes=[4]))
    assert study.study.trials == []


def test_what_failed_is_known_and_has_no_value() -> None:
    study = Study(RANGES, MAX, "tpe", 0)
    asked = study.ask(0)
    study.tell(ended(0, None, "failed", **asked))
    study.tell(ended(1, None, "failed", **asked))
    assert [trial.value for trial in study.study.trials] == [None, None]


def test_importances_name_what_mattered() -> None:
    rng = np.random.default_rng(0)
    ranges: dict[str, Range] = {"matters": Numbers(0.0, 1.0), "idle": Numbers(0.0, 1.0)}
    records = [
        ended(n, float(a), matters=float(a), idle=float(b)) for n, (a, b) in enumerate(rng.random((30, 2)))
    ]
    shares = study_of(records, ranges, MAX, "random", 0).importances()
    assert list(shares) == ["matters", "idle"]
    assert shares["matters"] > 0.9
    assert study_of(records[:3], ranges, MAX, "random", 0).importances() == {}
    alike = [ended(n, 0.5, matters=n / 10, idle=0.5) for n in range(9)]
    assert study_of(alike, ranges, MAX, "random", 0).importances() == {}


# The expected best


@pytest.mark.parametrize("goal", [MAX, MIN])
def test_the_expected_best_is_the_mean_over_all_draws(goal: Goal) -> None:
    scores = [0.3, 0.1, 0.4, 0.1]
    found = expected_best(scores, goal)
    best = max if goal.mode == "max" else min
    for n in range(1, 5):
        draws = [best(draw) for draw in itertools.product(scores, repeat=n)]
        assert found.best_N[n - 1] == pytest.approx(np.mean(draws))
        near, far = np.mean(draws) - np.std(draws), np.mean(draws) + np.std(draws)
        bounds = sorted([found.low_N[n - 1], found.high_N[n - 1]])
        assert bounds == pytest.approx([max(near, min(scores)), min(far, max(scores))])


def test_a_trial_that_failed_counts_as_the_worst() -> None:
    records = [ended(0, 0.3), ended(1, None, "failed"), ended(2, 0.2)]
    assert by_trial(records, MAX) == [0.3, 0.2, 0.2]
    assert by_trial(records, MIN) == [0.3, 0.3, 0.2]
    assert running_best([0.1, 0.3, 0.2], MAX).tolist() == [0.1, 0.3, 0.3]
    assert running_best([0.3, 0.1, 0.2], MIN).tolist() == [0.3, 0.1, 0.1]


# The winner beside what the search started from

CARD = ProtocolCard(
    dataset="made", dataset_hash="0", split="leave-one-out", target="test", relevance="all", k_core=0
)


def of_users(*values: float) -> Evaluation:
    return Evaluation(
        card=CARD,
        per_query={"ndcg@10": np.array(values)},
        scalars={},
        user_ids_U=np.arange(len(values)),
    )


def test_lists_are_compared_over_users_and_seeds() -> None:
    best = [of_users(0.2, 0.4, 0.9), of_users(0.4, 0.4, 0.9)]
    preset = [of_users(0.1, 0.4, 0.5), of_users(0.1, 0.2, 0.5)]
    found = compared(best, preset)
    assert found.seeds == 2
    assert found.best.metrics["ndcg@10"].mean == pytest.approx(0.8 / 1.5)
    assert found.best.seed_std["ndcg@10"] == pytest.approx(np.std([0.5, 1.7 / 3], ddof=1))
    gain = over_seeds.difference(Runs(best, draws=True), Runs(preset, draws=True), "ndcg@10")
    assert found.gain["ndcg@10"] == gain[:3]
    stages = [[MeasuredStages(of_users(0.0, 0.0, 0.0), run) for run in side] for side in (best, preset)]
    assert compared(*stages) == found


def test_clicks_are_compared_on_the_same_rows() -> None:
    rng = np.random.default_rng(0)
    labels_N = (rng.random(200) < 0.5).astype(np.float64)
    sides = [
        [
            ClickEvaluation(
                card=CARD,
                logits_N=share * labels_N + rng.normal(size=200),
                labels_N=labels_N,
                units_N=np.arange(200),
            )
            for _ in range(2)
        ]
        for share in (1.0, 0.2)
    ]
    found = compared(sides[0], sides[1])
    assert found.gain["auc"] == clicks.difference(sides[0], sides[1], "auc")
    assert found.gain["auc"].low > 0
    assert found.preset.metrics == clicks.summary(sides[1])


def test_codes_are_compared_without_intervals() -> None:
    codes_IL = np.array([[0, 0], [0, 1], [1, 1], [1, 1]])
    quality = code_quality(codes_IL, (2, 2))
    found = compared([MeasuredCodes(quality, 0.5)], [MeasuredCodes(quality, 0.75)])
    assert found.gain["reconstruction"].mean == -0.25
    assert np.isnan([found.gain["reconstruction"].low, found.best.seed_std["reconstruction"]]).all()


# Run files


def test_a_run_file_is_the_whole_run(tmp_path: Path) -> None:
    run = override(
        RECIPES["ncf"].presets["ml-100k"][1], {"optim.lr": 0.0123, "model.hidden_dims": [8], "data.k_core": 3}
    )
    write_run(tmp_path / "best.json", "ncf", run, {"search": "s"})
    assert named_run(RECIPES["ncf"], str(tmp_path / "best.json")) == run
    assert json.loads((tmp_path / "best.json").read_text())["settings"] == json.loads(
        json.dumps(to_dict(run))
    )


def test_nothing_of_a_search_tells_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: SearchFolder
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "letters-of-a-secret")
    run = override(RECIPES["ncf"].presets["ml-100k"][1], {"data.dataset": "/data/letters-of-a-secret.csv"})
    write_run(tmp_path / "best.json", "ncf", run, {})
    other = SearchFolder(f"{folder.name}-secret")
    other.claim({"run": to_dict(run)})
    other.claim({"run": to_dict(run)})  # the same search
    failed = TrialRecord(number=0, changes={}, status="failed", reason="no file letters-of-a-secret.csv")
    other.begin(Proposal(0, {}), settings(run))
    other.end(failed)
    told = [path.read_text() for path in (tmp_path / "best.json", *other.folder.rglob("*.json"))]
    assert len(told) == 5
    assert not any("letters-of-a-secret" in text for text in told)


def test_an_application_is_a_run_file_too(tmp_path: Path) -> None:
    subject = ApplicationSubject()
    run = override(subject.run("ml-100k"), {"stages.rules.diversity.strength": 0.1, "retriever.recency": 5.0})
    write_run(tmp_path / "best.json", subject.name, run, {})
    assert subject.run(str(tmp_path / "best.json")) == run
    assert run.first.data == run.second.data == DataConfig(dataset="ml-100k")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"recipe": "sasrec", "settings": {}}', "is a run of 'sasrec', not of 'ncf': use that recipe's job"),
        ("[1, 2]", "is no run file"),
        ('{"recipe": "ncf"', "is no run file"),
        ('{"recipe": "ncf", "settings": {"optim": {"lrr": 1}}}', "did you mean 'lr'"),
    ],
)
def test_a_file_that_is_no_run_says_so(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ConfigError, match=said):
        read_run(tmp_path / "x.json", "ncf", NCFRun)


def test_a_run_file_that_is_not_there_says_who_writes_one() -> None:
    with pytest.raises(ConfigError, match=r"no run file nowhere.json: `recray tune` writes one"):
        named_run(RECIPES["ncf"], "nowhere.json")
