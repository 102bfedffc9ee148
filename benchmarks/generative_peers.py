"""What the decoder is compared with: the same weights, in the way that is written first.

``decode`` keeps nothing between steps and scans all codes for those that may follow; ``padded_loss`` pads
every row of a batch to the longest. Both read a ``Decoder`` and must give its numbers.

Shapes: B rows, R rows x beams, L levels, T items of the longest row, S its tokens, G its targets, D width.
"""

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from recray.batch import Jagged, QueryBatch, SequenceBatch
from recray.models.decoder import Decoder
from recray.models.transformer import EncoderLayer
from recray.ops.jagged import to_padded
from recray.ops.jagged_attention import group_rows


class Beam(NamedTuple):
    score: float
    codes: list[int]


@torch.inference_mode()
def decode(model: Decoder, queries: QueryBatch, k: int, beams: int, *, encode_once: bool) -> list[list[Beam]]:
    """The k best complete semantic ids of each query.

    Args:
        encode_once: the history's encoding is kept between steps; else each step runs the whole model.
    """
    codes_IL = model.get_buffer("codes_IL")
    items = queries.newest(model.config.max_items).history
    encoded = model._encode(queries.user_ids_B, items)
    rows: list[list[Beam]] = [[Beam(0.0, [])] for _ in queries.user_ids_B]
    for level in range(len(model.sizes)):
        row_R = torch.tensor([b for b, row in enumerate(rows) for _ in row])
        if encode_once:
            memory, position_N = (
                _repeat(encoded[0], row_R),
                _repeat(Jagged(encoded[1], encoded[0].offsets_B), row_R),
            )
        else:
            repeated, at_N = model._encode(queries.user_ids_B[row_R], _repeat(items, row_R))
            memory, position_N = repeated, Jagged(at_N, repeated.offsets_B)
        prefixes = torch.tensor([beam.codes for row in rows for beam in row], dtype=torch.int64)
        logits_RC = _next_logits(model, memory, position_N.values_N, prefixes.view(len(row_R), level))
        found: list[list[Beam]] = [[] for _ in rows]
        flat = [beam for row in rows for beam in row]
        for b, beam, logits_C in zip(row_R.tolist(), flat, logits_RC, strict=True):
            found[b] += _continued(model, codes_IL, beam, logits_C)
        width = k if level == len(model.sizes) - 1 else max(beams, k)
        rows = [sorted(row, key=lambda beam: -beam.score)[:width] for row in found]
    return rows


def _continued(model: Decoder, codes_IL: Tensor, beam: Beam, logits_C: Tensor) -> list[Beam]:
    """The beam with each code that continues it to some item: a scan over all of them."""
    level = len(beam.codes)
    matches_I = (codes_IL[:, :level] == torch.tensor(beam.codes)).all(1)
    codes = torch.unique(codes_IL[matches_I, level])
    if model.config.softmax == "catalogue":
        scores = logits_C[codes].log_softmax(0)
    else:
        scores = logits_C.log_softmax(0)[codes]
    pairs = zip(codes.tolist(), scores.tolist(), strict=True)
    return [Beam(beam.score + score, [*beam.codes, code]) for code, score in pairs]


def _repeat(rows: Jagged, row_R: Tensor) -> Jagged:
    chosen = [rows.row(b) for b in row_R.tolist()]
    return Jagged(torch.cat(chosen), F.pad(rows.lengths_B()[row_R].cumsum(0), (1, 0)))


def _next_logits(model: Decoder, memory: Jagged, position_N: Tensor, prefix_Rl: Tensor) -> Tensor:
    """logits_RC of the code after each prefix, from all of its codes."""
    level = prefix_Rl.shape[1]
    x = model.codes(prefix_Rl + model.get_buffer("first_L")[:level])
    x = torch.cat([model.start_D.expand(len(x), 1, -1), x], 1)
    queries = torch.arange(len(x) + 1) * (level + 1)
    groups = group_rows(queries, memory.offsets_B)
    angles = model.rotary.angles(memory.lengths_B()[:, None] + torch.arange(level + 1))
    memory_angles = model.rotary.angles(position_N)
    for layer in model._decoder_layers():
        x = layer(x, memory.values_N, angles, memory_angles, groups)
    return model._logits(model.decoder_norm(x)[:, -1], level)


class _Padded(NamedTuple):
    """A batch with every row as long as the longest."""

    items_BT: Tensor
    lengths_B: Tensor
    first_B: Tensor


