"""The board and the stack that watch a server: they ask for what a server says, and mount what there is."""

import json
import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from recray.serve.http.metrics import GatewayMetrics

IMAGE = Path(__file__).parents[2] / "recray" / "cluster" / "image"
BOARD: dict[str, Any] = json.loads((IMAGE / "watch" / "dashboards" / "recray.json").read_text())
STACK: dict[str, Any] = yaml.safe_load((IMAGE / "compose.yaml").read_text())
OF_KINDS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


def _exported() -> set[str]:
    """Names of series, also of those that nothing was counted in yet."""
    metrics = GatewayMetrics()
    text = generate_latest(metrics.registry).decode()
    rooms = Path(__file__).parents[2] / "recray" / "serve" / "http"
    said = "".join((rooms / name).read_text() for name in ("log_metrics.py", "drift_metrics.py"))
    of_files = {f"{name}{end}" for name in re.findall(r'"(recray_\w+)"', said) for end in ("", "_total")}
    return of_files | {
        f"{family.name}{end}"
        for family in text_string_to_metric_families(text)
        for end in OF_KINDS.get(family.type, ("",))
    }


def test_each_panel_asks_for_series_that_a_server_has() -> None:
    asked = {name for panel in BOARD["panels"] for target in panel["targets"]
             for name in re.findall(r"recray_\w+", target["expr"])}  # fmt: skip
    assert len(asked) > 10
    assert asked <= _exported()


def test_no_panel_lies_upon_another() -> None:
    cells = [
        (x, y)
        for panel in BOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(0 <= x < 24 for x, _ in cells)


def test_the_stack_mounts_files_that_exist_and_is_open_to_this_machine_alone() -> None:
    for service in STACK["services"].values():
        for mounted in service.get("volumes", ()):
            source = mounted.partition(":")[0]
            if source.startswith("./"):
                assert (IMAGE / source).exists(), source
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    built = STACK["services"]["recray"]["build"]
    assert (IMAGE / built["context"] / built["dockerfile"]).resolve() == IMAGE / "Dockerfile"
    assert "--application ${APPLICATION:?" in STACK["services"]["recray"]["command"]
