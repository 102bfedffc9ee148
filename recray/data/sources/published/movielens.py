"""MovieLens 100K, latest-small, 1M, 25M and 32M from the raw zips of GroupLens.

F. M. Harper and J. A. Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from recray import paths
from recray.config import ConfigError, nearest
from recray.data.source import RawTables, no_side_table
from recray.data.sources.files.archive import Archive, open_archive, verify_checksum
from recray.data.sources.files.download import download
from recray.data.sources.files.raw_files import find_raw, fingerprint, require_file, where_to_put
from recray.data.sources.published.delimited import Layout, Role, read_events
from recray.schema import DataError

Format = Literal["100k", "1m", "csv"]
GENRES_100K = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
]  # fmt: skip
_OCCUPATION_NAMES = [
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer",
    "programmer", "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer",
    "tradesman/craftsman", "unemployed", "writer",
]  # fmt: skip
OCCUPATIONS_1M = {str(code): name for code, name in enumerate(_OCCUPATION_NAMES)}


@dataclass(frozen=True, kw_only=True)
class Variant:
    format: Format
    checksum: str  # "algorithm:hex" of the archive at GroupLens
    size_bytes: int
    rating_range: tuple[float, float]

    def url(self, name: str) -> str:
        return f"https://files.grouplens.org/datasets/movielens/{name}.zip"


VARIANTS: dict[str, Variant] = {
    "ml-100k": Variant(
        format="100k",
        checksum="sha256:50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        size_bytes=4_924_029,
        rating_range=(1, 5),
    ),
    "ml-latest-small": Variant(
        format="csv",
        checksum="sha256:696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
        size_bytes=978_202,
        rating_range=(0.5, 5),
    ),
    "ml-1m": Variant(
        format="1m",
        checksum="sha256:a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        size_bytes=5_917_549,
        rating_range=(1, 5),
    ),
    "ml-25m": Variant(
        format="csv",
        checksum="md5:6b51fb2759a8657d3bfcbfc42b592ada",
        size_bytes=261_978_986,
        rating_range=(0.5, 5),
    ),
    "ml-32m": Variant(
        format="csv",
        checksum="md5:d472be332d4daa821edc399621853b57",
        size_bytes=238_950_008,
        rating_range=(0.5, 5),
    ),
}


@dataclass(frozen=True, kw_only=True)
class MovieLens:
    """One MovieLens archive. ``archive`` None: ``<name>.zip`` in the raw folders, else a download."""

    name: str
    archive: Path | None = None
    allow_download: bool = True

    def __post_init__(self) -> None:
        if self.name not in VARIANTS:
            raise ConfigError(f"no MovieLens called {self.name!r}{nearest(self.name, VARIANTS)}")

    @property
    def reader(self) -> str:
        return "movielens"

    def options(self) -> dict[str, Any]:
        return {"archive": f"{self.name}.zip" if self.archive is None else fingerprint(self.archive)}

    def read(self, scratch: Path) -> RawTables:
        variant, path = VARIANTS[self.name], self._locate()
        found = verify_checksum(path, variant.checksum)
        with open_archive(path) as archive:
            events = _read_ratings(archive, variant.format, scratch)
            users, items = _SIDE_TABLES[variant.format](archive)
        return RawTables(
            interactions=events,
            users=users,
            items=items,
            rating_range=variant.rating_range,
            files={path.name: found},
        )

    def _locate(self) -> Path:
        if self.archive is not None:
            require_file(self.archive)
            return self.archive
        found = find_raw(f"{self.name}.zip")
        if found:
            return found
        if not self.allow_download:
            raise DataError(f"{self.name} is not at hand: {where_to_put(f'{self.name}.zip')}")
        url = VARIANTS[self.name].url(self.name)
        return download(
            url, paths.raw_dirs()[-1] / f"{self.name}.zip", otherwise=where_to_put(f"{self.name}.zip")
        )


def _read_ratings(archive: Archive, form: Format, scratch: Path) -> pl.DataFrame:
    member = archive.find({"100k": "u.data", "1m": "ratings.dat", "csv": "ratings.csv"}[form])
    path = archive.extract(member, scratch)
    if form == "1m":
        # Polars takes separators of one byte; the fields are numbers, so none holds a tab.
        path.write_bytes(path.read_bytes().replace(b"::", b"\t"))
    roles: tuple[Role, ...] = ("user", "item", "rating", "timestamp")
    names = ("userId", "movieId", "rating", "timestamp")
    layout = Layout(
        columns=dict(zip(roles, names, strict=True)),
        dtypes={"user": pl.Int32, "item": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64},
        names=None if form == "csv" else names,
        separator="," if form == "csv" else "\t",
        quoted=form == "csv",
    )
    events = read_events(path, layout, label=archive.label(member))
    path.unlink()
    return events


def _side_tables_100k(archive: Archive) -> tuple[pl.DataFrame, pl.DataFrame]:
    users = _split(archive, "u.user", "|", 5)
    items = _split(archive, "u.item", "|", 5 + len(GENRES_100K))
    genres = [[g for g, flag in zip(GENRES_100K, row[5:], strict=True) if flag == "1"] for row in items]
    return (
        _users(
            [row[0] for row in users],
            [row[1] for row in users],
            [row[2] for row in users],
            [row[3] for row in users],
        ),
        _items([row[0] for row in items], [row[1] for row in items], genres),
    )


def _side_tables_1m(archive: Archive) -> tuple[pl.DataFrame, pl.DataFrame]:
    users = _split(archive, "users.dat", "::", 5)
    items = _split(archive, "movies.dat", "::", 3)
    occupations = [OCCUPATIONS_1M.get(row[3]) for row in users]
    return (
        _users([row[0] for row in users], [row[2] for row in users], [row[1] for row in users], occupations),
        _items([row[0] for row in items], [row[1] for row in items], [row[2].split("|") for row in items]),
    )


def _side_tables_csv(archive: Archive) -> tuple[pl.DataFrame, pl.DataFrame]:
    member = archive.find("movies.csv")
    rows = list(csv.reader(archive.lines(member)))
    if not any(rows):
        raise DataError(f"{archive.label(member)} is empty: fetch the original archive")
    for number, row in enumerate(rows, start=1):
        if len(row) != 3 and row:
            raise DataError(
                f"{archive.label(member)}, row {number}: {len(row)} fields instead of 3 "
                "(movieId,title,genres)"
            )
    rows = [row for row in rows if row]
    genres = [[g for g in row[2].split("|") if g != "(no genres listed)"] for row in rows[1:]]
    return no_side_table(), _items([row[0] for row in rows[1:]], [row[1] for row in rows[1:]], genres)


_SIDE_TABLES = {"100k": _side_tables_100k, "1m": _side_tables_1m, "csv": _side_tables_csv}


def _split(archive: Archive, ending: str, separator: str, num_fields: int) -> list[list[str]]:
    member = archive.find(ending)
    rows = [line.split(separator) for line in archive.lines(member, "latin-1")]
    for number, row in enumerate(rows, start=1):
        if len(row) != num_fields and row != [""]:
            raise DataError(
                f"{archive.label(member)}, line {number}: {len(row)} fields instead of {num_fields}: "
                "fetch the original archive"
            )
    return [row for row in rows if row != [""]]


def _users(
    ids: list[str], ages: list[str], genders: list[str], occupations: Sequence[str | None]
) -> pl.DataFrame:
    columns = {"raw_id": ids, "age": ages, "gender": genders, "occupation": occupations}
    return pl.DataFrame(columns).with_columns(pl.col("age").cast(pl.Int32, strict=False))


def _items(ids: list[str], titles: list[str], genres: list[list[str]]) -> pl.DataFrame:
    years = [int(match[1]) if (match := re.search(r"\((\d{4})\)\s*$", title)) else None for title in titles]
    return pl.DataFrame(
        {"raw_id": ids, "title": titles, "year": years, "genres": genres},
        schema={"raw_id": pl.String, "title": pl.String, "year": pl.Int32, "genres": pl.List(pl.String)},
    )
