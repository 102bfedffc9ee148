"""How busy others are is told from how busy this is."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.load import Load, _all_s, _ours_s

SPIN = "import time\nwhile time.process_time() < {}: pass"


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_what_this_and_its_children_use_is_ours() -> None:
    ours, everything = _ours_s(), _all_s()
    spin(0.3)
    subprocess.run([sys.executable, "-c", SPIN.format(0.4)], check=True)
    used = _ours_s() - ours
    assert used >= 0.6
    assert _all_s() - everything >= used - 0.1


def test_a_result_that_was_taken_beside_other_work_is_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load, file = Load(), tmp_path / "result.json"
    load._during = [0.1, 0.2]
    load.finish({"ratio": 2.0}, file)
    kept = json.loads(file.read_text())
    assert (kept["ratio"], kept["load"]["quiet"], kept["load"]["others_during"]) == (2.0, True, 0.15)
    load._during = [0.1, 0.9]
    load.finish({"ratio": 9.0}, file)
    assert json.loads(file.read_text()) == kept
    first, last = capsys.readouterr().out.splitlines()[-2:]
    assert first == "not kept in result.json: others used 0.50 cores meanwhile"
    assert json.loads(last)["load"]["quiet"] is False
