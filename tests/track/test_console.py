"""Progress on a console that is no terminal: a line now and then, with what is left."""

import logging

import pytest

from recray.track import console
from recray.track.console import ConsoleProgress


def test_lines_carry_loss_throughput_and_time_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.0)
    monkeypatch.setattr(logging.getLogger("recray"), "propagate", True)
    progress = ConsoleProgress("two_tower")
    with caplog.at_level(logging.INFO, "recray"):
        progress((10, 100, 1, 2.5, 1000.0))
        progress((20, 100, 1, 2.25, 1000.0))
    ours = [record for record in caplog.records if record.name == "recray.track.console"]  # followers log too
    first, second = (record.message for record in ours)
    assert first == "two_tower: step 10/100 epoch 1 loss 2.5000 1,000 samples/s"
    assert second.startswith("two_tower: step 20/100 epoch 1 loss 2.2500 1,000 samples/s, 00:00 left")
