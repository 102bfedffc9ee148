"""Weights & Biases: a run of fixed id, so that what was interrupted goes on in the same place.

Without a key everything is kept offline in the run's folder (``wandb sync`` sends it later). Only what the
run's folder says is told: no command line, no code, no machine, no output of a console.
"""

import netrc
import os
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import urlsplit

import wandb

from recray.track.history import Report
from recray.track.record import SEARCH, Outcome, RunFolder
from recray.track.reporters import ID

Mode: TypeAlias = Literal["online", "offline", "disabled", "shared"]
PROJECT = "recray"  # unless WANDB_PROJECT says otherwise


class WeightsAndBiases:
    def __init__(self, run: RunFolder, memory: dict[str, Any]) -> None:
        # Folders of one name are not one run: a name may be taken again, here or on another machine.
        memory.setdefault("id", f"{run.title[:100]}-{memory[ID][:8]}")
        self.folder = run
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=memory["id"],
            name=run.title,
            group=str(run.settings().get(SEARCH) or run.settings().get("what", "")) or None,
            resume="allow",
            dir=run.folder,
            config=run.settings(),
            settings=wandb.Settings(
                mode=_mode(),
                reinit="create_new",  # after a failure, not the one that failed
                silent=True,
                console="off",
                disable_code=True,
                disable_git=True,
                disable_job_creation=True,
                save_code=False,
                host="",
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        self.run.define_metric("epoch", hidden=True)
        self.run.define_metric("*", step_metric="epoch")

    def report(self, first: int, reports: Sequence[Report]) -> None:
        for number, report in enumerate(reports, first):
            self.run.log(dict(report), step=number)

    def finish(self, outcome: Outcome) -> None:
        summary = {f"test/{name}": value for name, value in outcome.metrics.items()}
        for name, value in {"state": outcome.state, "reference": outcome.reference, **summary}.items():
            self.run.summary[name] = value
        if outcome.card:
            self.run.config.update({"card": outcome.card}, allow_val_change=True)  # type: ignore[no-untyped-call]
        if outcome.said:
            self.run.summary["said"] = outcome.said
        if picture := self.folder.picture():
            self.run.log({"curves": wandb.Image(str(picture))})
        if outcome.bundle:
            self._keep_bundle(outcome)
        self.run.finish(exit_code=0 if outcome.state == "finished" else 1)

    def _keep_bundle(self, outcome: Outcome) -> None:
        name = outcome.reference.partition(" ")[0]
        artifact = wandb.Artifact(name, type="bundle", metadata={"reference": outcome.reference})
        artifact.add_dir(outcome.bundle, policy="immutable")  # a bundle never changes: no copy is needed
        self.run.log_artifact(artifact)


def _mode() -> Mode:
    """What WANDB_MODE says, else online with a key: of the environment, or from `wandb login`."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname
    try:
        key = os.environ.get("WANDB_API_KEY") or netrc.netrc().authenticators(str(host))
    except (OSError, netrc.NetrcParseError):  # there is no such file, or no readable one
        key = None
    return cast(Mode, os.environ.get("WANDB_MODE") or ("online" if key else "offline"))


REPORTER = WeightsAndBiases
