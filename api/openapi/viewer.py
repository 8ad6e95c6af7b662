"""The OpenAPI document as one HTML page without scripts, and without resources from other servers.

A viewer such as Swagger UI is 1.5 MB of third-party script on the origin that takes payments.
"""

import json
import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --link: light-dark(#0b57d0, #8ab4f8); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; display: grid; grid-template-columns: 17rem 1fr; }
nav { position: sticky; top: 0; height: 100vh; overflow: auto; border-right: 1px solid var(--line); }
nav, main { box-sizing: border-box; padding: 1.5rem; min-width: 0; }
main { max-width: 62rem; }
nav ul { list-style: none; padding: 0; font-size: .875rem; }
nav li { margin: .25rem 0; }
a { color: var(--link); text-underline-offset: .2em; }
article { border-top: 1px solid var(--line); margin-top: 2.5rem; padding-top: .5rem; }
h3 { overflow-wrap: anywhere; }
h4 { margin: 1.25rem 0 .25rem; }
code, pre { font: .875em/1.5 ui-monospace, monospace; background: var(--soft); border-radius: 4px; }
code { padding: .1em .3em; }
pre { padding: .75rem 1rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9375rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0; }
th, td { border-bottom: 1px solid var(--line); }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: 1rem; }
@media (max-width: 50rem) { body { display: block; } nav { position: static; height: auto; border: 0; } }
"""

# A longer list of values is shown in the article of its schema only.
_MAX_INLINE_ENUM = 12

_SHELL = """\
export BASE_URL=http://127.0.0.1:3000
export TOKEN=$(curl -s "$BASE_URL/api/auth/login" -H "Content-Type: application/json" \\
  -d '{"email": "customer@example.com", "password": "Paywright-demo-1"}' |
  sed 's/.*"accessToken":"\\([^"]*\\)".*/\\1/')"""


class Safe(str):
    """Text that is HTML, and is not escaped again."""

    __slots__ = ()


def render(document: dict[str, Any]) -> str:
    """The HTML page of an OpenAPI document."""
    info = document["info"]
    operations = list(_operations(document))
    head = el(
        "head",
        Safe('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        el("title", f"{info['title']} API"),
        el("style", Safe(_STYLE)),
    )
    main = el(
        "main",
        el("h1", f"{info['title']} API ", el("small", info["version"])),
        *_prose(info["description"]),
        el("p", "For programs: ", el("a", "/api/openapi.json", href="/api/openapi.json"), " (OpenAPI 3.1)."),
        el("p", "The examples run in a shell with these two variables (here for the demo customer):"),
        el("pre", _SHELL),
        *_services(document, operations),
        el("h2", "Schemas", id="schemas"),
        *(_schema(name, schema) for name, schema in document["components"]["schemas"].items()),
        id="content",
    )
    skip = el("a", "Skip to the content", href="#content", class_="skip")
    body = el("body", skip, _navigation(document, operations), main)
    return f"<!doctype html>{el('html', head, body, lang='en')}\n"


def el(name: str, *content: str, **attributes: str) -> Safe:
    """An HTML element. Content that is not `Safe` is escaped."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items()
    )
    inner = "".join(part if isinstance(part, Safe) else escape(part, quote=False) for part in content)
    return Safe(f"<{name}{written}>{inner}</{name}>")


# Method, path and the operation.
Listed = tuple[str, str, dict[str, Any]]


def _operations(document: dict[str, Any]) -> Iterator[Listed]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _navigation(document: dict[str, Any], operations: list[Listed]) -> Safe:
    parts: list[Safe] = []
    for tag in document["tags"]:
        links = [
            el("li", el("a", f"{method} {path}", href=f"#{operation['operationId']}"))
            for method, path, operation in operations
            if tag["name"] in operation["tags"]
        ]
        parts += [el("strong", tag["name"]), el("ul", *links)]
    parts.append(el("a", "Schemas", href="#schemas"))
    return el("nav", *parts, aria_label="Routes")


def _services(document: dict[str, Any], operations: list[Listed]) -> Iterator[Safe]:
    for tag in document["tags"]:
        yield el("h2", tag["name"])
        yield el("p", tag["description"])
        for method, path, operation in operations:
            if tag["name"] in operation["tags"]:
                yield _operation(document, method, path, operation)


