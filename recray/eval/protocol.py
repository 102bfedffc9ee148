"""Which numbers may be compared: those measured under the same card and over the same users."""

from collections.abc import Sequence

import numpy as np

from recray.arrays import Int64s
from recray.config import ConfigError
from recray.schema import ProtocolCard


def require_same_card(a: ProtocolCard, b: ProtocolCard) -> None:
    """Raises ConfigError naming every field in which two cards differ, with both values."""
    differences = a.differences(b)
    if differences:
        fields = "; ".join(f"{name}: {x!r} and {y!r}" for name, (x, y) in differences.items())
        raise ConfigError(f"measured under different protocols, not comparable: {fields}")


def paired_order(a_ids_U: Int64s, b_ids_U: Int64s) -> Int64s:
    """The order that puts ``b``'s users beside ``a``'s, for users in any order.

    Raises:
        ConfigError: the users are not the same.
    """
    if np.array_equal(a_ids_U, b_ids_U):
        return np.arange(len(a_ids_U))
    a_order_U, b_order_U = np.argsort(a_ids_U, kind="stable"), np.argsort(b_ids_U, kind="stable")
    if not np.array_equal(a_ids_U[a_order_U], b_ids_U[b_order_U]):
        alone_a, alone_b = _some(np.setdiff1d(a_ids_U, b_ids_U)), _some(np.setdiff1d(b_ids_U, a_ids_U))
        raise ConfigError(
            f"measured over different users, not comparable: {len(a_ids_U)} and {len(b_ids_U)} queries;"
            f" only in the first: {alone_a}; only in the second: {alone_b}"
        )
    order_U = np.empty_like(a_order_U)
    order_U[a_order_U] = b_order_U
    return order_U


def _some(ids: Sequence[int] | Int64s) -> str:
    shown = ", ".join(str(i) for i in ids[:5])
    return f"{len(ids)} ({shown}{', ...' if len(ids) > 5 else ''})" if len(ids) else "none"
