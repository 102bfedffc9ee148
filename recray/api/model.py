"""A trained model in a notebook: asked by the stages that a server asks, published when it is good."""

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from rich.table import Table

from recray.api.shown import Shown
from recray.bundles.promotion import promote
from recray.features.ranking.context import as_text
from recray.schema import DataError, ProtocolCard
from recray.serve.http.answers import Item, SimilarItem
from recray.serve.http.requests import RecommendRequest, RequestError, parse
from recray.serve.place.pipeline import Pipeline
from recray.serve.query import MAX_K
from recray.serve.versions import open_served
from recray.store import Bundle, Store, StoreError, run_record
from recray.store.drafts import Drafts
from recray.train.run import Measured

Ids: TypeAlias = Iterable[str | int]
_PLACES = {"place": pl.Int64, "item": pl.String, "title": pl.String, "score": pl.Float64}


@dataclass(frozen=True, repr=False)
class Model(Shown):
    """A trained version, ready to be asked: of the store, or not yet published."""

    bundle: Bundle
    measured: Measured | None = None
    """By ``fit``; None: as ``metrics`` say."""
    store: Store = field(default_factory=Store)

    @property
    def reference(self) -> str:
        """``NAME:NUMBER``; before it is published, ``NAME``."""
        manifest = self.bundle.manifest
        return manifest.name if self._is_draft else f"{manifest.name}:{manifest.version}"

    @property
    def title(self) -> str:
        """What it is called beside others: its kind, or once it is published its reference."""
        return run_record(self.bundle).recipe if self._is_draft else self.reference

    @property
    def metrics(self) -> dict[str, Any]:
        """On the test part of its split, of the model that had not learnt it."""
        return dict(self.bundle.manifest.metrics)

    @property
    def card(self) -> ProtocolCard | None:
        """What ``metrics`` were measured under."""
        return self.bundle.manifest.card

    def recommend(
        self, users: Ids | Iterable[Ids] | Mapping[Any, Ids], k: int = 10, *, exclude: Ids = (), at: int = 0
    ) -> pl.DataFrame:
        """The lists that a server would answer with: user, place, item, title, score, source, fallback.

        Args:
            users: ids; or histories, items that somebody chose, oldest first: a list of such, or a mapping
                from names to them.
            k: length of a list.
            exclude: items that must not come back.
            at: unix seconds, when it is asked; 0: just after the newest event that it knows.

        Raises:
            ConfigError: it is a model of rows, or a damaged version.
            DataError: no such item, or k is out of bounds.
        """
        at = at or (self._pipeline.known_until or 0) + 1
        common = {"k": k, "exclude": _listed(exclude), "request_time": at, "strict": True}
        rows = []
        for user, asked in _asked(users):
            with _said():
                request = parse(json.dumps(asked | common, default=_plain).encode(), RecommendRequest)
                answer = self._pipeline.recommend(request)
            rows += [
                (
                    user,
                    place,
                    item["item_id"],
                    item["title"],
                    item["score"],
                    item["source"],
                    answer["fallback"],
                )
                for place, item in enumerate(answer["items"], start=1)
            ]
        kinds = {"user": pl.String, **_PLACES, "source": pl.String, "fallback": pl.String}
        found = pl.DataFrame(rows, schema=kinds, orient="row")
        return found.with_columns(pl.col("score").fill_nan(None))  # what has none, as servers say it

    def similar(self, items: Ids, k: int = 10) -> pl.DataFrame:
        """What resembles each of some items most: of, place, item, title, score.

        Raises:
            DataError: no such item, or k is out of bounds.
        """
        rows = []
        if not (isinstance(k, int | np.integer) and 1 <= k <= MAX_K):
            raise DataError(f"k must be a whole number from 1 to {MAX_K}, got {k!r}")
        for item in _listed(items):
            with _said():
                answer = self._pipeline.similar(item.strip(), int(k))
            rows += [(item, place, *_told(found)) for place, found in enumerate(answer["items"], start=1)]
        return pl.DataFrame(rows, schema={"of": pl.String, **_PLACES}, orient="row")

    def history(self, user: str | int, last: int = 20) -> pl.DataFrame:
        """What a user did, as far as the version knows: item, title, time; the newest first."""
        known, catalogue = self._pipeline.known, self._pipeline.catalogue
        row = catalogue.user_rows.get(_id(user).strip())
        kinds: dict[str, Any] = {"item": pl.String, "title": pl.String, "time": pl.Datetime("ms", "UTC")}
        if known is None or row is None:
            return pl.DataFrame(schema=kinds)
        done = known.events_before(row, known.newest + 1)
        rows = [
            (catalogue.item_raw_ids[item], catalogue.titles[item], int(time) * 1_000)
            for item, time in zip(done.item_ids_H[::-1][:last], done.times_H[::-1][:last], strict=True)
        ]
        return pl.DataFrame(rows, schema=kinds, orient="row")

    def publish(self, *, to_production: bool = False) -> "Model":
        """The same as a new version of the store, which outlives this process.

        Args:
            to_production: it is what servers answer with, from now on.
        Raises:
            StoreError: it is published already, or made to be compared with only.
        """
        manifest = self.bundle.manifest
        if not self._is_draft:
            raise StoreError(f"{self.reference} is published; `recray promote` puts it into production")

        def write(folder: Path) -> None:
            for file in manifest.files:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.bundle.folder / file, folder / file)

        store = Store()
        bundle = store.publish(
            manifest.name,
            write,
            model=manifest.model,
            config=manifest.config,
            schema=manifest.schema,
            card=manifest.card,
            metrics=manifest.metrics,
            requires=manifest.requires,
            run=manifest.run,
        )
        if to_production:
            promote(store, manifest.name, bundle.manifest.version)
        return Model(bundle, self.measured, store)

    def shown(self) -> Iterator[Table]:
        card = self.card
        title = f"{self.reference}{' (not published)' if self._is_draft else ''}"
        caption = f"{card.split}, {card.target}, {card.asked}" if card else None
        grid = Table(title=title, caption=caption)
        told = {name: value for name, value in self.metrics.items() if "@" in name or not card}
        for name in told:
            grid.add_column(name, justify="right")
        grid.add_row(*(f"{value:.4f}" for value in told.values()))
        yield grid

    @property
    def _is_draft(self) -> bool:
        return isinstance(self.store, Drafts)

    @cached_property
    def _pipeline(self) -> Pipeline:
        manifest = self.bundle.manifest
        return Pipeline(open_served(self.store, manifest.name, manifest.version))


