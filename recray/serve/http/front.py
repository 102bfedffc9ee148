"""``/``: a page that asks for a user and shows the list with its reasons, by the same call as programs."""

import base64
import hashlib
from pathlib import Path
from string import Template

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from recray.pages.palette import SHEET

_PAGE = Template(Path(__file__).with_name("front.html").read_text("utf-8"))


def add_front(app: FastAPI) -> None:
    """Adds ``GET /``."""
    made = front()
    headers = {"content-security-policy": _policy(made)}

    @app.get("/", include_in_schema=False)
    async def ask() -> HTMLResponse:
        return HTMLResponse(made, headers=headers)


def front(title: str = "recray") -> str:
    """The page. Whatever it shows of an answer it shows as text."""
    return _PAGE.substitute(title=title, sheet=SHEET)


def _policy(made: str) -> str:
    """Nothing but the page's own script runs, and it asks nobody but this server."""
    script = made.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = f"script-src 'sha256-{digest}'; style-src 'unsafe-inline'; connect-src 'self'"
    return f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
