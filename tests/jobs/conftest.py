"""A home of its own for the jobs of a file, so that every version they publish is the first."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """RECRAY_HOME, and the working directory, where plots go."""
    folder = tmp_path_factory.mktemp("jobs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECRAY_HOME", str(folder))
        patch.chdir(folder)
        yield folder
