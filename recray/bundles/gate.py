"""The gate of an application: what a version once reached, and no later one may lose."""

import json
import logging
import math
from dataclasses import dataclass

from recray import storage
from recray.config import ConfigError, from_dict, nearest, to_dict
from recray.folders import write_whole
from recray.schema import ProtocolCard
from recray.store import Bundle, Store
from recray.store.manifest import reached

log = logging.getLogger(__name__)
FILE = "gate.json"
MORE_IS_BETTER = ("ndcg", "recall", "hit", "mrr", "map", "auc")


@dataclass(frozen=True, kw_only=True)
class ApplicationGate:
    metric: str
    value: float
    tolerance: float  # share of the value that may be lost
    version: int  # that reached it
    card: ProtocolCard  # under which


def set_gate(
    store: Store, name: str, metric: str, tolerance: float, version: str = "production"
) -> ApplicationGate:
    """Whatever is promoted from now on must reach what a version did, where both were measured alike.

    Raises:
        ConfigError: it was measured under no protocol, or has no such metric.
        StoreError: there is no such version.
    """
    if not 0 <= tolerance < 1:
        raise ConfigError(f"tolerance is a share from 0 to 1, got {tolerance}")
    manifest = store.open(name, version).manifest
    if metric.partition("@")[0] not in MORE_IS_BETTER:
        raise ConfigError(f"{metric!r} is no gate: of {', '.join(MORE_IS_BETTER)} more is better")
    if manifest.card is None or math.isnan(manifest.metrics.get(metric, math.nan)):
        raise ConfigError(
            f"version {manifest.version} of {name} was not measured by {metric!r}"
            f"{nearest(metric, manifest.metrics)}"
        )
    gate = ApplicationGate(
        metric=metric,
        value=manifest.metrics[metric],
        tolerance=tolerance,
        version=manifest.version,
        card=manifest.card,
    )
    write_whole(store.root / name / FILE, json.dumps(to_dict(gate), indent=1).encode())
    storage.send(store.root / name / FILE)
    return gate


def gate_of(store: Store, name: str) -> ApplicationGate | None:
    """None: nothing is asked.

    Raises:
        ConfigError: the file is damaged.
    """
    path = store.root / name / FILE
    with reached():
        storage.refresh(path, wait=False)
    if not path.is_file():
        return None
    try:
        return from_dict(ApplicationGate, json.loads(path.read_text()))
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}): set the gate again, `recray gate`") from error


def require_gate(store: Store, bundle: Bundle) -> None:
    """
    Raises:
        ConfigError: it has less than was reached. Measured under another protocol it cannot be told: that is
            said in the log.
    """
    manifest = bundle.manifest
    gate = gate_of(store, manifest.name)
    if gate is None:
        return
    differing = gate.card.differences(manifest.card) if manifest.card else {"card": ("one", "none")}
    if differing or gate.metric not in manifest.metrics:
        log.warning(
            "%s was measured otherwise than version %d (%s): its gate, %s %.4f, is not asked",
            *(bundle.reference, gate.version, ", ".join(differing) or gate.metric, gate.metric, gate.value),
        )
        return
    found = manifest.metrics[gate.metric]
    if not found >= gate.value * (1 - gate.tolerance):  # also NaN
        raise ConfigError(
            f"{bundle.reference} has {gate.metric} {found:.4f}; version {gate.version} reached "
            f"{gate.value:.4f}, of which {gate.tolerance:.0%} may be lost: it is not promoted. Promote it "
            f"anyway with --force, or set the gate anew with `recray gate {manifest.name} {gate.metric}`"
        )
