"""One version of an application: the bundles behind it, and what several stages read of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl
import torch
from cachetools import LRUCache
from torch import nn

from recray.arrays import Float32s, Int64s
from recray.bundles.clicks import scores_rows
from recray.bundles.decoder import GenerativeFiles, load_decoder, read_generative
from recray.bundles.freshness import read_ages
from recray.bundles.log import read_log
from recray.bundles.newcomers import Newcomers
from recray.bundles.ranker import read_ranker
from recray.bundles.retriever import (
    COUNT_COLUMN,
    RetrieverFiles,
    read_catalogue,
    read_item_vectors,
    read_retriever,
)
from recray.bundles.weights import load_model
from recray.contract import Scorer
from recray.eval.ages import helps_until
from recray.features.candidates import Candidates, popular_first
from recray.features.log import EVENT_FILE, EventLog
from recray.features.look_ups import LookUps
from recray.models.decoder import Decoder
from recray.serve.barred import Barred
from recray.serve.item_content import Fitting, Values, table_of
from recray.serve.version import Version, version
from recray.store import Bundle, Reference, Store, StoreError
from recray.store.names import stacks

USERS_REMEMBERED = 4_096  # of 250 candidates: three kilobytes each


@dataclass(frozen=True)
class ServedBundles:
    """The bundles behind one version, by the role that answers name them by.

    ``ranker`` (fixes its retriever by digest) and ``retriever``, or a retriever alone; ``generative``: a
    decoder that proposes candidates beside the retriever's, chosen by whoever serves. Or ``scorer``: a model
    of rows.
    """

    by_role: dict[str, Bundle]

    @property
    def first(self) -> Bundle:
        """The bundle of the version that a name of the store points at."""
        return next(self.by_role[role] for role in ("ranker", "retriever", "scorer") if role in self.by_role)

    @property
    def reference(self) -> Reference:
        return self.first.reference

    @property
    def retriever(self) -> Bundle:
        """
        Raises:
            StoreError: the version is a model of rows.
        """
        if "retriever" not in self.by_role:
            raise StoreError(f"{self.reference} scores rows, it recommends nothing: ask it at /score")
        return self.by_role["retriever"]

    @property
    def ranker(self) -> Bundle | None:
        return self.by_role.get("ranker")

    @property
    def second_source(self) -> Bundle | None:
        return self.by_role.get("generative")

    @property
    def scorer(self) -> Bundle | None:
        return self.by_role.get("scorer")

    @property
    def measured(self) -> "ServedBundles":
        """The models that the metrics are of; see ``Bundle.measured``."""
        return ServedBundles({role: bundle.measured for role, bundle in self.by_role.items()})

    @property
    def is_generative(self) -> bool:
        """Whether a decoder answers in the place of a retriever."""
        return self.retriever.manifest.model == "decoder"

    @property
    def keeps_seen(self) -> bool:
        """Whether the version was measured with lists that may hold what a user has seen."""
        card = self.first.manifest.card
        return card is not None and card.seen == "kept"

    def versions(self) -> dict[str, Version]:
        return {role: version(bundle.reference) for role, bundle in self.by_role.items()}

    def verify(self) -> None:
        """Reads every file; raises ``StoreError`` where one was damaged."""
        for bundle in self.by_role.values():
            bundle.verify()


def open_served(
    store: Store, application: str, version: int | str = "production", second_source: str = ""
) -> ServedBundles:
    """The bundles of an application's version, and the production version of a decoder beside it.

    Raises:
        StoreError: there is no such version, or the retriever that it was made for is not in the store.
    """
    bundle = store.open(application, version)
    if needed := bundle.manifest.requires.get("retriever"):
        found = {"retriever": store.resolve(needed), "ranker": bundle}
    else:
        found = {"scorer" if scores_rows(bundle) else "retriever": bundle}
    if second_source:
        found["generative"] = store.open(second_source)
    return ServedBundles(found)


def to_try(store: Store, application: str, name: str) -> Iterator[int | str]:
    """The version that a name points at, then those that it can be rolled back to, newest first.

    Raises:
        StoreError: after the first, where the promotions cannot be read.
    """
    yield name
    stood_on = [move.version for move in stacks(store.history(application)).get(name, [])]
    yield from list(dict.fromkeys(reversed(stood_on)))[1:]


def first_that_opens(
    store: Store, application: str, name: str = "production", second_source: str = ""
) -> ServedBundles:
    """The bundles behind a name; where they cannot be opened, those of the name's last version that can.

    Raises:
        StoreError: none can; says why of the one that the name points at.
    """
    problem: StoreError | None = None
    try:
        for version in to_try(store, application, name):
            try:
                return open_served(store, application, version, second_source)
            except StoreError as error:
                problem = problem or error
    except StoreError as error:  # of the promotions
        problem = problem or error
    assert problem is not None
    raise problem


class OpenedVersion:
    """What the stages of one version are made from; each part is read when it is first wanted.

    Raises, when a part is read:
        ConfigError, DataError: it is damaged or does not fit this code; says which and why.
    """

    def __init__(self, bundles: ServedBundles, told: Callable[[EventLog], LookUps] = lambda log: log) -> None:
        """
        Args:
            told: what is known instead of the log, such as more or less of it.
        """
        self.bundles, self._told = bundles, told

    @property
    def is_generative(self) -> bool:
        return self.bundles.is_generative

    @cached_property
    def event_log(self) -> LookUps | None:
        """What known users did: of the ranker, or of a retriever or decoder that answers alone."""
        holder = self.bundles.first
        return self._told(read_log(holder)) if EVENT_FILE in holder.manifest.files else None

    @property
    def ranker_helps_until(self) -> int | None:
        """Age in seconds of what is known, from which on the retriever's own order is the better one."""
        return helps_until(read_ages(self.bundles.ranker)) if self.bundles.ranker else None

    @cached_property
    def decoder_files(self) -> GenerativeFiles:
        return read_generative(self.bundles.retriever)

    @cached_property
    def decoder(self) -> Decoder:
        return load_decoder(self.bundles.retriever, self.decoder_files.codes)

    @cached_property
    def catalogue(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """(users, items): row = id; raw_id, title where known, and side columns."""
        if self.is_generative:
            return self.decoder_files.users, self.decoder_files.items
        return read_catalogue(self.bundles.retriever)

    @property
    def num_published(self) -> int:
        """Items that its bundles know."""
        return len(self.catalogue[1])

    @property
    def new_raw_ids(self) -> Sequence[str]:
        """Of the items behind those that its bundles know."""
        return ()

    @cached_property
    def barred(self) -> Barred:
        """What must not be served of it: its stages share it."""
        return Barred(len(self.catalogue[1]))

    @cached_property
    def recent(self) -> LRUCache[int, Candidates]:
        """What the first stage found for users before; of one thread, and of what goes on with it."""
        return LRUCache(USERS_REMEMBERED)

    @cached_property
    def popular_first_I(self) -> Int64s:
        """All items, most training events first, ties by id; reads no vectors of a retriever."""
        if self.is_generative:
            return popular_first(self.decoder_files.item_counts_I)
        return popular_first(self.catalogue[1][COUNT_COLUMN].cast(pl.Int64).to_numpy())

    @cached_property
    def ranker(self) -> Scorer | None:
        """Needs the event log that its features look into."""
        return read_ranker(self.bundles.ranker) if self.bundles.ranker and self.event_log else None

    @cached_property
    def user_rows(self) -> Mapping[str, int]:
        """Of raw ids."""
        return rows_of(self.catalogue[0])

    @cached_property
    def item_rows(self) -> Mapping[str, int]:
        """Of raw ids."""
        return rows_of(self.catalogue[1])

    @cached_property
    def retriever_files(self) -> RetrieverFiles:
        return read_retriever(self.bundles.retriever)

    @cached_property
    def retriever_model(self) -> nn.Module:
        return load_model(self.bundles.retriever)

    @cached_property
    def fitting(self) -> Fitting:
        """What its columns can hold of what is said of items."""
        return Fitting(self.catalogue[1].schema)

    def knows(self, content: Mapping[str, Values]) -> set[str]:
        """The items, by raw id, of which its own table says just that."""
        told = [raw for raw in content if raw in self.item_rows]
        items = self.catalogue[1][[self.item_rows[raw] for raw in told]]
        rows = items.iter_rows(named=True)
        said = [{**row, **self.fitting(raw, content[raw])} for raw, row in zip(told, rows, strict=True)]
        table = table_of(said, items.schema)
        same = [table[name].eq_missing(items[name]).to_list() for name in items.columns]
        return {raw for raw, *each in zip(told, *same, strict=True) if all(each)}

    @cached_property
    def newcomers(self) -> Newcomers:
        """Makes its retriever know more items."""
        return Newcomers(self.bundles.retriever.manifest, self.retriever_files, self.retriever_model)

    def item_vectors(self) -> Float32s:
        """item_ID: of the retriever, or of a decoder the embeddings of each item's content codes."""
        if self.is_generative:
            return code_vectors(self.decoder, self.decoder_files)
        return read_item_vectors(self.bundles.retriever)


def rows_of(frame: pl.DataFrame) -> dict[str, int]:
    """The row of each raw id."""
    return {raw: row for row, raw in enumerate(frame["raw_id"].cast(pl.String).to_list())}


def code_vectors(model: Decoder, files: GenerativeFiles) -> Float32s:
    """item_ID: the embeddings of each item's content codes, summed and scaled to length 1."""
    codes_IL = torch.from_numpy(files.codes.content_codes())
    first_L = model.get_buffer("first_L")[: codes_IL.shape[1]]
    with torch.inference_mode():
        summed_ID = torch.nn.functional.embedding_bag(codes_IL + first_L, model.codes.weight, mode="sum")
        unit_ID: Float32s = torch.nn.functional.normalize(summed_ID.float(), dim=1).numpy()
    return unit_ID
