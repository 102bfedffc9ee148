"""The command line of training: a preset, any data, or a published version's run, and what differs."""

import logging
from pathlib import Path
from typing import Any

import pytest

from recray.cli import main
from recray.cli.training import _compare_data, parse
from recray.config import ConfigError, override, to_dict
from recray.pipelines.train import train
from recray.pipelines.tune.run_files import write_run
from recray.recipes import RECIPES, run_for
from recray.recipes.ranker import GBDTRankerRun
from recray.schema import DataError
from recray.store import Bundle, RunRecord, Store, StoreError
from recray.train.context import LaunchConfig
from tests.pipelines.tiny import tiny_events

TRAINED = [name for name in RECIPES if name != "ideal"]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_events(tmp_path_factory.mktemp("raw"), "asked-for")


def write_nothing(folder: Path) -> None:
    (folder / "nothing.txt").write_text("")


def noted(recipe: Any, run: Any) -> Bundle:
    """A version that says it was made by this run."""
    record = RunRecord(
        recipe=recipe.name,
        settings=to_dict(run),
        seed=run.seed,
        code="",
        data="",
        data_hash="",
        epochs=1.0,
        duration_s=1.0,
        where="",
        machine="",
    )
    return Store().publish(
        f"noted-{recipe.name}",
        write_nothing,
        model="",
        config={},
        run=to_dict(record),
    )


@pytest.mark.parametrize("name", TRAINED)
def test_a_preset_is_asked_for_by_its_name(name: str) -> None:
    for preset, (_, run) in RECIPES[name].presets.items():
        job = parse(RECIPES[name], [preset])
        assert job.run == run
        assert type(job.run) is type(run)
        assert (job.launch, job.promote) == (LaunchConfig(), False)


def test_what_differs_stands_behind() -> None:
    args = ["ml-100k", "--optim.lr", "0.5", "--launch.where", "local", "--promote"]
    job = parse(RECIPES["two_tower"], args)
    assert job.run == override(RECIPES["two_tower"].presets["ml-100k"][1], {"optim.lr": 0.5})
    assert job.launch == LaunchConfig(where="local")
    assert job.promote


def test_a_run_file_is_asked_for_by_its_path(tmp_path: Path) -> None:
    run = override(RECIPES["sasrec"].presets["ml-1m"][1], {"model.dim": 32, "seed": 7})
    write_run(tmp_path / "best.json", "sasrec", run, {})
    job = parse(RECIPES["sasrec"], [str(tmp_path / "best.json"), "--loop.epochs", "2"])
    assert job.run == override(run, {"loop.epochs": 2})


