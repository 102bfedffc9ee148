"""Data sets made by hand and small raw archives in the formats of the readers."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from recray.data.events.dataset import Dataset, Manifest
from recray.data.source import ABSOLUTE_TIMES

Row = tuple[int, int, int]  # user id, item id, unix seconds


def dataset_of(
    rows: list[Row],
    *,
    times: str = ABSOLUTE_TIMES,
    name: str = "made",
    ratings: Sequence[float] | None = None,
    types: Sequence[str] | None = None,
    parts: Sequence[int] | None = None,
) -> Dataset:
    """In memory, ids as given, ordered as ``prepare`` orders: by time, ties as listed.

    Args:
        ratings, types, parts: of each row, as they are listed.
    """
    order = np.argsort([row[2] for row in rows], kind="stable")
    users, items, seconds = (np.array(column, dtype=np.int64)[order] for column in zip(*rows, strict=True))
    kinds = sorted(set(types or ()))
    num_users, num_items = int(users.max()) + 1, int(items.max()) + 1
    return Dataset(
        folder=Path("made"),
        manifest=Manifest(
            name=name,
            source="made",
            num_users=num_users,
            num_items=num_items,
            num_interactions=len(rows),
            k_core=0,
            options={"times": times},
            hash="0" * 64,
            created_at="2020-01-01T00:00:00+00:00",
            event_types=tuple(kinds),
        ),
        user_ids_N=users,
        item_ids_N=items,
        ratings_N=np.array([1.0] * len(rows) if ratings is None else ratings, dtype=np.float32)[order],
        timestamps_N=seconds,
        users=pl.DataFrame({"raw_id": [f"u{i}" for i in range(num_users)]}),
        items=pl.DataFrame({"raw_id": [f"i{i}" for i in range(num_items)]}),
        event_types_N=None if types is None else np.array([kinds.index(t) for t in types], np.int8)[order],
        given_parts_N=None if parts is None else np.array(parts, np.int8)[order],
    )


def zip_of(path: Path, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


RATINGS_100K = "2\t20\t3\t874724720\n1\t10\t5\t874724710\n1\t20\t4\t874724720\n2\t10\t1\t874724730\n"
ITEMS_100K = (
    "10|Café (1995)|01-Jan-1995||http://x|0|1|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    "20|No Year|||http://y|0|0|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0\n"
    "30|Never Rated (1996)|||http://z|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
)
USERS_100K = "1|24|M|technician|85711\n2|53|F|other|94043\n"


def ml_100k(path: Path, ratings: str = RATINGS_100K) -> Path:
    members: dict[str, str | bytes] = {
        "ml-100k/u.data": ratings,
        "ml-100k/u.item": ITEMS_100K.encode("latin-1"),
        "ml-100k/u.user": USERS_100K,
    }
    return zip_of(path, members)


MOVIES_1M = "10::Mission: Impossible (1996)::Action|Thriller\n20::Amélie (2001)::Comedy\n"
MOVIES_25M = """movieId,title,genres
10,"American President, The (1995)",Comedy|Drama
209171,Ω,(no genres listed)
"""


def ml_1m(
    path: Path, ratings: str = "1::10::5::978300760\n2::20::3::978300761\n1::20::4::978300759\n"
) -> Path:
    return zip_of(
        path,
        {
            "ml-1m/ratings.dat": ratings,
            "ml-1m/movies.dat": MOVIES_1M.encode("latin-1"),
            "ml-1m/users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
        },
    )


def ml_25m(path: Path, ratings: str | None = None, movies: str | None = None) -> Path:
    rows = ratings or "userId,movieId,rating,timestamp\n1,10,5.0,1147880044\n7,209171,0.5,1147868817\n"
    return zip_of(path, {"ml-25m/ratings.csv": rows, "ml-25m/movies.csv": movies or MOVIES_25M})
