"""A decoder as the first stage, or as the second source of candidates beside an index.

Shapes: U users, I items, D width of a code's embedding, K candidates.
"""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import torch

from recray.arrays import Float32s, Int64s
from recray.batch import Jagged, QueryBatch
from recray.bundles.decoder import load_decoder, read_generative
from recray.config import ConfigError
from recray.contract import Generative
from recray.features.candidates import COLD, GENERATIVE, Candidates, popular_only
from recray.features.look_ups import LookUps
from recray.serve.barred import Barred
from recray.serve.query import UNKNOWN_USER, Query
from recray.serve.seen import REMOVED, Seen
from recray.serve.stages.retrieve import asked_at, history_of, retrieved
from recray.serve.state import NO_CANDIDATES, RequestState
from recray.serve.versions import OpenedVersion
from recray.store import Bundle


class DecoderRetrieve:
    """The first stage of a decoder: what must not come back is excluded inside the beam search.

    Where there is no history to continue, popular items stand in. Scores are log probabilities.

    Args:
        barred: items that must not come out at all.
    """

    without = ""

    def __init__(
        self,
        version: OpenedVersion,
        cold_share: float,
        barred: Barred | None = None,
        seen: Seen = REMOVED,
    ) -> None:
        self._seen = seen
        counts_I = version.decoder_files.item_counts_I
        self._barred = barred or Barred(len(counts_I))
        self._log = version.event_log
        self._generator = Generator(version.decoder, counts_I, cold_share)
        self._at_once = version.decoder.config.beams
        self._popular_first_I = version.popular_first_I
        self._item_ID = version.item_vectors()

    def __call__(self, state: RequestState) -> RequestState:
        """``query.k`` items, unless fewer of the catalogue are unseen. Books ``filter`` and ``generate``."""
        query, clock = state.query, state.clock
        removed_ids = self._seen.removed(query, self._log)
        seen_ids = np.concatenate([removed_ids, self._barred.of(query.context).ids])
        history = history_of(query, self._log)
        history_ids = history.item_ids_H
        clock.lap("filter")
        if not len(history_ids):
            candidates = popular_only(self._popular_first_I, seen_ids, query.k)
            clock.lap("retrieve")
            return retrieved(state, candidates, "popular", self._log)
        time = asked_at(query, history, self._log)
        found = NO_CANDIDATES
        # As many beams for every k: a shorter list is the beginning of a longer one.
        while wanted := min(query.k - len(found.item_ids_K), self._at_once):
            gone_ids = np.concatenate([seen_ids, found.item_ids_K])
            more = self._generator.generate(query.user_id, history_ids, gone_ids, time, wanted)
            if not len(more.item_ids_K):
                break
            found = found.then(more)
        clock.lap("generate")
        return retrieved(state, found, None, self._log)

    def similar(self, item_id: int, k: int) -> Candidates:
        """The k items whose content codes have the most similar embeddings; scores are cosines."""
        scores_I = self._item_ID @ self._item_ID[item_id]
        scores_I[item_id] = scores_I[self._barred.now.ids] = -np.inf
        item_ids_K = np.argsort(-scores_I, kind="stable")[: min(k, int(np.isfinite(scores_I).sum()))]
        return Candidates(item_ids_K, scores_I[item_ids_K], np.full(len(item_ids_K), GENERATIVE, np.uint8))


class DecoderSource:
    """A decoder over the catalogue of another retriever, as one more ``retrieve.Source``.

    Args:
        items: how many it proposes for each request.
        user_rows_U: the decoder's user id of each of the retriever's users, -1 where it has none.
        num_items: of the retriever, as it was published; the decoder knows nothing of those that were added.
        further_ids: the decoder's items that the retriever has no vector for; they are not proposed.
        log: of the application, by its user ids.
        own_log: of the decoder's bundle, by the decoder's user ids.
    """

    def __init__(
        self,
        generator: "Generator",
        items: int,
        user_rows_U: Int64s,
        num_items: int,
        further_ids: Int64s,
        log: LookUps | None,
        own_log: LookUps | None,
    ) -> None:
        self._generator, self._items, self._num_items = generator, items, num_items
        self._user_rows_U, self._further_ids = user_rows_U, further_ids
        self._log, self._own_log = log, own_log

    def propose(self, query: Query, seen_ids: Int64s) -> Candidates:
        user = UNKNOWN_USER if query.user_id == UNKNOWN_USER else int(self._user_rows_U[query.user_id])
        log, known = self._log, query
        if log is None:  # a retriever may have none, the decoder its own
            log, known = self._own_log, replace(query, user_id=user)
        history = history_of(known, log)
        history_ids = history.item_ids_H[history.item_ids_H < self._num_items]
        if not len(history_ids):
            return NO_CANDIDATES
        excluded_ids = np.concatenate([seen_ids[seen_ids < self._num_items], self._further_ids])
        time = asked_at(query, history, log)
        return self._generator.generate(user, history_ids, excluded_ids, time, self._items)


