"""No job without a test that runs it."""

from pathlib import Path

import pytest

from tests.jobs.world import REPO

JOBS = sorted(path.stem for path in (REPO / "jobs").glob("*.py"))
TESTS = "\n".join(path.read_text() for path in Path(__file__).parent.glob("test_*_jobs.py"))


@pytest.mark.parametrize("name", JOBS)
def test_every_job_is_run_from_end_to_end(name: str) -> None:
    """By its name, or as the model that ``world.train`` is asked for."""
    assert f'"{name}"' in TESTS or f'"{name.removeprefix("train_")}"' in TESTS
