"""The builder of Serve config files: every option of an application, validated by name and type."""

from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, TypeAdapter, with_config
from ray.serve import Application

from recray.serve.place.config import PlacementConfig, ServiceConfig
from recray.serve.place.deployments import build_application


@with_config(ConfigDict(extra="forbid"))  # rules within it alike
@dataclass(frozen=True, kw_only=True)
class ApplicationConfig(ServiceConfig, PlacementConfig):
    """Every option, side by side: the ``args`` of an application."""

    def __post_init__(self) -> None:
        ServiceConfig.__post_init__(self)
        PlacementConfig.__post_init__(self)


_ARGUMENTS = TypeAdapter(ApplicationConfig)


def build(args: dict[str, Any]) -> Application:
    """The application that the arguments describe: the fields of both configs, by name.

    Raises:
        ValidationError: of pydantic, for a key that is no option or a value that does not fit.
        ConfigError: as ``build_application``.
    """
    # One value is both configs; each part of the application reads its own.
    given = _ARGUMENTS.validate_python(args)
    return build_application(given, given)