def _operation(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> Safe:
    roles = operation.get("x-roles")
    parts: list[Safe] = [
        el("h3", el("code", f"{method} {path}")),
        el("p", operation["summary"]),
        *_prose(operation.get("description", "")),
        el("p", f"Roles: {', '.join(roles)}." if roles else "Public: no access token needed."),
    ]
    if parameters := [_resolve(document, parameter) for parameter in operation["parameters"]]:
        rows = (
            [
                el("code", parameter["name"]),
                parameter["in"],
                _required(parameter),
                _kind(parameter["schema"]),
                _description(parameter),
            ]
            for parameter in parameters
        )
        parts += [el("h4", "Parameters"), _table(("name", "in", "", "type", ""), rows)]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        parts += [el("h4", "Body"), el("p", _kind(content["schema"]))]
    parts += [el("h4", "Responses"), _table(("status", "code", ""), _responses(document, operation))]
    parts += [el("h4", "Try it"), *_curls(method, path, operation)]
    return el("article", *parts, id=operation["operationId"])


def _responses(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[list[str]]:
    for status, reference in operation["responses"].items():
        response = _resolve(document, reference)
        content: dict[str, Any] = next(iter(response.get("content", {}).values()), {})
        if examples := content.get("examples"):
            for example in examples.values():
                yield [status, el("code", example["value"]["error"]["code"]), example["summary"]]
        else:
            data = content.get("schema", {}).get("properties", {}).get("data") or content.get("schema")
            kind = Safe(f" {_kind(data)}") if data and data.get("type") != "null" else ""
            yield [status, "", Safe(escape(response["description"]) + kind)]


def _curls(method: str, path: str, operation: dict[str, Any]) -> Iterator[Safe]:
    for parameter in operation["parameters"]:
        if parameter.get("in") == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
    queries = [parameter for parameter in operation["parameters"] if parameter.get("in") == "query"]
    pairs = [f"{query['name']}={query['example']}" for query in queries if query["required"]]
    flag = "" if method == "GET" else f" -X {method}"
    query_string = f"?{'&'.join(pairs)}" if pairs else ""
    lines = [f'curl{flag} "$BASE_URL{path}{query_string}"']
    if "security" not in operation:
        lines.append('-H "Authorization: Bearer $TOKEN"')
    content = operation.get("requestBody", {}).get("content", {})
    bodies = content.get("application/json", {}).get("examples")
    files = list(content.get("multipart/form-data", {}).get("encoding", {}))
    lines += [f"-F {name}=@{name}.png" for name in files]
    if not bodies:
        note = "".join(f"# {name}.png: a picture\n" for name in files)
        yield el("pre", note + " \\\n  ".join(lines))
        return
    lines.append('-H "Content-Type: application/json"')
    for name, body in bodies.items():
        text = json.dumps(body["value"], ensure_ascii=False).replace("'", r"'\''")
        title = f"# {name}\n" if len(bodies) > 1 else ""
        yield el("pre", title + " \\\n  ".join([*lines, f"-d '{text}'"]))


def _schema(name: str, schema: dict[str, Any]) -> Safe:
    parts: list[Safe] = [el("h3", el("code", name)), *_prose(schema.get("description", ""))]
    required = schema.get("required", [])
    if fields := schema.get("properties"):
        rows = (
            [el("code", key), _required({"required": key in required}), _kind(field), _description(field)]
            for key, field in fields.items()
        )
        parts.append(_table(("field", "", "type", ""), rows))
    else:
        parts.append(el("p", _kind(schema, whole_enum=True)))
    return el("article", *parts, id=f"schema-{name}")


def _kind(schema: dict[str, Any], *, whole_enum: bool = False) -> Safe:
    """The type of a schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return el("a", name, href=f"#schema-{name}")
    if kinds := schema.get("anyOf") or schema.get("oneOf"):
        return Safe(" or ".join(_kind(kind) for kind in kinds))
    if "const" in schema:
        return el("code", json.dumps(schema["const"]))
    if "enum" in schema and (whole_enum or len(schema["enum"]) <= _MAX_INLINE_ENUM):
        return Safe(" ".join(el("code", str(value)) for value in schema["enum"]))
    if schema.get("type") == "array":
        return Safe(f"list of {_kind(schema['items'])}")
    words = [schema.get("type", "anything")]
    words += [f"({schema['format']})"] if "format" in schema else []
    words += [f"{word} {schema[key]}" for key, word in _BOUNDS.items() if key in schema]
    return Safe(escape(" ".join(words)))


_BOUNDS = {
    "minimum": "from",
    "maximum": "to",
    "minLength": "at least",
    "maxLength": "at most",
    "pattern": "like",
    "default": "default",
}


def _description(described: dict[str, Any]) -> Safe:
    return _inline(described.get("description", ""))


def _required(parameter: dict[str, Any]) -> str:
    return "required" if parameter.get("required") else ""


def _resolve(document: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in value:
        return value
    found: Any = document
    for key in value["$ref"].removeprefix("#/").split("/"):
        found = found[key]
    return dict(found)


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> Safe:
    head = el("tr", *(el("th", title, scope="col") for title in titles))
    body = (el("tr", *(el("td", cell) for cell in row)) for row in rows)
    return el("table", el("thead", head), el("tbody", *body))


def _prose(text: str) -> Iterator[Safe]:
    """HTML of the Markdown that the document uses: paragraphs, lists and `code`."""
    for block in filter(None, re.split(r"\n\s*\n", text.strip())):
        items = re.split(r"^\* ", block, flags=re.MULTILINE)
        if len(items) > 1:
            yield el("ul", *(el("li", _inline(item)) for item in items if item.strip()))
        else:
            yield el("p", _inline(block))


def _inline(text: str) -> Safe:
    return Safe(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text.strip(), quote=False)))
