"""MovieLens readers on planted archives of each format, and the known counts of the real ones."""

import logging
from pathlib import Path

import numpy as np
import pytest

from recray.config import ConfigError
from recray.data.events.prepare import prepare
from recray.data.sources.published.movielens import VARIANTS, MovieLens
from recray.schema import DataError
from tests.conftest import raw_file
from tests.data import made


def test_100k(tmp_path: Path) -> None:
    dataset = prepare(
        MovieLens(name="ml-100k", archive=made.ml_100k(tmp_path / "ml-100k.zip")), tmp_path / "out"
    )
    assert dataset.items["title"].to_list() == [
        "Café (1995)",
        "No Year",
    ]  # the unrated film is not in the catalogue
    assert dataset.items["year"].to_list() == [1995, None]
    assert dataset.items["genres"].to_list() == [["Action", "Comedy"], ["Drama"]]
    assert dataset.users.rows() == [("1", 24, "M", "technician"), ("2", 53, "F", "other")]
    # By time; the tie at 874724720 in the order of the file: user 2 first.
    assert dataset.user_ids_N.tolist() == [0, 1, 0, 1]
    assert dataset.item_ids_N.tolist() == [0, 1, 1, 0]
    assert dataset.ratings_N.tolist() == [5.0, 3.0, 4.0, 1.0]


def test_1m(tmp_path: Path) -> None:
    dataset = prepare(MovieLens(name="ml-1m", archive=made.ml_1m(tmp_path / "ml-1m.zip")), tmp_path / "out")
    assert dataset.items["title"].to_list() == ["Mission: Impossible (1996)", "Amélie (2001)"]
    assert dataset.items["genres"].to_list() == [["Action", "Thriller"], ["Comedy"]]
    assert dataset.users.rows() == [("1", 1, "F", "K-12 student"), ("2", 56, "M", "self-employed")]
    assert dataset.timestamps_N.tolist() == [978300759, 978300760, 978300761]


def test_a_latin_1_archive_that_was_saved_as_utf_8_reads_the_same(tmp_path: Path) -> None:
    path = made.zip_of(
        tmp_path / "ml-1m.zip",
        {
            "ratings.dat": "1::20::3::978300761\n",
            "movies.dat": "20::Amélie (2001)::Comedy\n".encode(),
            "users.dat": "1::F::1::10::48067\n",
        },
    )
    assert prepare(MovieLens(name="ml-1m", archive=path), tmp_path / "out").items["title"].to_list() == [
        "Amélie (2001)"
    ]


@pytest.mark.parametrize("name", ["ml-25m", "ml-32m", "ml-latest-small"])
def test_the_csv_formats(tmp_path: Path, name: str) -> None:
    dataset = prepare(MovieLens(name=name, archive=made.ml_25m(tmp_path / f"{name}.zip")), tmp_path / "out")
    assert dataset.items["raw_id"].to_list() == ["10", "209171"]
    assert dataset.items["title"].to_list() == ["American President, The (1995)", "Ω"]
    assert dataset.items["genres"].to_list() == [["Comedy", "Drama"], []]
    assert dataset.users.columns == ["raw_id"]
    assert dataset.ratings_N.tolist() == [0.5, 5.0]


def test_another_checksum_is_a_warning_with_both_sums(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = made.ml_100k(tmp_path / "ml-100k.zip")
    with caplog.at_level(logging.WARNING):
        dataset = prepare(MovieLens(name="ml-100k", archive=path), tmp_path / "out")
    found = dataset.manifest.options["raw_files"]["ml-100k.zip"]
    assert found in caplog.text
    assert VARIANTS["ml-100k"].checksum in caplog.text


def test_an_unknown_variant_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'ml-25m'"):
        MovieLens(name="ml-25")


def test_a_missing_archive_says_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECRAY_RAW_DIR", str(tmp_path / "raw"))
    with pytest.raises(DataError, match=r"put ml-32m\.zip into .*raw"):
        prepare(MovieLens(name="ml-32m", allow_download=False), tmp_path / "out")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "users", "items", "rows", "first", "last"),
    [
        ("ml-100k", 943, 1_682, 100_000, 874724710, 893286638),
        ("ml-latest-small", 610, 9_724, 100_836, 828124615, 1537799250),
        ("ml-1m", 6_040, 3_706, 1_000_209, None, None),
    ],
)
def test_real_counts(
    tmp_path: Path, name: str, users: int, items: int, rows: int, first: int | None, last: int | None
) -> None:
    dataset = prepare(MovieLens(name=name, archive=raw_file(f"{name}.zip")), tmp_path / name)
    assert (dataset.num_users, dataset.num_items, len(dataset)) == (users, items, rows)
    assert dataset.items["title"].null_count() == 0
    if first:
        assert (dataset.timestamps_N[0], dataset.timestamps_N[-1]) == (first, last)
    if name == "ml-1m":
        assert np.unique(dataset.ratings_N, return_counts=True)[1].tolist() == [
            56174,
            107557,
            261197,
            348971,
            226310,
        ]
