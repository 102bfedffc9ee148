"""A data set prepared by tasks of Ray Data is the one that this process makes."""

from functools import partial
from pathlib import Path

import pytest

from recray.data.etl.spread import with_ray
from recray.data.events import prepare as preparing
from recray.data.events.dataset import load_dataset
from recray.data.events.prepare import in_memory, in_partitions, prepared_manifest
from recray.schema import DataError
from tests.data.events.test_partitioned import table, written

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_the_same_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "ROWS", 1_000)
    data = written(table(), tmp_path / "raw", 2)
    made = []
    for name, reader in (("memory", in_memory), ("ray", in_partitions(with_ray))):
        monkeypatch.setenv("RECRAY_HOME", str(tmp_path / name))
        prepared_manifest(data, k_core=5, reader=reader)
        (folder,) = (tmp_path / name / "datasets").glob("[!.]*")
        made.append(load_dataset(folder))
    assert made[1].hash == made[0].hash


def test_results_are_in_order_and_what_is_wrong_is_told_once(tmp_path: Path) -> None:
    assert list(with_ray(partial(_odd_only, tmp_path), [3, 1, 5])) == [9, 1, 25]
    with pytest.raises(DataError, match="2 is even"):
        list(with_ray(partial(_odd_only, tmp_path), [2]))
    assert (tmp_path / "2").read_text() == "."


def _odd_only(folder: Path, number: int) -> int:
    with (folder / str(number)).open("a") as file:
        file.write(".")
    if number % 2 == 0:
        raise DataError(f"{number} is even")
    return number**2
