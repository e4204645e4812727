"""The API's reference as one plain page, made from its OpenAPI description: no scripts, nothing from elsewhere."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

STYLE = (Path(__file__).parent / "docs.css").read_text(encoding="utf-8")
LONGEST_EXAMPLE = 2400  # characters

Row = tuple[str, str, str, str]


def docs_page(openapi: dict[str, Any], base: str) -> str:
    """HTML for the description of every route; `base` is where the API is mounted, such as /api."""
    info = openapi["info"]
    schemas = openapi.get("components", {}).get("schemas", {})
    operations = [
        (base + path, method, operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    contents = "".join(
        f'<li><a href="#{escape(operation["operationId"])}"><code>{method.upper()} {escape(path)}</code></a>'
        f'<span class="quiet">{escape(_scope(operation) or "no token")}</span></li>'
        for path, method, operation in operations
    )
    described = "".join(_operation(path, method, operation, schemas) for path, method, operation in operations)
    shapes = [_shape(name, schema) for name, schema in sorted(schemas.items()) if schema.get("properties")]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])} API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<h1>{escape(info['title'])} API {escape(info['version'])}</h1><p>{escape(info['description'])}</p>"
        f'<p class="quiet">For programs: <a href="{escape(base)}/openapi.json">openapi.json</a></p>'
        f"{_calling(openapi)}<ul class=contents>{contents}</ul>{described}"
        f"<section><h2>Shapes</h2>{''.join(shapes)}</section></html>"
    )


def _calling(openapi: dict[str, Any]) -> str:
    """What holds for every route."""
    [token] = openapi["components"]["securitySchemes"].values()
    return (
        "<section><h2>Who may call it</h2>"
        f"<pre>Authorization: Bearer {escape(token['bearerFormat'])}</pre><p>{escape(token['description'])}</p>"
        "</section>"
    )


def _operation(path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    scope = _scope(operation)
    needs = f'Scope <code class="scope">{escape(scope)}</code>' if scope else "Needs no token"
    return (
        f'<h2 id="{escape(operation["operationId"])}"><code><span class="method">{method.upper()}</span>'
        f"{escape(path)}</code></h2><p>{escape(operation.get('description', operation.get('summary', '')))}</p>"
        f'<p class="quiet">{needs}</p>{_table(_asked(operation, schemas))}{_sent(operation, schemas)}'
        f"{_answered(operation, schemas)}"
    )


def _scope(operation: dict[str, Any]) -> str:
    return ", ".join(scope for one in operation.get("security", []) for scopes in one.values() for scope in scopes)


def _asked(operation: dict[str, Any], schemas: dict[str, Any]) -> list[Row]:
    """Parameters, and the fields of a form."""
    rows = [
        (parameter["name"], parameter["in"], _type(parameter["schema"]), parameter.get("description", ""))
        for parameter in operation.get("parameters", [])
    ]
    for content, body in operation.get("requestBody", {}).get("content", {}).items():
        schema = body.get("schema", {})
        if content == "multipart/form-data":
            form = schemas[schema["$ref"].rsplit("/", 1)[-1]]["properties"]
            rows += [(name, "form", _type(field), field.get("description", "")) for name, field in form.items()]
        else:
            rows.append(("", "body", _type(schema) or escape(content), ""))
    return rows


def _sent(operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    """Examples of the request's body; of a form the curl command that sends it."""
    found = []
    for content, body in operation.get("requestBody", {}).get("content", {}).items():
        for example in examples_of(body, schemas):
            if content == "multipart/form-data":
                found.append(" ".join(["curl", *(_form_field(name, value) for name, value in example.items())]))
            else:
                found.append(_as_json(example))
    return "".join(f"<p class=quiet>Sent, for example</p><pre>{escape(one)}</pre>" for one in found)


def _form_field(name: str, value: Any) -> str:
    is_file = "(the file)" in (value if isinstance(value, list) else [value])
    return f"-F {name}={'@film.dcm' if is_file else value}"


def _answered(operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    rows, examples = [], ""
    for status, answer in sorted(operation["responses"].items()):
        content = next(iter(answer.get("content", {}).values()), {})
        errors = [one["error"]["code"] for one in examples_of(content, schemas) if "error" in one and status >= "400"]
        code = f' <span class="quiet">such as {escape(errors[0])}</span>' if errors else ""
        rows.append((status, "answer", _type(content.get("schema", {})) + code, answer.get("description", "")))
        if status < "300":
            examples += "".join(
                f"<p class=quiet>Answered, for example</p><pre>{escape(_as_json(one))}</pre>"
                for one in examples_of(content, schemas)
                if not isinstance(one, str)
            )
    return _table(rows) + examples


def examples_of(content: dict[str, Any], schemas: dict[str, Any]) -> list[Any]:
    """Of a request's or answer's content: its own, else those of its shape."""
    if "example" in content:
        return [content["example"]]
    schema = content.get("schema", {})
    for one in [schema, *schema.get("anyOf", [])]:
        if "$ref" in one and (found := schemas[one["$ref"].rsplit("/", 1)[-1]].get("examples")):
            return found
    return []


def _as_json(example: Any) -> str:
    text = json.dumps(example, indent=2, ensure_ascii=False)
    return text if len(text) <= LONGEST_EXAMPLE else text[:LONGEST_EXAMPLE].rsplit("\n", 1)[0] + "\n  ..."


def _shape(name: str, schema: dict[str, Any]) -> str:
    rows = [
        (field, "", _type(kind), kind.get("description", "")) for field, kind in schema.get("properties", {}).items()
    ]
    about = escape(schema.get("description", ""))
    return f'<h2 id="{escape(name)}"><code>{escape(name)}</code></h2><p>{about}</p>{_table(rows)}'


def _table(rows: list[Row]) -> str:
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
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_type(one) for one in schema[several])
    if "enum" in schema:
        return " | ".join(escape(str(value)) for value in schema["enum"])
    if "const" in schema:
        return escape(str(schema["const"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    kind = schema.get("type", "")
    return escape(f"{kind} ({schema['format']})" if "format" in schema else kind)
