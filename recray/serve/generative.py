"""The retrieval stage of a decoder, alone or as one more source of candidates beside an index.

Shapes: U users, I items, L levels, D width of a code's embedding, K candidates.
"""

from dataclasses import replace

import numpy as np
import polars as pl
import torch

from recray.arrays import Float32s, Int64s
from recray.bundles.decoder import GenerativeFiles, load_decoder, read_generative
from recray.config import ConfigError
from recray.features.candidates import GENERATIVE, Candidates, popular_first, popular_only
from recray.features.log import EventLog
from recray.models.decoder import Decoder
from recray.serve.catalogue import UNKNOWN_USER, Query
from recray.serve.clock import StageClock
from recray.serve.generator import Generator, GeneratorConfig
from recray.serve.stages import Retrieved, history_of, seen_by
from recray.store import Bundle

NOTHING = Candidates(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.uint8))


class GenerativeRetrieval:
    """Retrieve and filter in one: seen items are excluded inside the beam search.

    Where there is no history to continue, popular items stand in. Scores are log probabilities.
    """

    def __init__(
        self, files: GenerativeFiles, model: Decoder, log: EventLog | None, config: GeneratorConfig
    ) -> None:
        self._log = log
        self._generator = Generator(model, files.item_counts_I, config)
        self._popular_first_I = popular_first(files.item_counts_I)
        self._item_ID = code_vectors(model, files)

    def retrieve(self, query: Query, clock: StageClock) -> Retrieved:
        """``query.k`` items, unless fewer of the catalogue are unseen. Books ``filter`` and ``generate``."""
        seen_ids, history_ids = seen_by(query, self._log), history_of(query, self._log).item_ids_H
        clock.lap("filter")
        if not len(history_ids):
            candidates = popular_only(self._popular_first_I, seen_ids, query.k)
            clock.lap("retrieve")
            return Retrieved(candidates, "popular")
        found = self._generator.generate(query.user_id, history_ids, seen_ids, query.time, query.k)
        clock.lap("generate")
        return Retrieved(found, None)

    def similar(self, item_id: int, k: int) -> Candidates:
        """The k items whose content codes have the most similar embeddings; scores are cosines."""
        scores_I = self._item_ID @ self._item_ID[item_id]
        scores_I[item_id] = -np.inf
        item_ids_K = np.argsort(-scores_I, kind="stable")[: min(k, len(scores_I) - 1)]
        return Candidates(item_ids_K, scores_I[item_ids_K], np.full(len(item_ids_K), GENERATIVE, np.uint8))


class GenerativeSource:
    """A decoder over the catalogue of another retriever, as one more ``stages.Source``.

    Args:
        user_rows_U: the decoder's user id of each of the retriever's users, -1 where it has none.
        further_ids: the decoder's items that the retriever has no vector for; they are not proposed.
        log: of the application, by its user ids.
        own_log: of the decoder's bundle, by the decoder's user ids.
    """

    def __init__(
        self,
        generator: Generator,
        user_rows_U: Int64s,
        further_ids: Int64s,
        log: EventLog | None,
        own_log: EventLog | None,
        config: GeneratorConfig,
    ) -> None:
        self._generator, self._user_rows_U, self._further_ids = generator, user_rows_U, further_ids
        self._log, self._own_log, self._config = log, own_log, config

    def propose(self, query: Query, seen_ids: Int64s) -> Candidates:
        user = UNKNOWN_USER if query.user_id == UNKNOWN_USER else int(self._user_rows_U[query.user_id])
        history_ids = history_of(query, self._log).item_ids_H
        if self._log is None:  # a retriever may have none, the decoder its own
            history_ids = history_of(replace(query, user_id=user), self._own_log).item_ids_H
        if not len(history_ids):
            return NOTHING
        excluded_ids = np.concatenate([seen_ids, self._further_ids])
        return self._generator.generate(user, history_ids, excluded_ids, query.time, self._config.items)


def code_vectors(model: Decoder, files: GenerativeFiles) -> Float32s:
    """item_ID: the embeddings of each item's content codes, summed and scaled to length 1."""
    codes_IL = torch.from_numpy(files.codes.content_codes())
    first_L = model.get_buffer("first_L")[: codes_IL.shape[1]]
    with torch.inference_mode():
        summed_ID = torch.nn.functional.embedding_bag(codes_IL + first_L, model.codes.weight, mode="sum")
        unit_ID: Float32s = torch.nn.functional.normalize(summed_ID.float(), dim=1).numpy()
    return unit_ID


def is_generative(bundle: Bundle) -> bool:
    return bundle.manifest.model == "decoder"


def load_generative(
    bundle: Bundle, event_log: EventLog | None, config: GeneratorConfig
) -> GenerativeRetrieval:
    """The retrieval stage of a decoder's bundle."""
    files = read_generative(bundle)
    return GenerativeRetrieval(files, load_decoder(bundle, files.codes), event_log, config)


def load_code_vectors(bundle: Bundle) -> Float32s:
    """item_ID of a decoder's bundle, see ``code_vectors``."""
    files = read_generative(bundle)
    return code_vectors(load_decoder(bundle, files.codes), files)


def load_source(
    bundle: Bundle,
    users: pl.DataFrame,
    items: pl.DataFrame,
    event_log: EventLog | None,
    config: GeneratorConfig,
) -> GenerativeSource:
    """A published decoder as one more source beside a retriever of these users and items.

    Raises:
        ConfigError: the decoder is over another catalogue.
        StoreError: the bundle holds no decoder, or its parts disagree.
    """
    files = read_generative(bundle)
    ours, theirs = (f["raw_id"].cast(pl.String) for f in (items, files.items))
    if not ours.equals(theirs.head(len(ours))):
        shared = len(set(ours) & set(theirs))
        raise ConfigError(
            f"{bundle.reference} generates items of another catalogue: it has {len(theirs):,} items and the "
            f"retriever {len(ours):,}, {shared:,} in common, and the order counts; train both on one data set"
        )
    generator = Generator(load_decoder(bundle, files.codes), files.item_counts_I, config)
    rows = {raw: row for row, raw in enumerate(files.users["raw_id"].cast(pl.String))}
    further_ids = np.arange(len(ours), len(theirs))
    user_rows_U = np.array([rows.get(raw, UNKNOWN_USER) for raw in users["raw_id"].cast(pl.String)], np.int64)
    return GenerativeSource(generator, user_rows_U, further_ids, event_log, files.log, config)
