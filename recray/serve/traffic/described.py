"""What runs on live traffic, with what is known of it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from recray.serve.http.traffic_answers import ArmNow, ExperimentNow, Traffic
from recray.serve.traffic.guardrails import guardrails_of
from recray.store import Store
from recray.store.ledger import TrafficLedger


def described(store: Store, application: str, now: float, numbers: Mapping[str, Any]) -> Traffic:
    """As the journal says.

    Args:
        numbers: of the desk.
    """
    traffic = TrafficLedger(store, application).now()
    known: Mapping[str, Any] = numbers.get("experiments", {})
    experiments: list[ExperimentNow] = []
    for one in traffic.running:
        experiment, part = one.experiment, one.part(now)
        arms: list[ArmNow] = [
            {
                "name": arm.name,
                "version": arm.reference.version,
                "digest": arm.reference.digest,
                "share": round(arm.share * part, 6),
                "share_at_the_end": arm.share,
            }
            for arm in experiment.arms
        ]
        experiments.append(
            {
                "name": experiment.name,
                "kind": experiment.kind,
                "group": experiment.group,
                "arms": arms,
                "paused": one.paused is not None,
                "running_s": round(one.ran_s(now), 1),
                "ramped": one.has_ramped(now),
                "acts": experiment.acts,
                "by": one.by,
                "guardrails": asdict(guardrails_of(experiment.guardrails)),
                "numbers": known.get(experiment.name, {}).get("numbers"),
                "verdicts": known.get(experiment.name, {}).get("verdicts", {}),
            }
        )
    return {
        "application": application,
        "experiments": experiments,
        "refused": [{"digest": digest, "why": why} for digest, why in traffic.refused.items()],
        "outcomes": numbers.get("outcomes", {}),
        "dropped": numbers.get("dropped", 0),
        "problem": numbers.get("problem"),
    }
