"""Reports are kept a line each; their curves have a panel per model and a line per seed."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from recray.track import history
from recray.track.curves import plot_curves


def reports(values: list[float]) -> list[dict[str, float]]:
    return [
        {"epoch": i + 1.0, "ndcg@10": v, "train_loss": 5 - v, "grad_norm": 1.0} for i, v in enumerate(values)
    ]


def test_reports_come_back_and_a_line_that_was_cut_off_does_not(tmp_path: Path) -> None:
    assert history.read(tmp_path) == []
    for report in reports([0.1, 0.2]):
        history.append(tmp_path, report)
    with (tmp_path / history.FILE).open("a") as file:
        file.write('{"epoch": 3.0, "ndcg')
    assert history.read(tmp_path) == reports([0.1, 0.2])
    history.append(tmp_path, reports([0.1, 0.2, 0.3])[2])  # the resumed run
    assert history.read(tmp_path) == reports([0.1, 0.2, 0.3])


def test_a_resumed_run_counts_once_and_what_measured_nothing_does_not() -> None:
    first, again = reports([0.1, 0.2, 0.3]), reports([0.1, 0.25, 0.35])[1:]
    within_an_epoch = {"epoch": 2.0, "best_epoch": 2.0}
    found = history.by_epoch([*first, within_an_epoch, *again], "ndcg@10")
    assert [report["ndcg@10"] for report in found] == [0.1, 0.25, 0.35]
    assert history.by_epoch([{"epoch": 1.0, "ndcg@10": float("nan")}], "ndcg@10") == []


@pytest.mark.parametrize(("goal", "best"), [("max", [(2, 0.4), (3, 0.3)]), ("min", [(1, 0.1), (1, 0.2)])])
def test_a_panel_per_model_a_line_per_seed_and_the_best_epoch(
    goal: str, best: list[tuple[float, float]], tmp_path: Path
) -> None:
    figures: list[Figure] = []
    keep = mock.patch.object(
        Figure, "savefig", autospec=True, side_effect=lambda f, *_, **__: figures.append(f)
    )
    seeds = [reports([0.1, 0.4, 0.3]), reports([0.2, 0.25, 0.3])]
    with keep:
        plot_curves(
            {"sasrec": seeds, "ncf": [reports([0.1])], "none": [[]]}, tmp_path / "c.png", "ndcg@10", goal=goal
        )
    left = [axes for axes in figures[0].axes if axes.get_title()]
    assert [axes.get_title() for axes in left] == ["sasrec", "ncf", "none"]
    drawn = [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in left[0].lines]
    curves = [list(y) for _, y in drawn if len(y) > 1]
    assert curves == [[0.1, 0.4, 0.3], [0.2, 0.25, 0.3]]
    assert [(x[0], y[0]) for x, y in drawn if len(y) == 1] == best
    losses = next(axes for axes in figures[0].axes if "loss" in axes.get_ylabel())
    np.testing.assert_allclose(np.asarray(losses.lines[0].get_ydata(), np.float64), [4.9, 4.6, 4.7])


def test_it_is_a_picture(tmp_path: Path) -> None:
    plot_curves({"sasrec": [reports([0.1, 0.4])]}, tmp_path / "c.png", "ndcg@10")
    assert imread(tmp_path / "c.png").std() > 0
