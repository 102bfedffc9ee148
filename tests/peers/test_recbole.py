"""RecBole beside recray: what is measured, what is kept when it is stopped, and a real run."""

import json
import os
import runpy
import signal
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import torch

from recray.batch import QueryBatch
from recray.config import ConfigError
from recray.data.events.examples import eval_examples, item_counts
from recray.data.events.split_data import SplitData
from recray.data.events.splits import leave_one_out
from recray.eval.compare import compare
from recray.eval.evaluate import Evaluation, evaluate
from recray.peers import recbole
from recray.peers.recbole import (
    RecBoleResult,
    RecBoleRun,
    environment,
    parse_settings,
    read_row,
    read_rows,
    train_recbole,
)
from recray.peers.recbole_worker import FIXED, OPTIONS, Epoch, Scores
from tests.data.made import dataset_of

NUM_USERS, NUM_ITEMS = 12, 15


def data() -> SplitData:
    """Users with 2 to 5 events; those with two are held out by nobody."""
    rng = np.random.default_rng(0)
    rows = [
        (user, int(item), 1_600_000_000 + 10 * place)
        for user in range(NUM_USERS)
        for place, item in enumerate(rng.permutation(NUM_ITEMS)[: 2 + user % 4])
    ]
    dataset = dataset_of([*rows, (NUM_USERS - 1, NUM_ITEMS - 1, 1_500_000_000)])
    return SplitData(dataset, leave_one_out(dataset))


def scores(seed: int) -> Scores:
    """Of all users, in an order of RecBole's own."""
    rng = np.random.default_rng(seed)
    return Scores(rng.permutation(NUM_USERS), rng.random((NUM_USERS, NUM_ITEMS), dtype=np.float32))


def epoch(seed: int, *, best: bool) -> Epoch:
    own = {"ndcg@10": 0.5}
    return Epoch(1.0, 2.0, 0.5, scores(seed), own, scores(seed + 100) if best else None, own if best else {})


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Epoch | int]:
    """What RecBole gives: epochs, and signals that arrive between them."""
    epochs: list[Epoch | int] = []

    def give(*_: object) -> Generator[Epoch]:
        with recbole._stoppable():
            for each in epochs:
                if isinstance(each, int):
                    os.kill(os.getpid(), each)
                else:
                    yield each

    monkeypatch.setattr(recbole, "open_split", lambda _: data())
    monkeypatch.setattr(recbole, "_epochs", give)
    return epochs


def measured_directly(of: Scores) -> Evaluation:
    examples, card = eval_examples(data().dataset, data().split, "test")
    row_of = {int(user): row for row, user in enumerate(of.user_ids_B)}

    def score_items(queries: QueryBatch) -> torch.Tensor:
        return torch.stack([torch.from_numpy(of.scores_BI[row_of[int(u)]]) for u in queries.user_ids_B])

    return evaluate(score_items, examples, card, item_counts(data().dataset, data().split.train_N), ks=(10,))


def test_the_best_epoch_is_measured_by_our_evaluator(given: list[Epoch | int]) -> None:
    given += [epoch(1, best=True), epoch(2, best=True), epoch(3, best=False)]
    saved: list[RecBoleResult] = []
    result = train_recbole(RecBoleRun(model="BPR", seed=4), saved.append)
    assert result.best_epoch == 2
    assert result.finished
    assert [record.elapsed_s for record in result.history] == [2.5, 5.0, 7.5]
    direct = measured_directly(scores(102))
    gain = compare(result.evaluation, direct, "ndcg@10")  # refuses other cards and other users
    assert gain.mean == 0
    assert result.row()[:2] == ("recbole:BPR", 4)
    assert [len(state.history) for state in saved] == [1, 2, 3]


