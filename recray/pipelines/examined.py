"""How likely each rank of an application's lists is looked at, from its own log."""

import numpy as np
import polars as pl

from recray.config import ConfigError
from recray.eval.position_bias import LEAST_CLICKS, position_bias

BINS = 20  # of scores, of each version
LEAST_EXAMINED = 0.01


def examined_ranks(rows: pl.DataFrame) -> tuple[float, ...]:
    """Chances by rank relative to the first, falling; as far down as there are clicks to tell.

    Chance draws around the order of scores, so that among items of about the same score of one version ranks
    are given without regard to what is liked.

    Args:
        rows: shown items with their outcomes; those that were drawn count, of lists that are closed.
    Raises:
        ConfigError: nothing was drawn, too little was clicked, or ranks are not joined by what was drawn.
    """
    drawn = rows.filter(
        pl.col("is_closed") & pl.col("propensity").is_not_null() & pl.col("score").is_not_null()
    ).with_columns(place=(pl.col("score").rank("ordinal") * BINS // (pl.len() + 1)).over("version"))
    if drawn.is_empty():
        raise ConfigError(
            "lists were shown without chance: what is looked at cannot be told from what is liked "
            "(--service.rules.explore.policy plackett_luce)"
        )
    clicks_R = drawn.group_by("rank").agg(clicks=(pl.col("label") > 0).sum()).sort("rank")
    few = clicks_R.filter(pl.col("clicks") < LEAST_CLICKS)["rank"].min()
    if few is not None:  # what holds for the last rank that is clicked holds for those below
        drawn = drawn.filter(pl.col("rank") < few)
    found = position_bias(
        drawn.select(pl.struct("version", "place").rank("dense"))["version"].to_numpy().astype(np.int64),
        drawn["rank"].to_numpy().astype(np.int64),
        (drawn["label"] > 0).to_numpy(),
        drawn["user_id"].fill_null(drawn["request_id"]).rank("dense").to_numpy().astype(np.int64),
    )
    falling_R = np.minimum.accumulate(found.examined_R)
    return tuple(float(chance) for chance in np.clip(falling_R, LEAST_EXAMINED, 1.0).round(4))