def load_source(
    bundle: Bundle,
    users: pl.DataFrame,
    items: pl.DataFrame,
    event_log: LookUps | None,
    *,
    proposed: int,
    cold_share: float,
) -> DecoderSource:
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
    generator = Generator(load_decoder(bundle, files.codes), files.item_counts_I, cold_share)
    rows = {raw: row for row, raw in enumerate(files.users["raw_id"].cast(pl.String))}
    user_rows_U = np.array([rows.get(raw, UNKNOWN_USER) for raw in users["raw_id"].cast(pl.String)], np.int64)
    further_ids = np.arange(len(ours), len(theirs))
    return DecoderSource(generator, proposed, user_rows_U, len(ours), further_ids, event_log, files.log)


class Generator:
    """Unseen items by beam search over semantic ids.

    Args:
        item_counts_I: training events of each item; those without are cold.
        cold_share: of the generated items, rounded up, that is kept for cold ones; they come out by their
            content codes. 0: only where they win by themselves.
    """

    def __init__(self, model: Generative, item_counts_I: Int64s, cold_share: float) -> None:
        self._model, self._cold_share = model, cold_share
        self.is_cold_I = item_counts_I == 0
        self._warm_ids = torch.from_numpy(np.flatnonzero(~self.is_cold_I))

    def generate(self, user_id: int, history_ids: Int64s, seen_ids: Int64s, time: int, k: int) -> Candidates:
        """The k items (or all that are left) that follow a history, best first, by log probability.

        Args:
            user_id: the decoder's, -1 where it is unknown.
            history_ids: oldest first, at least one.
            seen_ids: items that must not come out.
        """
        seen = torch.from_numpy(seen_ids)
        kept_cold = math.ceil(k * self._cold_share) if self.is_cold_I.any() else 0
        # The second row may say nothing but cold items: the best of them, exactly as far as beams reach.
        rows = [seen, torch.cat([seen, self._warm_ids])] if kept_cold else [seen]
        found = self._model.generate(
            _repeated(user_id, history_ids, time, len(rows)), k, exclude=_jagged(rows)
        )
        item_ids_BK, scores_BK = found.item_ids_BK.cpu().numpy(), found.scores_BK.cpu().numpy()
        item_ids_K, scores_K = item_ids_BK[0], scores_BK[0]
        if kept_cold:
            item_ids_K, scores_K = self._with_cold(item_ids_BK, scores_BK, kept_cold)
        exists_K = item_ids_K >= 0
        item_ids_K, scores_K = item_ids_K[exists_K], scores_K[exists_K]
        sources_K = np.where(self.is_cold_I[item_ids_K], GENERATIVE | COLD, GENERATIVE).astype(np.uint8)
        return Candidates(item_ids_K, scores_K, sources_K)

    def _with_cold(self, item_ids_2K: Int64s, scores_2K: Float32s, kept_cold: int) -> tuple[Int64s, Float32s]:
        """The first row's items, its last warm ones given up for the second row's best cold ones."""
        best, cold = item_ids_2K
        is_new_K = (cold >= 0) & ~np.isin(cold, best)
        is_warm_K = (best >= 0) & ~self.is_cold_I[best]
        missing = max(0, kept_cold - int(((best >= 0) & ~is_warm_K).sum()))
        new = np.flatnonzero(is_new_K)[:missing]
        # Places that are empty go first, then the last warm ones.
        free = np.flatnonzero(best < 0)[: len(new)]
        given_up = np.flatnonzero(is_warm_K)[::-1][: len(new) - len(free)]
        places = np.concatenate([free, given_up])
        item_ids_K, scores_K = best.copy(), scores_2K[0].copy()
        item_ids_K[places], scores_K[places] = cold[new[: len(places)]], scores_2K[1][new[: len(places)]]
        order_K = np.argsort(-scores_K, kind="stable")
        return item_ids_K[order_K], scores_K[order_K]


def _repeated(user_id: int, history_ids: Int64s, time: int, times: int) -> QueryBatch:
    history = _jagged([torch.from_numpy(history_ids)] * times)
    request_times_B = torch.full((times,), time)
    # Clients send no times with a history, so its events count as just before the request.
    history_times_N = request_times_B[:1].expand(len(history.values_N))
    return QueryBatch(torch.full((times,), user_id), history, history_times_N, request_times_B)


def _jagged(rows: list[torch.Tensor]) -> Jagged:
    offsets_B = torch.tensor([0, *map(len, rows)]).cumsum(0)
    return Jagged(torch.cat(rows), offsets_B)
