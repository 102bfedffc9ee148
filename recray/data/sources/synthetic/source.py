"""The synthetic data set as a source: events, film-like items and users from the planted truth."""

import datetime
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recray.config import to_dict
from recray.data.source import RawTables
from recray.data.sources.synthetic.truth import (
    AGES,
    GENDERS,
    OCCUPATIONS,
    SyntheticConfig,
    Truth,
    draw_events,
    plant,
)
from recray.data.sources.synthetic.words import GENRES, MOODS, film, num_patterns


@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """Raw ids are 1..N in the order of the truth's rows."""

    name: str = "synthetic"
    config: SyntheticConfig = field(default_factory=SyntheticConfig)

    @property
    def reader(self) -> str:
        return "synthetic"

    def options(self) -> dict[str, Any]:
        return {"config": to_dict(self.config)}

    def read(self, scratch: Path) -> RawTables:
        truth = plant(self.config)
        events = draw_events(truth)
        interactions = pl.DataFrame(
            {
                "user": truth.sessions.user_ids_S[events.session_ids_N] + 1,
                "item": events.item_ids_N + 1,
                "rating": events.ratings_N,
                "timestamp": events.timestamps_N,
            }
        )
        return RawTables(
            interactions=interactions, users=_users(truth), items=_items(truth), rating_range=(1, 5)
        )


def _users(truth: Truth) -> pl.DataFrame:
    users = truth.users
    return pl.DataFrame(
        {
            "raw_id": _raw_ids(truth.config.num_users),
            "age": np.array(AGES, dtype=np.int32)[users.ages_U],
            "gender": [GENDERS[g] for g in users.genders_U],
            "occupation": [OCCUPATIONS[o] for o in users.occupations_U],
        }
    )


def _items(truth: Truth) -> pl.DataFrame:
    items = truth.items
    names = list(GENRES)
    rng = np.random.default_rng([truth.config.seed, 5])
    noun_I, pattern_I = (
        rng.integers(8, size=len(items.moods_I)),
        rng.integers(num_patterns(), size=len(items.moods_I)),
    )
    made: Counter[tuple[int, int, int, int]] = Counter()
    titles, texts, genres, years = [], [], [], []
    for i, (first, second) in enumerate(items.genres_I2.tolist()):
        kinds = tuple(names[g] for g in (first, second) if g >= 0)
        noun = GENRES[names[first]][noun_I[i]]
        key = (int(items.moods_I[i]), first, int(noun_I[i]), int(pattern_I[i]))
        made[key] += 1
        year = datetime.datetime.fromtimestamp(int(items.released_I[i]), datetime.UTC).year
        title, text = film(MOODS[key[0]], noun, kinds, key[3], made[key], year)
        titles.append(title)
        texts.append(text)
        genres.append(list(kinds))
        years.append(year)
    columns = {
        "raw_id": _raw_ids(len(titles)),
        "title": titles,
        "year": years,
        "genres": genres,
        "text": texts,
    }
    return pl.DataFrame(columns).with_columns(pl.col("year").cast(pl.Int32))


def _raw_ids(size: int) -> list[str]:
    return [str(i + 1) for i in range(size)]
