"""The API page: ``/docs`` without a script and without anything from elsewhere, made of ``/openapi.json``."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

_STYLE = """body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}
table{border-collapse:collapse}td{padding:.2em 1em .2em 0;vertical-align:top}code{background:#eee}"""


def add_page(app: FastAPI) -> None:
    """Adds ``GET /docs``."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page(app.openapi()))


def page(described: Mapping[str, Any]) -> str:
    """The HTML of an OpenAPI description: each call with its fields and its answers."""
    title = escape(f"{described['info']['title']} {described['info']['version']}")
    calls = (
        _call(method.upper(), path, call)
        for path, methods in described["paths"].items()
        for method, call in methods.items()
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1><p>For programs: <a href=openapi.json>openapi.json</a></p>{''.join(calls)}</html>"
    )


def _call(method: str, path: str, call: Mapping[str, Any]) -> str:
    answers = ((status, escape(answer["description"])) for status, answer in call["responses"].items())
    return (
        f"<h2><code>{method} {escape(path)}</code></h2><p>{escape(call.get('description', ''))}</p>"
        f"{_table(_fields(call))}<h3>Answers</h3>{_table(answers)}"
    )


def _fields(call: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and what is said of them, of the parameters and of a JSON body."""
    for parameter in call.get("parameters", ()):
        yield parameter["name"], _said(parameter["schema"])
    body = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    yield from _within("", body)


def _within(before: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Those of an object, and of the objects that its arrays hold."""
    for name, inner in schema.get("properties", {}).items():
        yield f"{before}{name}", _said(inner)
        yield from _within(f"{before}{name}[].", inner.get("items", {}))


def _said(schema: Mapping[str, Any]) -> str:
    types = [str(one.get("type", "")) for one in schema.get("anyOf", [schema])]
    default = f"; {escape(str(schema['default']))} where left out" if "default" in schema else ""
    description = escape(schema.get("description", ""))
    return f"{escape(' or '.join(filter(None, types)))}{default}{'. ' if description else ''}{description}"


def _table(rows: Iterator[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td><code>{escape(name)}</code><td>{said}" for name, said in rows)
    return f"<table>{cells}</table>" if cells else ""
