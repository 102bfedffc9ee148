"""Losses: pure functions of scores, each with its formula, its paper and its shapes.

A loss is a mean over the batch, differentiable, and computed in the dtype it is given. What a layer or
a model adds (regularisers, towers, temperatures) is not here.
"""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from recray.autograd import AutogradContext
from recray.batch import PairBatch


def bce(logits_B: Tensor, labels_B: Tensor, *, positive_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy of logits: the negative log-likelihood of independent Bernoulli labels.

    ``-mean_b [w y_b log s(x_b) + (1 - y_b) log(1 - s(x_b))]``, s the logistic function, w the weight of
    positives; in the stable form of ``torch.nn.functional.binary_cross_entropy_with_logits``.

    Args:
        logits_B: float, any shape.
        labels_B: float in [0, 1], the same shape.
    """
    weight = logits_B.new_tensor(positive_weight)
    return functional.binary_cross_entropy_with_logits(logits_B, labels_B, pos_weight=weight)


class BatchItems(NamedTuple):
    """The distinct items of a batch: the same item on several rows is scored once."""

    item_ids_J: Tensor  # int64
    column_B: Tensor  # int64, where each row's own item stands among them
    count_J: Tensor  # int64, rows that hold the item
    logq_J: Tensor  # float, log sampling probability


def batch_items(item_ids_B: Tensor, item_logq_B: Tensor) -> BatchItems:
    """The distinct items of a batch, and the log q that every row gives for its own."""
    item_ids_J, column_B, count_J = torch.unique(item_ids_B, return_inverse=True, return_counts=True)
    logq_J = item_logq_B.new_empty(len(item_ids_J)).scatter(0, column_B, item_logq_B)
    return BatchItems(item_ids_J, column_B, count_J, logq_J)


def pair_items(batch: PairBatch) -> BatchItems:
    """The distinct items of the global batch, and where those of this share of it stand among them."""
    if batch.pool is None:
        return batch_items(batch.item_ids_B, batch.item_logq_B)
    items = batch_items(batch.pool.item_ids_P, batch.pool.item_logq_P)
    return items._replace(column_B=items.column_B[batch.pool.start :][: batch.size])


def weighted_mean(loss_B: Tensor, weight_B: Tensor | None = None, weight_sum: float | None = None) -> Tensor:
    """Of a loss of each row: ``sum_b w_b l_b / sum_b w_b``.

    Args:
        weight_B: float, how much each row counts; None: all alike.
        weight_sum: of a share of a global batch, what the weights would add up to if the weight of all were
            spread evenly: means of shares, each by its size, then make the mean of all. None: their sum.
    """
    if weight_B is None:
        return loss_B.mean()
    return (loss_B * weight_B).sum() / (weight_B.sum() if weight_sum is None else weight_sum)


def sampled_softmax(
    query_BD: Tensor,
    item_JD: Tensor,
    items: BatchItems,
    weight_B: Tensor | None = None,
    weight_sum: float | None = None,
) -> Tensor:
    """In-batch softmax with the logQ correction: every row's own item against the items of the others.

    ``-mean_b log( exp(s_bb) / sum_{c: c = b or i_c != i_b} exp(s_bc) )`` with ``s_bc = q_b v_c - log q_c``
    over rows b and c: popular items are drawn as negatives more often, and subtracting the log of their
    sampling probability undoes it. The same item elsewhere in the batch is not a negative. An item on n
    other rows is n equal terms of the sum, computed here as one term of weight n.

    Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations, RecSys 2019,
    https://doi.org/10.1145/3298689.3346996, equations 3 to 5.

    Args:
        query_BD: float, of each row; divided by a temperature, where there is one.
        item_JD: float, of the distinct items of the batch.
        weight_B, weight_sum: how much each row counts (r_i of equation 5), as in ``weighted_mean``.
    """
    dtype = query_BD.dtype
    shift_J = (items.count_J.log() - items.logq_J).to(dtype)
    own_shift_B = -items.logq_J[items.column_B].to(dtype)
    if weight_B is not None:
        total = weight_B.sum() if weight_sum is None else weight_sum
        weight_B = weight_B * (len(weight_B) / total)
    return _softmax(query_BD, item_JD, items.column_B, weight_B, shifts=(shift_J, own_shift_B))


def bpr(
    positive_B: Tensor,
    negative_BK: Tensor,
    weight_B: Tensor | None = None,
    weight_sum: float | None = None,
) -> Tensor:
    """Bayesian personalised ranking: an observed item above some that were not.

    ``-mean_b mean_k log s(x_b - x_bk)``, s the logistic function.

    Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback, UAI 2009,
    https://arxiv.org/abs/1205.2618, section 4.1, without its regulariser.

    Args:
        positive_B: float, the score of each row's own item.
        negative_BK: float, those of the items drawn for it.
        weight_B, weight_sum: how much each row counts, as in ``weighted_mean``.
    """
    loss_B = -functional.logsigmoid(positive_B[:, None] - negative_BK).mean(dim=1)
    return weighted_mean(loss_B, weight_B, weight_sum)


def lambdarank(
    scores_B: Tensor, grades_B: Tensor, offsets_S: Tensor, *, k: int | None = None, sigma: float = 1.0
) -> Tensor:
    """LambdaRank: pairs of a session in the right order, each counting for what its swap does to NDCG@k.

    ``mean_s sum_{y_i > y_j} |delta NDCG@k|_ij log(1 + exp(-sigma (x_i - x_j)))`` where ``|delta NDCG@k|_ij =
    |2^y_i - 2^y_j| |d(r_i) - d(r_j)| / IDCG@k``, r an item's rank in its session by score (equal scores: in
    the order given), counted from 1, and ``d(r) = 1 / log2(1 + r)`` up to k, 0 beyond. The weights are
    constants: the gradient is the paper's lambda, ``-sigma |delta NDCG@k|_ij / (1 + exp(sigma (x_i - x_j)))``
    for the better item of a pair and its opposite for the other. A session of one grade only adds 0, and
    counts in the mean.

    Burges, From RankNet to LambdaRank to LambdaMART: An Overview, MSR-TR-2010-82, sections 3 and 4; the
    value by Wang et al., The LambdaLoss Framework, CIKM 2018. LightGBM's objective has the same gradient
    (summed, not averaged, over sessions) with ``sigmoid=sigma, lambdarank_norm=False``, where lists have at
    most ``lambdarank_truncation_level`` items: on longer ones it keeps d beyond k for pairs that reach k.

    Args:
        scores_B: float, the rows of a session side by side.
        grades_B: float >= 0, how relevant each row is.
        offsets_S: int64, S + 1 entries: rows of session s are ``offsets_S[s]:offsets_S[s + 1]``.
        k: length of the list that counts; None: all of it. Memory grows as S times the longest
            session times min(k, that).
        sigma: steepness of the logistic function.
    """
    lengths_S = offsets_S.diff()
    if len(scores_B) == 0:
        return scores_B.sum()
    within_ST = torch.arange(int(lengths_S.max()), device=scores_B.device) < lengths_S[:, None]
    padded_ST = scores_B.new_full(within_ST.shape, -torch.inf).masked_scatter(within_ST, scores_B)
    order_ST = padded_ST.detach().argsort(dim=1, descending=True, stable=True)
    scores_ST = padded_ST.masked_fill(~within_ST, 0.0).gather(1, order_ST)
    gains_ST = torch.zeros_like(padded_ST).masked_scatter(within_ST, torch.exp2(grades_B.to(scores_B)) - 1)
    discount_T = 1 / torch.arange(2, within_ST.shape[1] + 2, device=scores_B.device).to(scores_B).log2()
    if k is not None:
        discount_T[k:] = 0.0
    ideal_S1 = gains_ST.sort(dim=1, descending=True).values @ discount_T[:, None]
    gains_ST = gains_ST.gather(1, order_ST) / ideal_S1.where(ideal_S1 > 0, 1.0)
    # A pair counts if its upper item (among the first k) is in the list; the lower one comes after it.
    gap_SKT = gains_ST[:, :k, None] - gains_ST[:, None, :]
    weight_SKT = (gap_SKT.abs() * (discount_T[:k, None] - discount_T)).triu(1)
    weight_SKT = weight_SKT * within_ST[:, None, :]  # padding stands last in each session's order
    margin_SKT = gap_SKT.sign() * (scores_ST[:, :k, None] - scores_ST[:, None, :])
    return (weight_SKT * functional.softplus(-sigma * margin_SKT)).sum() / len(lengths_S)


def squared_error(predicted_BF: Tensor, target_BF: Tensor) -> Tensor:
    """``mean_b |x_b - y_b|^2``: summed over features, averaged over rows.

    With one side detached it is the codebook loss ``|sg[z] - e|^2`` and the commitment loss ``|z - sg[e]|^2``
    of van den Oord et al., Neural Discrete Representation Learning, NIPS 2017,
    https://arxiv.org/abs/1711.00937, equation 3.

    Args:
        predicted_BF, target_BF: float, the same shape.
    """
    return (predicted_BF - target_BF).square().sum(dim=-1).mean()


def koleo(vectors_BD: Tensor) -> Tensor:
    """How unevenly vectors fill their space: ``-mean_b log min_{c != b} |z_b - z_c|``.

    The Kozachenko-Leonenko estimate of their differential entropy, up to sign and constants, as a
    regulariser: it pushes every vector away from its nearest neighbour, the nearer the harder. Neighbours
    are constants, which leaves the push between mutual neighbours symmetric.

    Sablayrolles et al., Spreading Vectors for Similarity Search, ICLR 2019, https://arxiv.org/abs/1806.03198,
    section 3.2. Vectors closer than 1e-4 count as that far apart. Memory B x B.

    Args:
        vectors_BD: float, at least one row; a single row adds 0.
    """
    if len(vectors_BD) < 2:
        return vectors_BD.sum() * 0.0
    with torch.no_grad():
        # By differences: products of vectors cancel far from the origin.
        distance_BB = torch.cdist(vectors_BD, vectors_BD, compute_mode="donot_use_mm_for_euclid_dist")
        distance_BB.fill_diagonal_(torch.inf)
        nearest_BD = vectors_BD[distance_BB.argmin(dim=1)]
    square_B = (vectors_BD - nearest_BD).square().sum(dim=1)
    return -0.5 * (square_B + 1e-8).log().mean()


class _CountContext(AutogradContext, Protocol):
    count: int


class _Softmax(torch.autograd.Function):
    """Chunk by chunk, with the gradient taken on the way: the [N, I] scores never exist at once."""

    @staticmethod
    def forward(
        ctx: _CountContext,
        query_ND: Tensor,
        item_ID: Tensor,
        targets_N: Tensor,
        weights_N: Tensor | None,
        shifts: tuple[Tensor, Tensor] | None,
        chunk: int,
    ) -> Tensor:
        dtype = _matmul_dtype(query_ND)
        query, item = query_ND.detach().to(dtype), item_ID.detach().to(dtype)
        grad_query_ND = torch.empty_like(query_ND)
        grad_item_ID = torch.zeros_like(item_ID)
        sums = [query_ND.new_zeros(())] * (len(query) == 0)
        for start in range(0, len(query), chunk):
            part, targets = query[start : start + chunk], targets_N[start : start + chunk, None]
            weights = None if weights_N is None else weights_N[start : start + chunk, None]
            scores = part @ item.T
            scores = scores if scores.dtype == query_ND.dtype else scores.float()
            if shifts is not None:
                own = scores.gather(1, targets) + shifts[1][start : start + chunk, None]
                scores = scores.add_(shifts[0]).scatter_(1, targets, own)
            log_norm = scores.logsumexp(1, keepdim=True)
            losses = log_norm - scores.gather(1, targets)
            sums.append((losses if weights is None else losses * weights).sum())
            share = scores.sub_(log_norm).exp_()
            share.scatter_add_(1, targets, share.new_full(targets.shape, -1.0))
            if weights is not None:
                share *= weights
            share = share.to(dtype)
            grad_query_ND[start : start + chunk] = share @ item
            grad_item_ID += share.T @ part
        ctx.save_for_backward(grad_query_ND, grad_item_ID)
        ctx.count = max(1, len(query))
        return torch.stack(sums).sum() / ctx.count

    @staticmethod
    def backward(ctx: _CountContext, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        grad_query_ND, grad_item_ID = ctx.saved_tensors
        scale = grad_outputs[0] / ctx.count
        return grad_query_ND * scale, grad_item_ID * scale, None, None, None, None


def _softmax(
    query_ND: Tensor,
    item_ID: Tensor,
    targets_N: Tensor,
    weights_N: Tensor | None,
    *,
    shifts: tuple[Tensor, Tensor] | None = None,
    chunk: int = 0,
) -> Tensor:
    """``mean_n w_n`` of each query's cross-entropy over the items.

    Args:
        shifts: what is added to the scores of each item, and of each query's target instead.
        chunk: queries scored at once; 0: as many as a CPU's cache or a GPU's cores like.
    """
    chunk = chunk or (128 if query_ND.device.type == "cpu" else 4096)
    loss: Tensor = _Softmax.apply(query_ND, item_ID, targets_N, weights_N, shifts, chunk)  # type: ignore[no-untyped-call]
    return loss


def _matmul_dtype(tensor: Tensor) -> torch.dtype:
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


def full_softmax(
    query_ND: Tensor,
    item_ID: Tensor,
    targets_N: Tensor,
    *,
    weights_N: Tensor | None = None,
    chunk: int = 0,
) -> Tensor:
    """Cross-entropy over the whole catalogue: ``-mean_n w_n log( exp(q_n e_t) / sum_i exp(q_n e_i) )``.

    The same value and gradients as ``cross_entropy(query_ND @ item_ID.T, targets_N)`` in memory
    ``chunk`` x I. Both gradients are computed in the forward pass, whether they are asked for or not.

    Args:
        query_ND: float, at least one row.
        item_ID: float, the vector of every item.
        targets_N: int64, the item that each query should find.
        weights_N: float, how much each query counts, with a mean of 1 over all that are averaged; None: 1.
        chunk: queries scored at once; 0: as many as a CPU's cache or a GPU's cores like.
    """
    return _softmax(query_ND, item_ID, targets_N, weights_N, chunk=chunk)


class DrawnScores(NamedTuple):
    """What queries say of their own items, and of some that were drawn for all of them together."""

    own_N: Tensor
    drawn_NK: Tensor
    is_own_NK: Tensor  # bool, where the drawn one is the query's own


def drawn_scores(
    query_ND: Tensor, target_ND: Tensor, drawn_KD: Tensor, targets_N: Tensor, drawn_ids_K: Tensor
) -> DrawnScores:
    """Inner products: one product of matrices, as all rows share the K items."""
    own_N = (query_ND * target_ND).sum(1)
    return DrawnScores(own_N, query_ND @ drawn_KD.T, drawn_ids_K == targets_N[:, None])


def gbce(
    scores: DrawnScores, num_items: int, *, calibration: float = 0.75, weights_N: Tensor | None = None
) -> Tensor:
    """Binary cross-entropy against sampled negatives, calibrated for how few of them there are.

    ``-mean_n w_n [b log s(x_nt) + sum_k log(1 - s(x_nk))] / (K + 1)`` with ``a = K / (I - 1)`` and
    ``b = a (c (1 - 1 / a) + 1 / a)``, c the calibration: 0 is plain BCE, whose probabilities are too
    high because most negatives are never seen; 1 undoes that in full. A negative that is the row's own
    target counts for nothing.

    Petrov & Macdonald, gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with
    Negative Sampling, RecSys 2023, https://arxiv.org/abs/2308.07192, equations 5 and 8.

    Args:
        scores: of items drawn evenly.
        num_items: I, that they were drawn from.
        weights_N: as ``full_softmax``.
    """
    num_drawn = scores.drawn_NK.shape[1]
    rate = num_drawn / max(1, num_items - 1)
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    against_N = (functional.logsigmoid(-scores.drawn_NK) * ~scores.is_own_NK).sum(1)
    likelihood_N = beta * functional.logsigmoid(scores.own_N) + against_N
    likelihood_N = likelihood_N if weights_N is None else likelihood_N * weights_N
    return -likelihood_N.mean() / (num_drawn + 1)


def drawn_softmax(scores: DrawnScores, logq_K: Tensor, *, weights_N: Tensor | None = None) -> Tensor:
    """Cross-entropy over a catalogue of which K items were drawn: ``full_softmax``, estimated.

    ``-mean_n w_n log( exp(x_nt) / (exp(x_nt) + sum_{k: k != t} exp(x_nk) / (K q_k)) )``: an item that is
    drawn often counts for little each time, so that the sum stands for the whole catalogue's. It is the
    logQ correction of what was drawn, and of nothing else: a row's own item was not.

    Bengio & Senecal, Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic Language
    Model, IEEE Transactions on Neural Networks 19 (2008), https://doi.org/10.1109/TNN.2007.912312, section
    III; own items uncorrected as in Khrylchenko et al., Correcting the LogQ Correction, RecSys 2025,
    https://arxiv.org/abs/2507.09331. Draws in part even, in part by popularity: Yang et al., Mixed Negative
    Sampling for Learning Two-tower Neural Networks in Recommendations, WWW 2020,
    https://doi.org/10.1145/3366424.3386195.

    Args:
        logq_K: float, the log of q_k: how likely each draw was this item.
        weights_N: as ``full_softmax``.
    """
    corrected_NK = scores.drawn_NK - (logq_K + math.log(len(logq_K))).to(scores.drawn_NK.dtype)
    others_NK = corrected_NK.masked_fill(scores.is_own_NK, -torch.inf)
    norm_N = torch.cat([scores.own_N[:, None], others_NK], dim=1).logsumexp(1)
    loss_N = norm_N - scores.own_N
    return (loss_N if weights_N is None else loss_N * weights_N).mean()
