"""Changes that are asked for over HTTP."""

from recray.serve.http import admin
from recray.serve.traffic.operations import Operations
from recray.serve.traffic.ramp import CANARY_RAMP


def carry_out(on: Operations, change: admin.Change) -> None:
    """
    Raises:
        ConfigError: it cannot be done as things stand; nothing has changed.
    """
    why = change.why
    match change:
        case admin.Promotion(version=version, force=force):
            on.promote(version, why=why, force=force)
        case admin.Rollback():
            on.rollback(why=why)
        case admin.Canary(version=version, ramp=ramp, guardrails=limits, acts=acts, force=force):
            ramp = ramp or CANARY_RAMP
            on.canary(version, ramp=ramp, guardrails=limits, acts=acts, why=why, force=force)
        case admin.AB(versions=versions, share=share, guardrails=limits, force=force):
            name, group = change.name, change.group
            on.ab(versions, share=share, name=name, group=group, guardrails=limits, why=why, force=force)
        case admin.Interleaving(version=version, share=share, force=force):
            on.interleave(version, share=share, why=why, force=force)
        case admin.Shadow(version=version, share=share):
            on.shadow(version, share=share, why=why)
        case admin.OfRunning(action=action, experiment=experiment):
            on.turn(action, experiment, why=why)
