"""Losses: pure functions of scores, each with its formula, its paper and its shapes.

A loss is a mean over the batch, differentiable, and computed in the dtype it is given. What a layer or
a model adds (regularisers, towers, temperatures) is not here.
"""

import torch
from torch import Tensor
from torch.nn import functional


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


def bpr(positive_scores_B: Tensor, negative_scores_B: Tensor) -> Tensor:
    """Bayesian personalised ranking, without its regulariser: ``-mean log s(x_ui - x_uj)``.

    Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback, UAI 2009, section 4.1
    (BPR-Opt); s is the logistic function, i the observed item, j one that was not.

    Args:
        positive_scores_B: float [B], scores of observed items.
        negative_scores_B: float [B], one sampled item for each; or [B, K], K of them, all weighing alike.
    """
    if negative_scores_B.ndim > positive_scores_B.ndim:
        positive_scores_B = positive_scores_B[:, None]
    return -functional.logsigmoid(positive_scores_B - negative_scores_B).mean()


def sampled_softmax(logits_BB: Tensor, item_ids_B: Tensor, item_logq_B: Tensor) -> Tensor:
    """In-batch softmax with the logQ correction: every row's own item against the items of the others.

    ``-mean_b log( exp(s_bb) / sum_{c: c = b or i_c != i_b} exp(s_bc) )`` with ``s_bc = x_bc - log q_c``:
    popular items are drawn as negatives more often, and subtracting the log of their sampling probability
    undoes it. The same item elsewhere in the batch is not a negative.

    Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations, RecSys 2019,
    https://doi.org/10.1145/3298689.3346996, equations 3 to 5.

    Args:
        logits_BB: float, row b scores user b against the item of every row; the diagonal is observed.
        item_ids_B: int64, the item of each row.
        item_logq_B: float, log of the probability that the batch holds that item at a given place.
    """
    scores_BB = logits_BB - item_logq_B.to(logits_BB.dtype)
    twin_BB = item_ids_B[:, None] == item_ids_B[None, :]
    twin_BB = twin_BB & ~torch.eye(len(item_ids_B), dtype=torch.bool, device=twin_BB.device)
    scores_BB = scores_BB.masked_fill(twin_BB, float("-inf"))
    return functional.cross_entropy(scores_BB, torch.arange(len(scores_BB), device=scores_BB.device))
