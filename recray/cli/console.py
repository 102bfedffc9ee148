"""Look at what is served in a browser: lists, versions, traffic, latency, drift, business, runs, data.

Needs the extra `console`. With RECRAY_ADMIN_TOKEN set as at the server it may also promote, start
canaries and roll back.

recray console --server http://127.0.0.1:8000
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from recray import console
from recray.cli.jobs import run_job
from recray.config import ConfigError
from recray.pages.palette import SERIES, TONES
from recray.serve.http.haproxy import require_port


@dataclass(frozen=True)
class Console:
    server: str = "http://127.0.0.1:8000"
    """The recray server that it looks at."""
    port: int = 8501
    """Where the page is."""
    host: str = "127.0.0.1"
    """At which address: whoever reaches it can do what the server's token allows."""


def look(config: Console) -> None:
    """Serves the page until Ctrl-C.

    Raises:
        ConfigError: Streamlit is not installed, or the port is in use.
    """
    if find_spec("streamlit") is None:
        raise ConfigError("the console needs Streamlit: pip install 'recray[console]'")
    require_port(config.port, config.host)
    app = Path(console.__file__).with_name("app.py")
    options = {"server.port": config.port, "server.address": config.host, **_QUIET, **dict(_theme())}
    words = [f"--{name}={value}" for name, value in options.items()]
    print(f"the console is at http://{config.host}:{config.port}; Ctrl-C stops it", flush=True)
    environment = {**os.environ, console.SERVER: config.server}
    command = [sys.executable, "-m", "streamlit", "run", str(app), *words]
    with suppress(KeyboardInterrupt):
        if status := subprocess.run(command, env=environment, check=False).returncode:
            raise SystemExit(status)


_QUIET = {
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "viewer",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "logger.level": "warning",
}


def _theme() -> Iterator[tuple[str, object]]:
    """The colours of all pages, on both grounds."""
    named = {
        "primaryColor": "blue",
        "backgroundColor": "ground",
        "secondaryBackgroundColor": "card",
        "textColor": "ink",
        "borderColor": "line",
        "linkColor": "blue",
    }
    for ground in ("light", "dark"):
        for option, name in named.items():
            yield f"theme.{ground}.{option}", getattr(TONES[name], ground)
        by_light = {tone.light: getattr(tone, ground) for tone in TONES.values()}
        series = [by_light[color] for color in SERIES]
        yield f"theme.{ground}.chartCategoricalColors", str(series).replace("'", '"')
    yield "theme.baseRadius", "8px"
    yield "theme.showWidgetBorder", "true"
    yield "theme.headingFontSizes", '["1.7rem", "1.3rem", "1.1rem"]'
    yield "theme.paddingTop", "3rem"
    yield "theme.paddingBottom", "3rem"


def main(args: Sequence[str]) -> int:
    return run_job("console", look, Console, __doc__, args)