def test_a_row_comes_back_from_json(given: list[Epoch | int], tmp_path: Path) -> None:
    given += [epoch(1, best=True), epoch(2, best=False)]
    result = train_recbole(RecBoleRun(model="BPR", seed=4))
    path = tmp_path / "bpr.json"
    path.write_text(json.dumps(result.to_json()))
    assert len(json.loads(path.read_text())["history"]) == 2
    row = read_row(path)
    assert row[:2] == ("recbole:BPR", 4)
    for name in result.evaluation.per_query:
        assert compare(row.evaluation, result.evaluation, name).mean == 0
    assert row.evaluation.scalars == result.evaluation.scalars
    path.write_text("{}")
    with pytest.raises(ConfigError, match="is not what"):
        read_row(path)


def test_rows_of_other_data_protocols_and_list_lengths_are_refused(
    given: list[Epoch | int], tmp_path: Path
) -> None:
    given += [epoch(1, best=True)]
    path = tmp_path / "bpr.json"
    document = train_recbole(RecBoleRun(model="BPR")).to_json()
    path.write_text(json.dumps(document))
    assert [row.model for row in read_rows([path], "made", "leave-one-out", 10)] == ["recbole:BPR"]
    assert read_rows([], "no-such-data", "leave-one-out", 5) == []
    with pytest.raises(ConfigError, match=r"bpr\.json does not belong into this table: .*split"):
        read_rows([path], "made", "random", 10)
    with pytest.raises(ConfigError, match=r"bpr\.json holds no metrics at 5"):
        read_rows([path], "made", "leave-one-out", 5)
    path.write_text(json.dumps(document | {"card": document["card"] | {"dataset_hash": "f" * 64}}))
    with pytest.raises(ConfigError, match=r"bpr\.json does not belong into this table: .*dataset_hash"):
        read_rows([path], "made", "leave-one-out", 10)
    for broken in ("[]", json.dumps(document | {"rows": []}), json.dumps(document | {"per_query": [1]})):
        path.write_text(broken)
        with pytest.raises(ConfigError, match=r"bpr\.json is not what"):
            read_rows([path], "made", "leave-one-out", 10)


def test_scores_of_other_users_than_the_card_has_are_refused(given: list[Epoch | int]) -> None:
    user_ids_B, scores_BI = scores(1)
    fewer = Scores(user_ids_B[:3], scores_BI[:3])
    given += [epoch(1, best=True)._replace(validation=fewer)]
    with pytest.raises(
        ConfigError, match=r"RecBole's validation part is another one: it lacks \d of the users"
    ):
        train_recbole(RecBoleRun())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_measures_the_best_epoch_so_far(number: int, given: list[Epoch | int]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    given += [epoch(1, best=True), epoch(2, best=False), int(number), epoch(3, best=True)]
    result = train_recbole(RecBoleRun())
    assert not result.finished
    assert (result.best_epoch, len(result.history)) == (1, 2)
    assert compare(result.evaluation, measured_directly(scores(101)), "hit@10").mean == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_stopped_before_the_first_epoch(given: list[Epoch | int]) -> None:
    given += [int(signal.SIGTERM)]
    with pytest.raises(ConfigError, match="validated no epoch"):
        train_recbole(RecBoleRun())


def test_another_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="leave-one-out only, got split 'global-time'"):
        RecBoleRun(split="global-time")


def test_settings_are_python_literals_or_text() -> None:
    parsed = parse_settings(
        ["hidden_size=64", "mlp_hidden_size=[128, 64]", "lr=1e-3", "loss_type=CE", "a=b=c"]
    )
    assert parsed == {
        "hidden_size": 64,
        "mlp_hidden_size": [128, 64],
        "lr": 1e-3,
        "loss_type": "CE",
        "a": "b=c",
    }
    with pytest.raises(ConfigError, match="'hidden_size' is not name=value"):
        RecBoleRun(settings=("hidden_size",))


