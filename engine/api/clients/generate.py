"""Writes pediscreen.ts, the API's TypeScript client, from the API's own description:

    python -m engine.api.clients.generate

A test fails where the file is not what this writes. Types carry the shapes' own names and fields; a method is named
after its operation. What the methods share is in client_head.ts. DICOMweb is left to the libraries for it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from engine.api.app import api

HERE = Path(__file__).parent
HEAD, CLIENT = HERE / "client_head.ts", HERE / "pediscreen.ts"
NOTICE = "// Written by python -m engine.api.clients.generate from the API's description: change that, not this file."
LEFT_OUT = ("DICOMweb",)
BINARY = "application/octet-stream"
KEY = "idempotency-key"


def client(openapi: dict[str, Any]) -> str:
    operations = [
        (path, method, operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
        if not set(operation["tags"]) & set(LEFT_OUT)
    ]
    schemas = openapi["components"]["schemas"]
    used = _used([operation for _, _, operation in operations], schemas)
    types = [_declared(name, schemas[name]) for name in sorted(used)]
    types += [declared for _, _, operation in operations if (declared := _query_of(operation))]
    methods = [_method(path, method, operation) for path, method, operation in operations]
    head = HEAD.read_text(encoding="utf-8").rstrip()
    body = "\n\n".join(methods)
    return (
        f"{NOTICE}\n\n{head}\n\n"
        + "\n\n".join(types)
        + f"\n\nexport class PediScreen extends Connection {{\n{body}\n}}\n"
    )


def _used(found: Any, schemas: dict[str, Any], known: frozenset[str] = frozenset()) -> set[str]:
    """Names of the shapes that are referred to, directly or by each other."""
    names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(found))) - known
    for name in list(names):
        names |= _used(schemas[name], schemas, known | names)
    return names


def _declared(name: str, schema: dict[str, Any]) -> str:
    about = _comment(schema.get("description"), "")
    if "properties" not in schema:
        return f"{about}export type {_name(name)} = {_type(schema)};"
    required = schema.get("required", [])
    fields = []
    for field, kind in schema["properties"].items():
        optional = "" if field in required else "?"
        fields.append(f"{_comment(kind.get('description'), '  ')}  {field}{optional}: {_type(kind)};")
    return f"{about}export interface {_name(name)} {{\n" + "\n".join(fields) + "\n}"


def _method(path: str, method: str, operation: dict[str, Any]) -> str:
    """`name(path parameters..., body or form, query, options)`."""
    parameters = operation.get("parameters", [])
    arguments, call = [], []
    for one in parameters:
        if one["in"] == "path":
            arguments.append(f"{one['name']}: {_type(one['schema'])}")
    url = re.sub(r"\{(\w+)\}", r"${encodeURIComponent(\1)}", path)
    for content, body in operation.get("requestBody", {}).get("content", {}).items():
        kind = "form" if content == "multipart/form-data" else "body"
        arguments.append(f"{kind}: {_type(body['schema'])}")
        call.append(kind)
    if _query_of(operation):
        arguments.append(f"query: {_query_name(operation)} = {{}}")
        call.append("query")
    takes_key = any(one["in"] == "header" and one["name"].lower() == KEY for one in parameters)
    arguments.append(f"options: {'WriteOptions' if takes_key else 'Options'} = {{}}")
    answer = next(value for status, value in operation["responses"].items() if status in ("200", "201"))
    [(kind, content)] = answer["content"].items()
    returned = "ArrayBuffer" if kind == BINARY else _type(content["schema"])
    receive = "bytes" if kind == BINARY else f"json<{returned}>"
    about = _comment(operation.get("description", operation.get("summary")), "  ")
    sent = f"{{ {', '.join([*call, '...options'])} }}"
    return (
        f"{about}  {_camel(operation['operationId'])}({', '.join(arguments)}): Promise<{returned}> {{\n"
        f'    return this.{receive}("{method.upper()}", `{url}`, {sent});\n  }}'
    )


def _query_of(operation: dict[str, Any]) -> str:
    """The parameters of its address, all of which may be left out; "" where it has none."""
    query = [one for one in operation.get("parameters", []) if one["in"] == "query"]
    fields = [f"{_comment(one.get('description'), '  ')}  {one['name']}?: {_type(one['schema'])};" for one in query]
    return f"export interface {_query_name(operation)} {{\n" + "\n".join(fields) + "\n}" if query else ""


def _query_name(operation: dict[str, Any]) -> str:
    return f"{_camel('_' + operation['operationId'])}Query"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _name(schema["$ref"].rsplit("/", 1)[-1])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " | ".join(dict.fromkeys(_type(one) for one in schema[several]))
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if schema.get("contentMediaType") == BINARY:
        return "Blob"
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            return f"[{', '.join(_type(one) for one in schema['prefixItems'])}]"
        case "array":
            inner = _type(schema["items"])
            return f"({inner})[]" if " | " in inner else f"{inner}[]"
        case "object" if "propertyNames" in schema:
            return f"Record<{_type(schema['propertyNames'])}, {_type(schema['additionalProperties'])}>"
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return f"Record<string, {_type(schema['additionalProperties'])}>"
        case "integer" | "number":
            return "number"
        case "string":
            return "string"
        case "boolean":
            return "boolean"
        case "null":
            return "null"
        case _:
            return "unknown"


def _name(schema: str) -> str:
    """Body_analyze_bone_age is AnalyzeBoneAgeForm."""
    return schema if not schema.startswith("Body_") else f"{_camel(schema.removeprefix('Body'))}Form"


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda found: found.group(1).upper(), name)


def _comment(text: str | None, indent: str) -> str:
    lines = (text or "").strip().splitlines()
    if not lines:
        return ""
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */\n"
    return f"{indent}/**\n" + "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines) + f"{indent} */\n"


if __name__ == "__main__":
    CLIENT.write_text(client(api.openapi()), encoding="utf-8")
