"""``sb-obp``'s estimators on the same logs."""

import importlib
import warnings
from typing import Any

import numpy as np

from benchmarks.off_policy_world import NUM_ITEMS, World
from recray.eval.off_policy.estimators import terms

SLATE = {
    "ips": "SlateStandardIPS",
    "snips": "SelfNormalizedSlateStandardIPS",
    "rips": "SlateRewardInteractionIPS",
    "snrips": "SelfNormalizedSlateRewardInteractionIPS",
    "cascade_dr": "SlateCascadeDoublyRobust",
}


def differences(world: World) -> dict[str, float]:
    """By method, from ours; none where obp is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ope: Any = importlib.import_module("obp.ope")
    except ImportError:
        return {}
    lists, model, orders_BK = world.log(0)
    size, length = orders_BK.shape
    values_BKI, chances_BKI = world.model(orders_BK)
    joint = lists.logged_BK.cumprod(axis=1), lists.target_BK.cumprod(axis=1)
    whole = [np.repeat(chances_BK[:, -1], length) for chances_BK in joint]
    asked = {
        "slate_id": np.repeat(np.arange(size), length),
        "reward": lists.rewards_BK.ravel(),
        "position": np.tile(np.arange(length), size),
        "action": orders_BK.ravel(),
        "pscore": whole[0],
        "evaluation_policy_pscore": whole[1],
        "pscore_cascade": joint[0].ravel(),
        "evaluation_policy_pscore_cascade": joint[1].ravel(),
        "q_hat": values_BKI.ravel(),
        "evaluation_policy_action_dist": chances_BKI.ravel(),
    }
    found = {}
    for method, name in SLATE.items():
        sizes = {"len_list": length}
        if method == "cascade_dr":
            sizes["n_unique_action"] = NUM_ITEMS
        theirs = getattr(ope, name)(**sizes).estimate_policy_value(**asked)
        over_B, under_B = terms(method, lists, model)
        found[method] = abs(float(theirs) - float(over_B.sum() / under_B.sum()))
    return found