def padded_loss(model: Decoder, user_ids_B: Tensor, batch: SequenceBatch) -> Tensor:
    """``Decoder.loss`` over padded rows; padding is computed like the rest, and masked out at the end."""
    lengths_B = batch.items.lengths_B()
    longest = int(lengths_B.max())
    padded = _Padded(
        to_padded(batch.items.values_N, batch.items.offsets_B, longest), lengths_B, batch.first_target_B
    )
    memory_BSD, exists_BS = _encoded(model, user_ids_B, padded)
    x_BGLD, codes_BGL, seen_BG, is_target_BG = _targets(model, padded)
    levels, step = codes_BGL.shape[2], model.tokens_per_item
    key_at_S = torch.arange(memory_BSD.shape[1])
    sees_BGS = exists_BS[:, None] & (key_at_S <= seen_BG[:, :, None] * step)
    mask = sees_BGS.repeat_interleave(levels, 1)[:, None]
    at_BGL = seen_BG[:, :, None] * step + 1 + torch.arange(levels)
    angles, memory_angles = model.rotary.angles(at_BGL), model.rotary.angles(key_at_S)
    for layer in model._decoder_layers():
        normed = layer.norm_self(x_BGLD)
        q = layer.self_attention.queries(normed, angles)
        k, v = layer.self_attention.keys_values(normed, angles)
        attended = _attend(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), None).view_as(q)
        x_BGLD = x_BGLD + layer.dropout(layer.self_attention.merge(attended))
        q = layer.cross_attention.queries(layer.norm_cross(x_BGLD), angles)
        k, v = layer.cross_attention.keys_values(memory_BSD, memory_angles)
        attended = _attend(q.flatten(1, 2), k, v, mask).view_as(q)
        x_BGLD = x_BGLD + layer.dropout(layer.cross_attention.merge(attended))
        x_BGLD = x_BGLD + layer.dropout(layer.mlp(layer.norm_mlp(x_BGLD)))
    x_BGLD = model.decoder_norm(x_BGLD)
    codes_BGL = codes_BGL.masked_fill(~is_target_BG[:, :, None], -100)
    losses = [
        F.cross_entropy(
            model._logits(x_BGLD[:, :, level], level).flatten(0, 1), codes_BGL[:, :, level].flatten()
        )
        for level in range(levels)
    ]
    return torch.stack(losses).sum()


def _encoded(model: Decoder, user_ids_B: Tensor, batch: _Padded) -> tuple[Tensor, Tensor]:
    """(memory_BSD, exists_BS) of all items but each row's last."""
    step, levels = model.tokens_per_item, len(model.sizes)
    history_BT = batch.items_BT[:, :-1]
    tokens = model.codes(model.get_buffer("codes_IL")[history_BT] + model.get_buffer("first_L"))
    tokens = tokens.sum(2) if step == 1 and levels > 1 else tokens.flatten(1, 2)
    x_BSD = torch.cat([model.users(model._user_rows(user_ids_B))[:, None], tokens], 1)
    at_S = torch.arange(x_BSD.shape[1])
    exists_BS = at_S <= ((batch.lengths_B - 1) * step)[:, None]
    mask = exists_BS[:, None, None]
    if model.config.encoder == "causal":
        mask = mask & (at_S <= ((at_S + step - 1) // step * step)[:, None])
    angles = model.rotary.angles(at_S)
    x_BSD = model.dropout(x_BSD)
    for layer in cast(Iterable[EncoderLayer], model.encoder):
        normed = layer.norm_attention(x_BSD)
        q, (k, v) = layer.attention.queries(normed, angles), layer.attention.keys_values(normed, angles)
        attended = _attend(q, k, v, mask)
        x_BSD = x_BSD + layer.dropout(layer.attention.merge(attended))
        x_BSD = x_BSD + layer.dropout(layer.mlp(layer.norm_mlp(x_BSD)))
    return model.encoder_norm(x_BSD), exists_BS


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of heads that stand last but one; without a mask causal."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None).transpose(1, 2)


def _targets(model: Decoder, batch: _Padded) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(decoder inputs x_BGLD, codes_BGL, items before each target seen_BG, is_target_BG)."""
    most = int((batch.lengths_B - batch.first_B).max())
    seen_BG = batch.first_B[:, None] + torch.arange(most)
    is_target_BG = seen_BG < batch.lengths_B[:, None]
    seen_BG = seen_BG.clamp(max=batch.items_BT.shape[1] - 1)
    codes_BGL = model.get_buffer("codes_IL")[batch.items_BT.gather(1, seen_BG)]
    x_BGLD = model.codes(codes_BGL[:, :, :-1] + model.get_buffer("first_L")[:-1])
    start = model.start_D.expand(*x_BGLD.shape[:2], 1, -1)
    return model.dropout(torch.cat([start, x_BGLD], 2)), codes_BGL, seen_BG, is_target_BG
