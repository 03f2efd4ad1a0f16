"""/docs: the OpenAPI document as one page of plain HTML that needs nothing from anywhere else.

Sites are air-gapped, and the usual documentation pages load their scripts from the Internet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h2{margin-top:2.2rem;border-bottom:1px solid #d0d7de}
details{border:1px solid #d0d7de;border-radius:6px;margin:.5rem 0;padding:.4rem .8rem}
summary{cursor:pointer}code,pre{font:13px/1.45 ui-monospace,monospace}
.m{display:inline-block;min-width:3.4rem;font-weight:700}.d{color:#57606a}
table{border-collapse:collapse;margin:.5rem 0}td,th{border:1px solid #d0d7de;padding:.2rem .6rem;text-align:left}
td{vertical-align:top}a{color:#0b5cad}
@media(prefers-color-scheme:dark){body{background:#14181d;color:#d8dee6}details,td,th,h2{border-color:#3a424c}
.d{color:#9aa5b1}a{color:#7ab7ff}}
"""


def page(document: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI 3 document: its operations by tag, then its schemas."""
    info = document["info"]
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["other"])[0]
            groups.setdefault(tag, []).append("".join(_operation(method, path, operation)))
    schemas = document.get("components", {}).get("schemas", {})
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info.get('description', ''))}</p>",
        '<p>The same as a document for programs: <a href="/openapi.json">/openapi.json</a>.</p>',
    ]
    for tag, entries in groups.items():
        parts += [f"<h2>{escape(tag)}</h2>", *entries]
    parts.append("<h2>shapes</h2>")
    for name, schema in sorted(schemas.items()):
        parts += _schema(name, schema)
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>{escape(info["title"])}</title><style>{_STYLE}</style></head>'
        f"<body>{body}</body></html>"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    text = operation.get("description") or operation.get("summary", "")
    guarded = "" if operation.get("security") else " <em>(no token needed)</em>"
    yield (
        f'<details><summary><span class="m">{escape(method.upper())}</span> <code>{escape(path)}</code> '
        f'<span class="d">{escape(text)}</span>{guarded}</summary>'
    )
    parameters = operation.get("parameters", [])
    if parameters:
        yield "<table><tr><th>parameter</th><th>in</th><th>type</th><th></th></tr>"
        for parameter in parameters:
            schema = parameter.get("schema", {})
            note = parameter.get("description", "")
            if "default" in schema:
                note = f"{note} (default {schema['default']})".strip()
            name = parameter["name"] + (" *" if parameter.get("required") else "")
            cells = (name, parameter["in"], _type(schema), note)
            yield "<tr>" + "".join(f"<td>{_code_or_text(i, cell)}</td>" for i, cell in enumerate(cells)) + "</tr>"
        yield "</table>"
    for media in operation.get("requestBody", {}).get("content", {}).values():
        yield f"<p>Body: {_linked(media['schema'])}</p>"
    yield "<table><tr><th>status</th><th>answer</th></tr>"
    for status, response in operation.get("responses", {}).items():
        shapes = [_linked(media["schema"]) for media in response.get("content", {}).values() if "schema" in media]
        what = ", ".join(shapes) or escape(response.get("description", ""))
        yield f"<tr><td>{escape(status)}</td><td>{what}</td></tr>"
    yield "</table></details>"


def _schema(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
    yield f"<p>{escape(schema.get('description', ''))}</p>"
    properties = schema.get("properties", {})
    required = set(schema.get("required", ()))
    if properties:
        yield "<table><tr><th>field</th><th>type</th><th></th></tr>"
        for field, shape in properties.items():
            star = " *" if field in required else ""
            yield (
                f"<tr><td><code>{escape(field)}</code>{star}</td><td>{_linked(shape)}</td>"
                f"<td>{escape(shape.get('description', ''))}</td></tr>"
            )
        yield "</table>"
    yield "</details>"


def _code_or_text(column: int, cell: str) -> str:
    return f"<code>{escape(cell)}</code>" if column == 0 else escape(cell)


def _linked(schema: Mapping[str, Any]) -> str:
    """A type as HTML, with links to the shapes that it names."""
    if "$ref" in schema:
        name = escape(str(schema["$ref"]).rsplit("/", 1)[-1])
        return f'<a href="#{name}"><code>{name}</code></a>'
    if "anyOf" in schema:
        return " or ".join(_linked(option) for option in schema["anyOf"])
    if schema.get("type") == "array" and "items" in schema:
        return f"list of {_linked(schema['items'])}"
    return escape(_type(schema))


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any"))
