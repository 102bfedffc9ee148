"""TIGER: a transformer that reads the semantic ids of a history and generates that of the next item.

Rajput et al., Recommender Systems with Generative Retrieval, NeurIPS 2023,
https://arxiv.org/abs/2305.05065, section 3.2. Departures, each a setting or measured: positions are
rotary (Su et al., https://arxiv.org/abs/2104.09864), codes are predicted by the embeddings that they
are read by, and with a causal encoder one pass over a history trains every position of it.

Shapes: B rows, I items, L levels, T items of a row, N encoder tokens, Q decoder tokens, G targets, D width,
H heads, C codes of a level, W beams, S encoder tokens of the longest row.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recray.batch import Generated, Jagged, QueryBatch, SequenceBatch
from recray.config import ConfigError
from recray.models.transformer import Cache, DecoderLayer, EncoderLayer, Memory, Rotary
from recray.ops.beam_search import beam_search
from recray.ops.jagged import to_padded
from recray.ops.jagged_attention import group_rows
from recray.ops.prefix_trie import PrefixTrie, build_trie
from recray.schema import SemanticSchema
from recray.semantic_ids import SemanticIds


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The transformer and what it reads."""

    dim: int = 128
    """Width of tokens."""
    num_heads: int = 4
    """Attention heads; they share the width."""
    encoder_layers: int = 2
    """Layers that read the history."""
    decoder_layers: int = 2
    """Layers that write codes."""
    feedforward_dim: int = 512
    """Hidden width of each layer's MLP."""
    dropout: float = 0.1
    """Share of activations that is zeroed while training."""
    max_items: int = 20
    """Newest items of a history that are read."""
    encoder: Literal["causal", "bidirectional"] = "causal"
    """causal: an item sees those before it, and every position is trained in one pass; bidirectional: as
    in the paper, one target per pass."""
    history_tokens: Literal["codes", "items"] = "codes"
    """codes: a token per code of the history, as in the paper; items: one per item, the sum of its codes,
    which is several times faster."""
    softmax: Literal["codebook", "catalogue"] = "catalogue"
    """catalogue: probabilities over the codes that continue to an item, so that those of all items add up to
    one; codebook: over all codes of a level, as in the paper."""
    user_buckets: int = 2000
    """User tokens, user ids modulo this; 0 leaves the user out."""
    user_dropout: float = 0.1
    """Share of users that training shows as unknown, so that an unknown user has a token too."""
    separators: bool = False
    """A token after each item."""
    beams: int = 50
    """Prefixes that generation keeps per level, where the caller names no number."""

    def __post_init__(self) -> None:
        for name in ("dim", "num_heads", "encoder_layers", "decoder_layers", "feedforward_dim", "max_items"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.dim % (2 * self.num_heads):
            raise ConfigError(f"dim must be a multiple of 2 x {self.num_heads} heads, got {self.dim}")
        if not 0 <= self.dropout < 1 or not 0 <= self.user_dropout <= 1:
            raise ConfigError(f"dropout {self.dropout} and user_dropout {self.user_dropout} must be shares")
        if self.separators and self.history_tokens == "items":
            raise ConfigError("separators stand between the codes of items: set history_tokens to codes")
        if self.user_buckets < 0 or self.beams < 1:
            raise ConfigError(f"user_buckets {self.user_buckets} must be >= 0 and beams {self.beams} >= 1")


class Decoder(nn.Module):
    """A ``Retriever`` that generates; see ``recray.contract``."""

    def __init__(self, config: DecoderConfig, schema: SemanticSchema) -> None:
        super().__init__()
        self.config, self.sizes = config, schema.code_sizes
        levels = len(schema.code_sizes)
        self.register_buffer("codes_IL", torch.zeros(schema.num_items, levels, dtype=torch.int64))
        first_L = torch.tensor([0, *schema.code_sizes[:-1]]).cumsum(0)
        self.register_buffer("first_L", first_L, persistent=False)  # row of each level's code 0
        self.codes = nn.Embedding(sum(schema.code_sizes), config.dim)
        self.users = nn.Embedding(config.user_buckets + 1, config.dim)  # row 0: unknown
        self.separator_D = nn.Parameter(torch.empty(config.dim)) if config.separators else None
        self.start_D = nn.Parameter(torch.empty(config.dim))
        self.rotary = Rotary(config.dim // config.num_heads)
        shape = (config.dim, config.num_heads, config.feedforward_dim, config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(*shape) for _ in range(config.encoder_layers))
        self.encoder_norm = nn.RMSNorm(config.dim)
        self.decoder = nn.ModuleList(DecoderLayer(*shape) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.RMSNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self._trie: PrefixTrie | None = None
        self._trie_of = (-1, self.start_D.device)
        self._families: dict[int, tuple[Tensor, Tensor]] = {}  # of the trie, level by level
        self._initialise()

    def _initialise(self) -> None:
        for name, weight in self.named_parameters():
            if weight.dim() > 1 or name in ("start_D", "separator_D"):
                nn.init.normal_(weight, std=self.config.dim**-0.5)

    @property
    def tokens_per_item(self) -> int:
        if self.config.history_tokens == "items":
            return 1
        return len(self.sizes) + (self.separator_D is not None)

    def set_semantic_ids(self, ids: SemanticIds) -> None:
        """Fills the codes in; they are part of the state dict from then on."""
        self.get_buffer("codes_IL").copy_(torch.from_numpy(ids.codes_IL))

    def trie(self) -> PrefixTrie:
        """Of all items; built anew only where the codes were written or moved."""
        codes_IL = self.get_buffer("codes_IL")
        state = (codes_IL._version, codes_IL.device)
        if self._trie is None or self._trie_of != state:
            self._trie, self._trie_of = build_trie(codes_IL), state
            self._families.clear()
        return self._trie

    def _decoder_layers(self) -> Iterable[DecoderLayer]:
        return cast(Iterable[DecoderLayer], self.decoder)

    # Reading -------------------------------------------------------------------------------------

    def _embed_history(self, user_ids_B: Tensor, items: Jagged) -> Jagged:
        """Tokens [N, D]: the user's, then those of each item."""
        step = self.tokens_per_item
        codes_TLD = self.codes(self.get_buffer("codes_IL")[items.values_N] + self.get_buffer("first_L"))
        if self.config.history_tokens == "items":
            codes_TLD = codes_TLD.sum(1, keepdim=True)
        if self.separator_D is not None:
            separator = self.separator_D.expand(len(codes_TLD), 1, -1)
            codes_TLD = torch.cat([codes_TLD, separator], 1)
        tokens_ND = codes_TLD.flatten(0, 1)
        offsets_B = items.offsets_B * step + torch.arange(len(items.offsets_B), device=tokens_ND.device)
        out_ND = tokens_ND.new_empty(len(tokens_ND) + len(user_ids_B), tokens_ND.shape[1])
        is_item_N = torch.ones(len(out_ND), dtype=torch.bool, device=out_ND.device)
        is_item_N[offsets_B[:-1]] = False
        out_ND = out_ND.index_copy(0, is_item_N.nonzero().squeeze(1), tokens_ND)
        out_ND = out_ND.index_copy(
            0, offsets_B[:-1], self.users(self._user_rows(user_ids_B)).to(out_ND.dtype)
        )
        return Jagged(out_ND, offsets_B)

    def _user_rows(self, user_ids_B: Tensor) -> Tensor:
        if self.config.user_buckets == 0:
            return torch.zeros_like(user_ids_B)
        known_B = user_ids_B >= 0
        if self.training and self.config.user_dropout:
            known_B = known_B & (torch.rand_like(user_ids_B, dtype=torch.float32) >= self.config.user_dropout)
        return torch.where(known_B, user_ids_B % self.config.user_buckets + 1, 0)

    def _encode(self, user_ids_B: Tensor, items: Jagged) -> tuple[Jagged, Tensor]:
        """(memory [N, D], its positions_N)."""
        tokens = self._embed_history(user_ids_B, items)
        offsets_B = tokens.offsets_B
        position_N = tokens.places_N()
        limits_N = None
        if self.config.encoder == "causal":  # up to the end of the token's own item
            step = self.tokens_per_item
            limits_N = (position_N + step - 1) // step * step
        groups = group_rows(offsets_B, offsets_B, limits_N, None if limits_N is None else position_N)
        angles = self.rotary.angles(position_N)
        x_ND = self.dropout(tokens.values_N)
        for layer in self.encoder:
            x_ND = layer(x_ND, angles, groups)
        return Jagged(self.encoder_norm(x_ND), offsets_B), position_N

    # Training ------------------------------------------------------------------------------------

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Cross-entropy of the targets' codes: the mean of -log p(item), in nats."""
        logits, codes_GL = self._teacher_forced(batch)
        per_level = [
            _mean_cross_entropy(logits_GC.float(), codes_GL[:, level], batch.target_weights())
            for level, logits_GC in enumerate(logits)
        ]
        return {"loss": torch.stack(per_level).sum(), **{f"loss_{i}": x for i, x in enumerate(per_level)}}

    def _teacher_forced(self, batch: SequenceBatch) -> tuple[list[Tensor], Tensor]:
        """(logits_GC of each level, codes_GL), targets row by row, oldest first."""
        items, is_target_N = batch.items, batch.is_target_N()
        targets_G, position_G = items.values_N[is_target_N], items.places_N()[is_target_N]
        memory, key_position_N = self._encode(batch.user_ids_B, items.keep(batch.is_read_N()))
        codes_GL = self.get_buffer("codes_IL")[targets_G]
        levels = codes_GL.shape[1]
        x_GLD = self.codes(codes_GL[:, :-1] + self.get_buffer("first_L")[:-1])
        x_GLD = torch.cat([self.start_D.to(x_GLD.dtype).expand(len(x_GLD), 1, -1), x_GLD], 1)
        # A target stands where its codes would stand in the history.
        seen_G = position_G * self.tokens_per_item
        token_GL = seen_G[:, None] + 1 + torch.arange(levels, device=seen_G.device)
        targets_B = items.lengths_B() - batch.first_target_B
        query_offsets_B = F.pad(targets_B.cumsum(0), (1, 0)) * levels
        limits_Q = seen_G.repeat_interleave(levels)
        groups = group_rows(query_offsets_B, memory.offsets_B, limits_Q, key_position_N)
        angles, memory_angles = self.rotary.angles(token_GL), self.rotary.angles(key_position_N)
        x_GLD = self.dropout(x_GLD)
        for layer in self.decoder:
            x_GLD = layer(x_GLD, memory.values_N, angles, memory_angles, groups)
        x_GLD = self.decoder_norm(x_GLD)
        logits = [self._logits(x_GLD[:, level], level) for level in range(levels)]
        if self.config.softmax == "catalogue":
            logits = [
                x.masked_fill(~self._continues(targets_G, i), float("-inf")) for i, x in enumerate(logits)
            ]
        return logits, codes_GL

    def _logits(self, x: Tensor, level: int) -> Tensor:
        first = int(sum(self.sizes[:level]))
        return x @ self.codes.weight[first : first + self.sizes[level]].T.to(x.dtype)

    def _continues(self, item_ids_G: Tensor, level: int) -> Tensor:
        """allowed_GC: codes that continue the first ``level`` codes of these items to some item."""
        trie = self.trie()
        if level not in self._families:
            table_NC = trie.continuations(level, self.sizes[level])
            self._families[level] = table_NC, trie.node_of_items(level)
        table_NC, node_I = self._families[level]
        return table_NC[node_I[item_ids_G]]

    # Generating ----------------------------------------------------------------------------------

    @torch.inference_mode()
    def generate(
        self, queries: QueryBatch, k: int, *, beams: int | None = None, exclude: Jagged | None = None
    ) -> Generated:
        """The k most probable next items of each query, by beam search over the semantic ids.

        Args:
            beams: prefixes kept per level, at least ``k``; None: the config's.
            exclude: items per query that must not come out, such as those already seen.
        """
        if k < 1:
            raise ConfigError(f"k must be at least 1, got {k}")
        shortest_first_B = queries.history.lengths_B().clamp(max=self.config.max_items).argsort(stable=True)
        queries = queries.take(shortest_first_B)  # rows of like length are padded together
        memory, start_B = self._memory(queries)
        caches = [Cache() for _ in self.decoder]

        def next_codes(level: int, parents_BW: Tensor, codes_BW: Tensor) -> Tensor:
            if level == 0:
                x_BWD = self.start_D.expand(len(start_B), 1, -1)
            else:
                x_BWD = self.codes(codes_BW + self.get_buffer("first_L")[level - 1])
            angles = self.rotary.angles((start_B + level)[:, None])
            for layer, layer_memory, cache in zip(self._decoder_layers(), memory, caches, strict=True):
                cache.follow(parents_BW)
                x_BWD = layer.step(x_BWD, layer_memory, cache, angles)
            return self._logits(self.decoder_norm(x_BWD), level)

        found = beam_search(
            next_codes,
            self.trie(),
            len(start_B),
            k=k,
            beams=beams or self.config.beams,
            exclude=None if exclude is None else exclude.take(shortest_first_B),
            among_children=self.config.softmax == "catalogue",
        )
        as_asked_B = shortest_first_B.argsort()
        return Generated(*(field[as_asked_B] for field in found))

    def _memory(self, queries: QueryBatch) -> tuple[list[Memory], Tensor]:
        """(keys and values of the histories for each decoder layer, position of the next code)."""
        items = queries.newest(self.config.max_items).history
        tokens, position_N = self._encode(queries.user_ids_B, items)
        lengths_B = tokens.lengths_B()
        longest = int(lengths_B.max())
        mask_BS = torch.arange(longest, device=lengths_B.device) < lengths_B[:, None]
        angles = self.rotary.angles(position_N)
        memory = []
        for layer in self._decoder_layers():
            pair = layer.cross_attention.keys_values(tokens.values_N, angles)
            k, v = (to_padded(x, tokens.offsets_B, longest).transpose(1, 2) for x in pair)
            memory.append(Memory(k, v, mask_BS[:, None, None]))
        return memory, lengths_B

    @torch.inference_mode()
    def score_items(self, queries: QueryBatch) -> Tensor:
        """scores_BI: the log probability of every item; nothing is cut, so meant for small catalogues."""
        num_items = len(self.get_buffer("codes_IL"))
        found = self.generate(queries, num_items, beams=num_items)
        scores_BI = found.scores_BK.new_empty(len(found.scores_BK), num_items)
        return scores_BI.scatter_(1, found.item_ids_BK, found.scores_BK)


def _mean_cross_entropy(logits_GC: Tensor, codes_G: Tensor, weights_G: Tensor | None) -> Tensor:
    if weights_G is None:
        return F.cross_entropy(logits_GC, codes_G)
    return (F.cross_entropy(logits_GC, codes_G, reduction="none") * weights_G).mean()


MODEL = Decoder