@pytest.mark.parametrize("name", TRAINED)
def test_data_without_a_preset_gets_the_defaults_at_its_size(
    name: str, events: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = RECIPES[name]
    with caplog.at_level(logging.INFO, logger="recray.recipes"):
        job = parse(recipe, [str(events), "--seed", "4"])
    assert job.run == override(recipe.default(str(events)), {"seed": 4})
    assert getattr(job.run.data, "dataset", None) == str(events)
    assert f"{name} has no preset for {events}; by the size of the data: " in caplog.text


def test_the_log_says_which_settings_were_taken(events: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="recray.recipes"):
        parse(RECIPES["ncf"], [str(events)])
        parse(RECIPES["item_knn"], [str(events)])
        parse(RECIPES["ncf"], ["ml-100k"])
    taken, plain = (record.getMessage() for record in caplog.records)  # a preset says nothing
    assert taken.endswith("by the size of the data: recency 10.0")
    assert plain.endswith("by the size of the data: its defaults")


@pytest.mark.parametrize("name", TRAINED)
def test_a_version_is_asked_for_its_run(name: str) -> None:
    for _, run in RECIPES[name].presets.values():
        version = noted(RECIPES[name], run).manifest.version
        assert parse(RECIPES[name], ["--from", f"noted-{name}:{version}"]).run == run
        assert parse(RECIPES[name], ["--from", f"noted-{name}:latest"]).run == run


def test_a_trained_version_is_repeated_with_what_differs(events: Path) -> None:
    recipe = RECIPES["item_knn"]
    run = override(recipe.default(str(events)), {"model.shrink": 2.0})
    bundle = train(recipe, run, LaunchConfig(where="local"), Store()).bundle
    reference = f"{bundle.manifest.name}:{bundle.manifest.version}"
    assert parse(recipe, ["--from", reference]).run == run
    changed = parse(recipe, ["--from", reference, "--model.shrink", "3"])
    assert changed.run == override(run, {"model.shrink": 3.0})


def test_a_version_of_another_recipe_is_refused() -> None:
    version = noted(RECIPES["lambdarank"], RECIPES["lambdarank"].presets["ml-1m"][1]).manifest.version
    reference = f"noted-lambdarank:{version}"
    with pytest.raises(
        ConfigError, match=f"{reference} was made by 'lambdarank': .*`recray train lambdarank`"
    ):
        parse(RECIPES["dlrm"], ["--from", reference])


def test_what_has_no_run_to_repeat_says_so() -> None:
    Store().publish("by-hand", write_nothing, model="", config={})
    with pytest.raises(StoreError, match=r"by-hand version 1 \(.*\) carries no run"):
        parse(RECIPES["ncf"], ["--from", "by-hand:1"])
    for args in (["--from"], ["--from", "by-hand"]):
        with pytest.raises(ConfigError, match="name a version as NAME:NUMBER"):
            parse(RECIPES["ncf"], args)
    with pytest.raises(StoreError, match="no bundle 'nobody'"):
        parse(RECIPES["ncf"], ["--from", "nobody:1"])


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["--help"], [RECIPES["two_tower"].summary[:20], "ml-100k", "MovieLens 1M"]),
        (["ml-100k", "--help"], ["MovieLens 100K", "--optim.lr", "--launch.where", "--promote"]),
        (
            ["not-prepared.csv", "--help"],
            ["usage: recray train two_tower", "--optim.lr", "--launch.where", "--promote"],
        ),
    ],
)
def test_help_needs_no_data(args: list[str], wanted: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(RECIPES["two_tower"], args)
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(text in said for text in wanted)


def test_no_data_and_no_preset_of_that_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv does not exist"):
        parse(RECIPES["two_tower"], [str(tmp_path / "nowhere.csv")])
    with pytest.raises(ConfigError, match="ml-100kk"):
        parse(RECIPES["two_tower"], ["ml-100kk"])


def test_a_version_names_exactly_what_it_was_built_on(events: Path) -> None:
    """A later version of the retriever does not change what ``--from`` repeats."""
    local, store = LaunchConfig(where="local"), Store()
    retriever = override(run_for(RECIPES["item_knn"], str(events)), {"index.kind": "exact"})
    first = train(RECIPES["item_knn"], retriever, local, store).bundle.manifest
    ranking = override(
        run_for(RECIPES["gbdt_ranker"], str(events)), {"retriever": first.name, "model.rounds": 2}
    )
    ranker = train(RECIPES["gbdt_ranker"], ranking, local, store).bundle.manifest
    train(RECIPES["item_knn"], retriever, local, store)
    again = parse(RECIPES["gbdt_ranker"], ["--from", f"{ranker.name}:{ranker.version}"]).run
    assert isinstance(again, GBDTRankerRun)
    assert (again.retriever, again.retriever_version) == (first.name, str(first.version))


def test_data_that_changed_since_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    events = tiny_events(tmp_path, "changing")
    run, local = run_for(RECIPES["popularity"], str(events)), LaunchConfig(where="local")
    made = train(RECIPES["popularity"], run, local, Store()).bundle.manifest
    again = train(RECIPES["popularity"], run, local, Store()).bundle
    logging.getLogger("recray").propagate = True
    _compare_data(f"{made.name}:{made.version}", again)
    assert "not the same run again" not in caplog.text
    lines = events.read_text().splitlines()
    events.write_text("\n".join([*lines[:-1]]) + "\n")
    other = train(RECIPES["popularity"], run, local, Store()).bundle
    _compare_data(f"{made.name}:{made.version}", other)
    assert "not the same run again" in caplog.text


@pytest.mark.parametrize("name", ["sasrec", "gbdt_ranker", "dlrm", "rqvae"])
def test_a_seed_that_no_generator_takes_is_refused(name: str) -> None:
    run = next(iter(RECIPES[name].presets.values()))[1]
    with pytest.raises(ConfigError, match="seed must not be negative, got -1"):
        override(run, {"seed": -1})


def test_a_half_of_ss4rec_is_that_half(events: Path) -> None:
    run = override(run_for(RECIPES["s5"], str(events)), {"model.parts": "mamba"})
    with pytest.raises(ConfigError, match="'s5' is s5 alone, got model.parts 'mamba'"):
        RECIPES["s5"].open(run)


def test_what_is_tried_is_measured_and_not_published(
    events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", "item_knn", f"{events}?name=tried", "--json", str(tmp_path / "figures.json")]
    with pytest.raises(SystemExit):
        main([*words, "--no-publish", "--promote"])
    assert "--promote needs a version" in capsys.readouterr().err
    assert main([*words, "--no-publish"]) == 0
    assert "nothing is published, as asked" in capsys.readouterr().out
    assert "ndcg@10" in (tmp_path / "figures.json").read_text()
    assert not [name for name in Store().applications() if name.startswith("tried")]
