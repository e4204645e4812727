"""The API's reference as one plain page, made from its OpenAPI description: no scripts, nothing from elsewhere."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

STYLE = (Path(__file__).parent / "docs.css").read_text(encoding="utf-8")


def docs_page(openapi: dict[str, Any], base: str) -> str:
    """HTML for the description of every route; `base` is where the API is mounted, such as /api."""
    info = openapi["info"]
    schemas = openapi.get("components", {}).get("schemas", {})
    operations = [
        _operation(base + path, method, operation, schemas)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    shapes = [_shape(name, schema) for name, schema in sorted(schemas.items()) if schema.get("properties")]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])} API</title>'
        f"<style>{STYLE}</style><h1>{escape(info['title'])} API {escape(info['version'])}</h1>"
        f"<p>{escape(info['description'])}</p>"
        f'<p class="quiet">For programs: <a href="{escape(base)}/openapi.json">openapi.json</a></p>'
        f"{''.join(operations)}<section><h2>Shapes</h2>{''.join(shapes)}</section></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    fields = [
        (parameter["name"], parameter["in"], _type(parameter["schema"]), parameter.get("description", ""))
        for parameter in operation.get("parameters", [])
    ]
    for content, body in operation.get("requestBody", {}).get("content", {}).items():
        schema = body["schema"]
        if content == "multipart/form-data":
            form = schemas[schema["$ref"].rsplit("/", 1)[-1]]["properties"]
            fields += [(name, "form", _type(field), field.get("description", "")) for name, field in form.items()]
        else:
            fields.append(("", "body", _type(schema), ""))
    answers = [
        (status, "answer", _type(next(iter(answer.get("content", {}).values()), {}).get("schema", {})), text)
        for status, answer in operation["responses"].items()
        if (text := answer.get("description", "")) is not None
    ]
    return (
        f'<h2><code><span class="method">{method.upper()}</span>{escape(path)}</code></h2>'
        f"<p>{escape(operation.get('description', operation.get('summary', '')))}</p>{_table(fields + answers)}"
    )


def _shape(name: str, schema: dict[str, Any]) -> str:
    rows = [
        (field, "", _type(kind), kind.get("description", "")) for field, kind in schema.get("properties", {}).items()
    ]
    about = escape(schema.get("description", ""))
    return f'<h2 id="{escape(name)}"><code>{escape(name)}</code></h2><p>{about}</p>{_table(rows)}'


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    cells = [
        f"<tr><td><code>{escape(name)}</code></td><td class=quiet>{escape(place)}</td>"
        f"<td><code>{kind}</code></td><td>{escape(text)}</td></tr>"
        for name, place, kind, text in rows
    ]
    return f"<table>{''.join(cells)}</table>"


def _type(schema: dict[str, Any]) -> str:
    """A schema in a few words, as HTML: links for named shapes."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(escape(str(value)) for value in schema["enum"])
    if "const" in schema:
        return escape(str(schema["const"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    kind = schema.get("type", "")
    return escape(f"{kind} ({schema['format']})" if "format" in schema else kind)
