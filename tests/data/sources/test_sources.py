"""The registry of data sets and the choice of a reader by suffix."""

import re
from pathlib import Path

import pytest

from recray.config import ConfigError
from recray.data.events.prepare import load_or_prepare
from recray.data.sources import SOURCES, data_name, is_registered, row_source_of, source_of
from recray.data.sources.published.amazon import AmazonReviews
from recray.data.sources.published.recbole import RecBole
from recray.data.sources.published.sequences_text import SequenceText
from recray.data.sources.synthetic.source import Synthetic
from recray.data.sources.tables.interactions import InteractionTable


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_entry_builds_the_source_of_its_name(name: str) -> None:
    info = SOURCES[name]
    found = source_of(name) if info.holds == "interactions" else row_source_of(name, {})
    assert found is not None
    assert info.name == info.build().name == found.name == name
    assert hasattr(found, "read" if info.holds == "interactions" else "rows")


def test_a_file_gets_the_reader_of_its_suffix() -> None:
    kinds = {
        "a.csv": InteractionTable,
        "a.tsv": InteractionTable,
        "a.parquet": InteractionTable,
        "a.inter": RecBole,
        "a.txt": SequenceText,
    }
    assert {name: type(source_of(name)) for name in kinds} == kinds
    assert isinstance(source_of("synthetic"), Synthetic)
    assert isinstance(source_of("ratings_Beauty.csv"), AmazonReviews)
    assert isinstance(source_of("ratings_Beauty.csv?user=a"), InteractionTable)


def test_a_data_set_is_called_as_its_bundles_are() -> None:
    found = [data_name(name) for name in ("ml-1m", "shop", "some/shop.csv?name=mine", "shop.csv?user=a.b")]
    assert found[:3] == ["ml-1m", "shop", "mine"]
    assert found[3] == source_of("./shop.csv").name


def test_files_of_one_stem_are_data_sets_of_their_own(tmp_path: Path) -> None:
    """Neither the folders of data sets nor the versions of models are shared, whatever the files hold."""
    names = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "events.csv"
        path.write_text("user,item\n1,2\n")
        names.append(data_name(str(path)))
        path.write_text(f"user,item\n1,2\n{folder},4\n")
        assert data_name(str(path)) == names[-1]
        assert load_or_prepare(str(path)).name == names[-1]
    assert names[0] != names[1]
    assert all(re.fullmatch("events-[0-9a-f]{8}", name) for name in names)


def test_an_unknown_name_names_the_nearest() -> None:
    assert not is_registered("ml-1")
    with pytest.raises(ConfigError, match="did you mean 'ml-1m'"):
        source_of("ml-1")
