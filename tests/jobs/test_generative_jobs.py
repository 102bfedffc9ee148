"""Item content to codes to a decoder, and new items without training: each job by its command line."""

import json
from pathlib import Path

import polars as pl
import pytest

from recray.cli import main
from recray.store import Store
from tests.jobs.world import NUM_ITEMS, events_file, job, published, train

BRIEF = ("--launch.where", "local", "--loop.epochs", "2")
CODES = ("--model.quantizer.codebook-size", "8", "--content.dim", "16", "--content.sketch", "0")
NEW = "new-western"


@pytest.fixture(scope="module")
def events(home: Path) -> str:
    return events_file(home)


@pytest.fixture(scope="module")
def rqvae(events: str) -> str:
    return train("rqvae", events, *BRIEF, *CODES, "--alarm", "0")


@pytest.fixture(scope="module")
def semantic_ids(rqvae: str) -> str:
    assert published(rqvae) == ["films-rqvae version 1"]
    return job("assign_semantic_ids", "films-rqvae")


@pytest.fixture(scope="module")
def decoder(semantic_ids: str, events: str) -> str:
    assert published(semantic_ids) == ["films-semantic-ids version 1"]
    return train("decoder", events, *BRIEF, "--promote")


def test_codebooks_and_the_map_say_how_codes_are_used(rqvae: str, semantic_ids: str) -> None:
    for said in (rqvae, semantic_ids):
        assert "codes before disambiguation" in said
        assert "of the items share their codes" in said
    report = Path(semantic_ids.split("report: ")[1].strip())
    assert "<html" in report.read_text()


def test_the_codes_of_an_item_are_answered_both_ways(
    semantic_ids: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert published(semantic_ids) == ["films-semantic-ids version 1"]
    assert main(["codes", "films-semantic-ids", "i7", "--version", "1", "--json"]) == 0
    [asked] = json.loads(capsys.readouterr().out)
    assert main(["codes", "films-semantic-ids", asked["codes"], "--version", "1", "--json"]) == 0
    assert [row["item"] for row in json.loads(capsys.readouterr().out)] == ["i7"]


def test_a_decoder_is_measured_published_and_promoted(decoder: str) -> None:
    assert "films, leave-one-out, test, 60 users" in decoder
    assert published(decoder) == ["films-decoder version 1"]
    assert Store().names("films-decoder") == {"production": 1}


def test_new_items_reach_the_decoder_without_training(decoder: str, tmp_path: Path) -> None:
    assert published(decoder) == ["films-decoder version 1"]
    items = pl.DataFrame({"raw_id": [NEW], "title": ["Golden Witness Returns"], "genres": [["Western"]]})
    items.write_parquet(tmp_path / "new.parquet")
    said = job("assign_semantic_ids", "films-rqvae", "--items", tmp_path / "new.parquet")
    assert published(said) == ["films-semantic-ids version 2"]
    said = job("extend_decoder", "films-decoder")
    assert published(said) == ["films-decoder version 2"]
    assert f"for {NUM_ITEMS + 1} items" in said
