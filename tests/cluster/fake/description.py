"""RunPod's own description of its service, by which every request and answer of the fake is judged."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from recray.paths import raw_dirs

# What the service takes by now although the description does not say so.
SINCE = ("entrypoint", "cmd", "minVcpuCountPerGpu", "minRamPerGpu")


class Description:
    def __init__(self, file: Path) -> None:
        self.whole: dict[str, Any] = json.loads(file.read_text())

    @cache  # noqa: B019  # one lives as long as the tests
    def checker(self, schema: str) -> jsonschema.Draft202012Validator:
        rooted = {"$ref": f"#/components/schemas/{schema}", "components": self.whole["components"]}
        return jsonschema.Draft202012Validator(rooted)

    def wrong(self, schema: str, value: object) -> list[str]:
        """What is wrong with a value by the schema of that name."""
        if isinstance(value, dict):
            value = {key: each for key, each in value.items() if key not in SINCE}
        return [f"{each.json_path}: {each.message}" for each in self.checker(schema).iter_errors(value)]


def description() -> Description:
    for folder in raw_dirs():
        if (file := folder.parent / "runpod" / "openapi-v2.json").exists():
            return Description(file)
    return pytest.skip("RunPod's description (../shared/runpod/openapi-v2.json) is not here")
