"""A file that a submitted job writes is not lost with Ray's copy of the working directory."""

import json
from pathlib import Path

import pytest

from recray import paths
from recray.cli.evaluate import Evaluate
from recray.cli.outputs import ABOUT_JOB, output


def test_outputs_of_a_submitted_job_are_kept_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert output(Path("plot.png")) == Path("plot.png")
    package = tmp_path / "working_dir_files" / "_ray_pkg_0123456789abcdef"
    package.mkdir(parents=True)
    monkeypatch.chdir(package)
    monkeypatch.setenv(ABOUT_JOB, json.dumps({"metadata": {"job_submission_id": "raysubmit_1"}}))
    asked = Evaluate(json=Path("out.json"), curves=tmp_path / "curves.png")
    assert asked.plot == paths.runs_dir() / "raysubmit_1" / "evaluation.png"
    assert asked.json == paths.runs_dir() / "raysubmit_1" / "out.json"
    assert asked.curves == tmp_path / "curves.png"
    assert asked.plot.parent.is_dir()