def open(reference: str) -> Model:
    """A published version: ``shop-sasrec:3``, ``shop-sasrec:latest``; ``shop-sasrec``: that in production.

    Raises:
        StoreError: there is none; says which there are.
    """
    name, _, version = reference.partition(":")
    store = Store()
    return Model(store.open(name, version or "production"), None, store)


def _asked(users: Ids | Iterable[Ids] | Mapping[Any, Ids]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name of each list, and what of a request says whom it is for."""
    if isinstance(users, Mapping):
        for name, history in users.items():
            yield str(name), {"history": _listed(history)}
        return
    for place, one in enumerate(_several(users)):
        if isinstance(one, Iterable) and not isinstance(one, str):
            yield str(place), {"history": [_id(item) for item in one]}
        else:
            yield _id(one), {"user_id": _id(one)}


def _listed(ids: Ids) -> list[str]:
    return [_id(one) for one in _several(ids)]


def _several(values: object) -> Iterable[object]:
    """One id is a list of one.

    Raises:
        DataError: it is a frame, of which nobody said which column is meant.
    """
    if hasattr(values, "columns"):
        raise DataError("a frame has several columns: give the one with the ids, such as frame['user']")
    return values if isinstance(values, Iterable) and not isinstance(values, str) else [values]


def _id(value: object) -> str:
    """As data has it: ``7.0`` is ``7``, what a column of numbers with a gap becomes.

    Raises:
        DataError: it is nobody's and nothing's.
    """
    if isinstance(value, str):
        return str(value)
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, bool) or not isinstance(plain, int | float) or not math.isfinite(plain):
        raise DataError(f"an id is text or a number, got {value!r}: leave it out")
    return as_text(plain)


def _plain(value: object) -> object:
    """A number of NumPy's as Python's; what is none is refused by what asks for it."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _told(item: Item | SimilarItem) -> tuple[str, str | None, float | None]:
    return item["item_id"], item["title"], item["score"]


@contextmanager
def _said() -> Iterator[None]:
    """What a server would answer with a status is an error here."""
    try:
        yield
    except RequestError as error:
        raise DataError(error.message) from None
