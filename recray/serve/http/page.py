"""The API page: ``/docs`` without a script and without anything from elsewhere, made of ``/openapi.json``."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from recray.pages.palette import SHEET

_STYLE = f"""{SHEET}
td {{ padding: 4px 16px 4px 0; }} h3 {{ font-size: 14px; color: var(--quiet); margin: 16px 0 4px; }}
@media (max-width: 700px) {{ td {{ display: block; padding: 0; border: 0; }}
  td:last-child {{ padding: 0 0 10px 14px; }} }}
"""


def add_page(app: FastAPI) -> None:
    """Adds ``GET /docs``."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page(app.openapi()))


def page(described: Mapping[str, Any]) -> str:
    """The HTML of an OpenAPI description: each call with its fields and its answers."""
    title = escape(f"{described['info']['title']} {described['info']['version']}")
    schemas = _Schemas(described.get("components", {}).get("schemas", {}))
    calls = (
        _call(method.upper(), path, call, schemas)
        for path, methods in described["paths"].items()
        for method, call in methods.items()
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{title}</title><style>{_STYLE}</style><main><h1>{title}</h1>"
        f"<p>For programs: <a href=openapi.json>openapi.json</a></p>{''.join(calls)}</main></html>"
    )


def _call(method: str, path: str, call: Mapping[str, Any], schemas: "_Schemas") -> str:
    responses = sorted(call["responses"].items())
    answers = ((status, escape(answer["description"])) for status, answer in responses)
    answered = next((_json(answer) for status, answer in responses if status[0] == "2"), {})
    return (
        f"<h2><code>{method} {escape(path)}</code></h2><p>{escape(call.get('description', ''))}</p>"
        f"{_table(schemas.asked(call))}<h3>Answers</h3>{_table(answers)}"
        f"<h3>Fields of the answer</h3>{_table(schemas.within('', answered))}"
    )


def _json(body: Mapping[str, Any]) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = body.get("content", {}).get("application/json", {}).get("schema", {})
    return schema


class _Schemas:
    """Says what JSON schemas say.

    Args:
        defined: what they refer to, by name.
    """

    def __init__(self, defined: Mapping[str, Any]) -> None:
        self._defined = defined

    def asked(self, call: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Names and what is said of them, of the parameters and of a JSON body."""
        for parameter in call.get("parameters", ()):
            yield parameter["name"], self._said(parameter["schema"], parameter.get("required", False))
        yield from self.within("", _json(call.get("requestBody", {})), ask=True)

    def within(
        self, before: str, schema: Mapping[str, Any], *, ask: bool = False
    ) -> Iterator[tuple[str, str]]:
        """Those of an object, and of the objects that its arrays and it itself hold."""
        for one in schema.get("anyOf", ()):
            yield from self.within(before, one, ask=ask)
        schema = self._found(schema)
        fields = dict(schema.get("properties", {}))
        if isinstance(others := schema.get("additionalProperties"), dict):
            fields["*"] = others
        for name, inner in fields.items():
            yield f"{before}{name}", self._said(inner, ask and name in schema.get("required", ()))
            yield from self.within(f"{before}{name}.", inner, ask=ask)
            yield from self.within(f"{before}{name}[].", inner.get("items", {}), ask=ask)

    def _found(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._defined.get(schema.get("$ref", "").rpartition("/")[2], schema)
        return found

    def _said(self, schema: Mapping[str, Any], is_required: bool) -> str:
        said = escape(self._kinds(schema))
        if is_required:
            said += "; required"
        if "default" in schema:
            said += f"; {escape(json.dumps(schema['default']))} where left out"
        description = escape(schema.get("description", ""))
        return f"{said}. {description[0].upper()}{description[1:]}" if description else said

    def _kinds(self, schema: Mapping[str, Any]) -> str:
        return " or ".join(filter(None, (self._kind(one) for one in schema.get("anyOf", [schema]))))

    def _kind(self, schema: Mapping[str, Any]) -> str:
        kind = str(self._found(schema).get("type", ""))
        if kind == "array":
            kind += f" of ({self._kinds(schema.get('items', {}))})"
        if "minimum" in schema and "maximum" in schema:
            kind += f", {schema['minimum']:,.10g} to {schema['maximum']:,.10g}"
        return kind


def _table(rows: Iterator[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td><code>{escape(name)}</code><td>{said}" for name, said in rows)
    return f"<table>{cells}</table>" if cells else ""
