"""MLflow: the server that MLFLOW_TRACKING_URI names, else ``mlflow/`` in the home folder.

MLflow allows no ``@`` in names, so ``ndcg@10`` is called ``ndcg_at_10`` there.
"""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

from recray import paths
from recray.track.history import Report
from recray.track.record import SEARCH, Outcome, RunFolder
from recray.track.reporters import ID, OF

FOLDER = "mlflow"
EXPERIMENT = "recray"  # unless MLFLOW_EXPERIMENT_NAME says otherwise
PARENT = "mlflow.parentRunId"  # which MLflow's page nests runs by
IDENTITY, OF_SEARCH = "recray.identity", "recray.search"
MOST_PARAMS, MOST_METRICS, MOST_LETTERS = 100, 1000, 6000  # of one request, and of one value
_STATES = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED", "lost": "KILLED"}


class MlflowStore:
    def __init__(self, run: RunFolder, memory: dict[str, Any]) -> None:
        os.environ.setdefault(
            "MLFLOW_ALLOW_FILE_STORE", "true"
        )  # a database would want more than mlflow-skinny
        place = os.environ.get("MLFLOW_TRACKING_URI") or (paths.home() / FOLDER).as_uri()
        self.folder, self.client = run, MlflowClient(tracking_uri=place)
        if "run_id" not in memory:
            memory["run_id"] = self._begun(memory)
        self.run_id: str = memory["run_id"]
        self.client.update_run(self.run_id, status="RUNNING")

    def report(self, first: int, reports: Sequence[Report]) -> None:
        metrics = [
            Metric(_name(name), value, int(1000 * report.get("time", time.time())), int(report["epoch"]))
            for report in reports
            for name, value in report.items()
        ]
        self._log(metrics)

    def finish(self, outcome: Outcome) -> None:
        now_ms = int(1000 * time.time())
        self._log([Metric(_name(f"test/{name}"), v, now_ms, 0) for name, v in outcome.metrics.items()])
        for tag, value in (("version", outcome.reference), ("said", outcome.said)):
            if value:
                self.client.set_tag(self.run_id, f"recray.{tag}", value)
        if outcome.card:
            self.client.log_dict(self.run_id, outcome.card, "card.json")
        if picture := self.folder.picture():
            self.client.log_artifact(self.run_id, str(picture))
        if outcome.bundle:
            self.client.log_artifacts(self.run_id, outcome.bundle, "bundle")
        self.client.set_terminated(self.run_id, _STATES[outcome.state])

    def _begun(self, memory: dict[str, Any]) -> str:
        """The run with all its params, whether or not a process that was killed here had made it."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        known = self.client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self.client.create_experiment(name)
        settings, tags = self.folder.settings(), {}
        if OF in memory:
            search = str(settings[SEARCH])
            parent = self._run_of(experiment, memory[OF], search, {OF_SEARCH: search})
            if parent.info.status == "RUNNING":  # it holds nothing itself: trials are shown under it
                self.client.set_terminated(parent.info.run_id)
            tags[PARENT] = parent.info.run_id
        run_id: str = self._run_of(experiment, memory[ID], self.folder.title, tags).info.run_id
        params = _params(settings)
        for begin in range(0, len(params), MOST_PARAMS):
            self.client.log_batch(run_id, params=params[begin : begin + MOST_PARAMS])
        return run_id

    def _run_of(self, experiment: str, identity: str, name: str, tags: Mapping[str, str]) -> Run:
        """The run of this identity, made where there is none."""
        found = self.client.search_runs([experiment], f"tags.`{IDENTITY}` = '{identity}'", max_results=1)
        if found:
            return found[0]
        return self.client.create_run(experiment, tags={**tags, IDENTITY: identity}, run_name=name)

    def _log(self, metrics: Sequence[Metric]) -> None:
        for begin in range(0, len(metrics), MOST_METRICS):
            self.client.log_batch(self.run_id, metrics=metrics[begin : begin + MOST_METRICS])


def _name(metric: str) -> str:
    return metric.replace("@", "_at_")


def _params(settings: Mapping[str, object]) -> list[Param]:
    return [Param(_name(name), str(value)[:MOST_LETTERS]) for name, value in settings.items()]


REPORTER = MlflowStore
