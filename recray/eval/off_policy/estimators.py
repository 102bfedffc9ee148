"""Estimators of the mean reward of a list under a policy that did not choose it.

Each gives a numerator and a denominator per list; the estimate is the ratio of their sums. Rewards are those
of items, their sum is the list's.

Shapes: B lists, K places.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from recray.arrays import Float64s
from recray.config import ConfigError
from recray.eval.off_policy.logged_lists import LoggedLists


class Terms(NamedTuple):
    """What the sums are of."""

    over_B: Float64s
    under_B: Float64s


class Model(NamedTuple):
    """Expected reward from each place on, by a model of rewards that was fitted on other lists."""

    shown_BK: Float64s  # of the item that was shown there
    target_BK: Float64s  # of the item that the policy to be judged would draw there, its mean


def ips(lists: LoggedLists) -> Terms:
    """Inverse propensity score of the whole list: Horvitz & Thompson, JASA 1952; for lists Swaminathan et
    al., Off-policy evaluation for slate recommendation, NeurIPS 2017, section 2. Unbiased."""
    return Terms(lists.list_weights_B * _of_list(lists), np.ones(len(lists)))


def snips(lists: LoggedLists) -> Terms:
    """The same, divided by the sum of weights: Swaminathan & Joachims, The self-normalized estimator for
    counterfactual learning, NeurIPS 2015, equation 5. Consistent, of less variance."""
    return Terms(lists.list_weights_B * _of_list(lists), lists.list_weights_B)


def rips(lists: LoggedLists) -> Terms:
    """Reward-interaction inverse propensity score: what is done with an item depends on it and on those above
    alone: McInerney et al., Counterfactual evaluation of slate recommendations with sequential reward
    interactions, KDD 2020, equation 8. Unbiased where that holds, of less variance."""
    weighted_BK = lists.prefix_weights_BK * _rewards(lists)
    return Terms(weighted_BK.sum(axis=1), np.ones(len(lists)))


def snrips(lists: LoggedLists) -> Terms:
    """The same, self-normalised at each place: McInerney et al. 2020, equation 9.

    As a sum over places it is no ratio of two sums; the terms are those of its linearisation around them.
    """
    weights_BK, rewards_BK = lists.prefix_weights_BK, _rewards(lists)
    mean_K = weights_BK.mean(axis=0)
    if not (mean_K > 0).all():
        return rips(lists)
    value_K = (weights_BK * rewards_BK).mean(axis=0) / mean_K
    return Terms(((weights_BK * (rewards_BK - value_K)) / mean_K + value_K).sum(axis=1), np.ones(len(lists)))


def cascade_dr(lists: LoggedLists, model: Model) -> Terms:
    """Doubly robust along the cascade: Kiyohara et al., Doubly robust off-policy evaluation for ranking
    policies under the cascade behavior model, WSDM 2022, equation 8. With one place it is the doubly robust
    estimator of Dudik, Langford & Li, ICML 2011. Unbiased if the chances or the model are right."""
    weights_BK = lists.prefix_weights_BK
    before_BK = np.concatenate([np.ones((len(lists), 1)), weights_BK[:, :-1]], axis=1)
    shown_BK = np.where(lists.is_shown_BK, model.shown_BK, 0.0)
    target_BK = np.where(lists.is_shown_BK, model.target_BK, 0.0)
    terms_BK = weights_BK * (_rewards(lists) - shown_BK) + before_BK * target_BK
    return Terms(terms_BK.sum(axis=1), np.ones(len(lists)))


def direct(lists: LoggedLists, model: Model) -> Terms:
    """The model's word alone. As wrong as the model is."""
    return Terms(np.where(lists.is_shown_BK, model.target_BK, 0.0)[:, 0], np.ones(len(lists)))


METHODS: Mapping[str, Callable[[LoggedLists], Terms]] = {
    "ips": ips,
    "snips": snips,
    "rips": rips,
    "snrips": snrips,
}
WITH_MODEL: Mapping[str, Callable[[LoggedLists, Model], Terms]] = {"cascade_dr": cascade_dr, "direct": direct}


def terms(method: str, lists: LoggedLists, model: Model | None = None) -> Terms:
    """
    Raises:
        ConfigError: there is no such method, or it needs a model.
    """
    if method in METHODS:
        return METHODS[method](lists)
    if method not in WITH_MODEL:
        raise ConfigError(f"no method {method!r}; valid: {', '.join((*METHODS, *WITH_MODEL))}")
    if model is None:
        raise ConfigError(f"{method} needs a model of rewards, fitted on other lists")
    return WITH_MODEL[method](lists, model)


def _rewards(lists: LoggedLists) -> Float64s:
    return np.where(lists.is_shown_BK, lists.rewards_BK, 0.0)


def _of_list(lists: LoggedLists) -> Float64s:
    rewards_B: Float64s = _rewards(lists).sum(axis=1)
    return rewards_B
