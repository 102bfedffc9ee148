"""Where looks at an application lie, beside its store: the latest report, alarms, first weeks of versions."""

import json
from pathlib import Path

from recray.config import from_dict, to_dict
from recray.folders import write_whole
from recray.monitor.alarms import AlarmState
from recray.monitor.drift_report import DriftReport
from recray.schema import DataError

LATEST, STATE = "latest.json", "state.json"


def drift_dir(store: Path, application: str) -> Path:
    """
    Args:
        store: its folder.
    """
    return store.parent / "drift" / application


def read_latest(folder: Path) -> DriftReport | None:
    """None: nobody has looked yet.

    Raises:
        DataError: the file is damaged, or of another version of recray.
    """
    path = folder / LATEST
    if not path.is_file():
        return None
    try:
        return DriftReport.from_json(json.loads(path.read_text()))
    except ValueError as error:
        raise DataError(f"{path} is no report ({error}): look again, `recray drift {folder.name}`") from error


def read_state(folder: Path) -> AlarmState:
    """
    Raises:
        DataError: the file is damaged.
    """
    path = folder / STATE
    if not path.is_file():
        return AlarmState()
    try:
        return from_dict(AlarmState, json.loads(path.read_text()))
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): delete it, alarms are then raised anew") from error


def write_state(folder: Path, state: AlarmState) -> None:
    write_whole(folder / STATE, json.dumps(to_dict(state), indent=1).encode())


def write_latest(folder: Path, report: DriftReport) -> None:
    write_whole(folder / LATEST, json.dumps(report.to_json(), allow_nan=False).encode())
