"""Notices of a run to people: Discord, Slack, mail and what else Apprise knows, by RECRAY_NOTIFY.

The variable holds one address or several, apart by blanks (https://github.com/caronc/apprise/wiki); it stands
in no setting, log or record. Told are the start, the best so far (once a minute at most), and the end.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apprise import Apprise, AppriseAttachment, NotifyFormat, NotifyType

from recray.config import ConfigError
from recray.redaction import NOTIFY
from recray.track.history import Report
from recray.track.record import Outcome, RunFolder

log = logging.getLogger(__name__)
BEST_EVERY_S = 60.0
TOLD_WITHIN_S = 20.0
_KINDS = {"finished": NotifyType.SUCCESS, "failed": NotifyType.FAILURE}


class Notices:
    def __init__(self, run: RunFolder, memory: dict[str, Any]) -> None:
        self.run, self.memory = run, memory
        self.doors = opened(os.environ.get(NOTIFY, ""))
        self.complained = False
        self.last_s, self.told = time.monotonic(), memory.get("best", {})
        if not memory.get("started"):
            self._send("started", _table(self._about()))
            memory["started"] = True

    def report(self, first: int, reports: Sequence[Report]) -> None:
        best, metric = self.run.best(), self.run.metric()
        if metric not in best or best == self.told or time.monotonic() - self.last_s < BEST_EVERY_S:
            return
        self._send(
            f"{metric} {best[metric]:.4f} in epoch {best['epoch']:.0f}, the best so far", _table(_short(best))
        )
        self.last_s, self.told = time.monotonic(), best
        self.memory["best"] = best

    def finish(self, outcome: Outcome) -> None:
        reports = self.run.reports()
        last = reports[-1] if reports else {}
        told: dict[str, object] = {"published": outcome.reference} if outcome.reference else {}
        told.update(outcome.metrics or _short(self.run.best()))
        told.update({name: last[name] for name in ("epoch", "wall_s", "dollars") if name in last})
        text = _table(told)
        if outcome.said:
            text += f"\n\n{outcome.said}"
        picture = self.run.picture() if outcome.state == "finished" else None
        self._send(outcome.state, text, _KINDS.get(outcome.state, NotifyType.WARNING), picture)
        self.memory.pop("started")  # who goes on with it says so

    def _about(self) -> dict[str, object]:
        told = ("what", "launch.where", "data.dataset", "seed", "loop.epochs", "loop.metric", "optim.lr")
        settings = self.run.settings()
        return {name: settings[name] for name in told if name in settings}

    def _send(
        self, what: str, text: str, kind: NotifyType = NotifyType.INFO, picture: Path | None = None
    ) -> None:
        for door in self.doors:
            sent = door.notify(
                title=f"{self.run.name}: {what}",
                body=text,
                notify_type=kind,
                body_format=NotifyFormat.TEXT,
                attach=AppriseAttachment(str(picture)) if picture else None,
            )
            if not sent and not self.complained:  # Apprise logs why, with the address in it
                log.warning(
                    "run %s: a notice to %s could not be sent (%s): it is lost, later ones are tried",
                    *(self.run.name, door.service_name, what),
                )
                self.complained = True


def opened(addresses: str) -> Apprise:
    """
    Raises:
        ConfigError: Apprise does not know one of the addresses; says which by its place.
    """
    doors = Apprise()
    for place, address in enumerate(addresses.split(), 1):
        if not doors.add(address):
            raise ConfigError(
                f"address {place} of {NOTIFY} is none that Apprise knows: see its wiki, such as discord://ID/TOKEN"
            )
    return doors


def require_people() -> None:
    """
    Raises:
        ConfigError: RECRAY_NOTIFY names nobody, or an address that Apprise does not know.
    """
    if not len(opened(os.environ.get(NOTIFY, ""))):
        raise ConfigError(f"nobody to tell: set {NOTIFY}, such as discord://ID/TOKEN (docs/tracking.md)")


def tell_people(title: str, text: str, within_s: float = TOLD_WITHIN_S) -> bool:
    """One message to all of RECRAY_NOTIFY; whether each of them has it.

    Whatever a webhook does, refuse, fail or hang, the caller goes on after so many seconds.
    """
    doors, sent = opened(os.environ.get(NOTIFY, "")), list[bool]()

    def send() -> None:
        try:
            sent.append(bool(doors.notify(title=title, body=text, body_format=NotifyFormat.TEXT)))
        except Exception:  # of whatever kind: it is a notice
            log.exception("a notice could not be sent")

    thread = threading.Thread(target=send, name="tell-people", daemon=True)
    thread.start()
    thread.join(within_s)
    return any(sent)


def _short(report: Report) -> dict[str, float]:
    """Without what it says twice, and what means little to a person."""
    return {k: v for k, v in report.items() if not k.startswith("best_") and k not in ("score", "time")}


def _table(values: Mapping[str, object]) -> str:
    width = max(map(len, values), default=0)
    return "\n".join(
        f"{name:<{width}}  {value:.4g}" if isinstance(value, float) else f"{name:<{width}}  {value}"
        for name, value in values.items()
    )


REPORTER = Notices