@pytest.mark.parametrize(
    "setting",
    [
        "eval_step=2",
        "eval_args={}",
        "repeatable=True",
        "user_inter_num_interval='[5,inf)'",
        "item_inter_num_interval='[5,inf)'",
        "val_interval={'rating': '[3,inf)'}",
        "filter_inter_by_user_or_item=False",
        "rm_dup_inter=first",
        "benchmark_filename=['a', 'b', 'c']",
        "dataset_save_path=other.pth",
    ],
)
def test_settings_of_the_data_and_the_protocol_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"'{setting.partition('=')[0]}' is the same for all models"):
        RecBoleRun(settings=("hidden_size=64", setting))


@pytest.mark.parametrize(("name", "option"), [("epochs", "--epochs"), ("load_col", "--side-features")])
def test_settings_that_are_options_of_the_run_are_refused(name: str, option: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' is an option of the run: use {option}"):
        RecBoleRun(settings=(f"{name}=3",))


def test_without_an_index_the_environment_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("RECRAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    with pytest.raises(ConfigError, match=r"No matching distribution found for recbole==1\.2\.1"):
        environment()
    assert [path.suffix for path in (tmp_path / "home" / "environments").iterdir()] == [".lock"]


@pytest.fixture(scope="module")
def _installed() -> None:
    try:
        environment()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.usefixtures("_installed")
def test_every_setting_of_recbole_for_data_and_measures_is_refused_or_known_to_be_free() -> None:
    folder = environment()["env_vars"]["PYTHONPATH"].split(os.pathsep)[0]
    own = runpy.run_path(str(Path(folder) / "recbole" / "utils" / "argument_list.py"))
    of_the_input = {"MAX_ITEM_LIST_LENGTH", "seq_len", "normalize_field", "normalize_all"}
    assert set(own["dataset_arguments"]) - FIXED - OPTIONS.keys() == of_the_input
    of_its_output = {"eval_batch_size", "metric_decimal_place"}
    assert set(own["evaluation_arguments"]) - FIXED - OPTIONS.keys() == of_its_output


def events_file(folder: Path) -> Path:
    """Users walk around a ring of items, all at the same second; one user has two events only."""
    lines = ["user,item,rating,timestamp"]
    lines += [f"u{u},i{(u + n) % 20},5,{1_600_000_000 + n // 3}" for u in range(40) for n in range(8)]
    lines += [f"short,i{n},5,1600000000" for n in range(2)]
    path = folder / "ring.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster", "_installed")
@pytest.mark.parametrize(("model", "sequential"), [("BPR", False), ("FM", False), ("SASRec", True)])
def test_recbole_trains_and_is_measured_under_our_card(model: str, sequential: bool, tmp_path: Path) -> None:
    settings = ("learning_rate=0.01", "train_batch_size=64")
    run = RecBoleRun(dataset=str(events_file(tmp_path)), model=model, epochs=6, settings=settings)
    result = train_recbole(run)
    assert result.finished
    assert len(result.history) == 6
    assert result.evaluation.card.split == "leave-one-out"
    assert len(result.evaluation.user_ids_U) == 40
    ours = result.evaluation.means()
    if sequential:  # the next item on the ring: easily learnt, and only from the right order
        assert ours["hit@10"] > 0.9
    else:  # the same split, the same items filtered: the same numbers but for RecBole's four decimals
        assert ours["ndcg@10"] == pytest.approx(result.recbole_test["ndcg@10"], abs=1e-4)
        assert ours["hit@10"] == pytest.approx(result.recbole_test["hit@10"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster", "_installed")
@pytest.mark.parametrize(
    ("model", "setting", "message"),
    [
        ("SASRecc", "n_layers=1", "did you mean 'SASRec'"),
        ("SASRec", "hiden_size=64", "no setting 'hiden_size', did you mean 'hidden_size'"),
        ("BPR", "eval_args={}", "'eval_args' is the same for all models"),
        ("SASRec", "hidden_size=33", "not a multiple"),
    ],
)
def test_what_recbole_does_not_take_is_said(model: str, setting: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        train_recbole(RecBoleRun(dataset=str(events_file(tmp_path)), model=model, settings=(setting,)))
