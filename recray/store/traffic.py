"""What runs on an application's live traffic, as it follows from its journal."""

from collections.abc import Sequence

from recray.store.experiments import ROUNDING, Experiment, Running, Traffic
from recray.store.journal import Entry, Move, Started, Turn, unix_seconds
from recray.store.manifest import Reference, StoreError
from recray.store.names import PRODUCTION


def traffic_of(entries: Sequence[Entry]) -> Traffic:
    """What follows from a journal.

    When production moves, experiments that were compared with what it was have ended.

    Raises:
        LookupError, ValueError: its entries cannot follow each other.
    """
    running: dict[str, Running] = {}
    refused: dict[str, str] = {}
    tried_again: dict[str, tuple[str, str]] = {}  # experiment -> its candidate's digest, why it was refused
    stood_on: list[Move] = []
    for entry in entries:
        if isinstance(entry, Started):
            one = entry.experiment
            if one.name in running:
                raise ValueError(f"{one.name} runs already")
            left = room_for(one, tuple(running.values()))
            running[one.name] = Running(one, left, unix_seconds(entry.at), entry.by)
            digest = one.candidate.reference.digest
            why = refused.get(digest, dict(tried_again.values()).get(digest))
            if one.is_shown and why is not None:  # by force; for as long as it runs it may be promoted
                tried_again[one.name] = digest, why
                refused.pop(digest, None)
        elif isinstance(entry, Turn):
            _turn(running, refused, entry)
        elif entry.name == PRODUCTION:
            running = {name: one for name, one in running.items() if _goes_on(one, entry)}
        for name in tried_again.keys() - running.keys():  # it ended
            digest, why = tried_again.pop(name)
            if digest not in dict(tried_again.values()):
                refused.setdefault(digest, why)
        if isinstance(entry, Move) and entry.name == PRODUCTION:
            if entry.action == "rollback":
                refused[stood_on.pop().digest] = _said(entry)
            else:
                stood_on.append(entry)
                refused.pop(entry.digest, None)
    refused.pop("", None)  # of moves that named no digest
    return Traffic(tuple(running.values()), refused)


def _turn(running: dict[str, Running], refused: dict[str, str], turn: Turn) -> None:
    one = running[turn.experiment]
    match turn.action:
        case "pause":
            running[turn.experiment] = one if one.paused else one.pause(unix_seconds(turn.at))
        case "resume":
            running[turn.experiment] = one.resume(unix_seconds(turn.at)) if one.paused else one
        case "refuse":
            refused[one.experiment.candidate.reference.digest] = _said(turn)
            del running[turn.experiment]
        case "stop":
            del running[turn.experiment]


def _goes_on(one: Running, move: Move) -> bool:
    shadow = one.experiment.candidate.reference.digest
    return not one.experiment.is_shown and shadow != move.digest


def _said(entry: Move | Turn) -> str:
    who = f" by {entry.by}" if entry.by else ""
    why = f": {entry.why}" if entry.why else ""
    return f"rolled back at {entry.at[:19]}{who}{why}"


def room_for(experiment: Experiment, running: Sequence[Running]) -> float:
    """Where in the line of its group's users an experiment begins: the first gap that is wide enough.

    Raises:
        ValueError: there is none.
    """
    others = [one for one in running if one.experiment.group == experiment.group]
    others = [one for one in others if one.experiment.is_shown and experiment.is_shown]
    left = 0.0
    for one in sorted(others, key=lambda other: other.left):
        if left + experiment.width <= one.left + ROUNDING:
            return left
        left = one.left + one.experiment.width
    if left + experiment.width > 1.0 + ROUNDING:
        taken = ", ".join(f"{one.experiment.name} {one.experiment.width:g}" for one in others)
        raise ValueError(
            f"{experiment.name} needs {experiment.width:g} of the users of group {experiment.group!r}, of "
            f"whom others may ask: {taken}"
        )
    return left


def refused(reference: Reference, why: str) -> StoreError:
    return StoreError(f"{reference} was {why}; --force takes it back")
