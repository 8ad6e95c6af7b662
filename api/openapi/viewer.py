"""The OpenAPI document as one HTML page without scripts, and without resources from other servers.

A viewer such as Swagger UI is 1.5 MB of third-party script on the origin that takes payments.
"""

import json
import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; display: grid; grid-template-columns: 17rem 1fr; }
nav, main { padding: 1.5rem; min-width: 0; max-width: 62rem; }
nav { position: sticky; top: 0; height: 100vh; box-sizing: border-box; overflow: auto; font-size: .875rem; }
nav ul { list-style: none; padding: 0; }
article { border-top: 1px solid #8884; margin-top: 2.5rem; overflow-wrap: anywhere; }
code, pre { font: .875em/1.5 ui-monospace, monospace; background: #8882; }
pre { padding: .75rem 1rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0; }
th, td { border-bottom: 1px solid #8884; }
.skip:not(:focus) { position: absolute; left: -99rem; }
@media (max-width: 50rem) { body { display: block; } nav { position: static; height: auto; } }
"""

_SHELL = """\
export BASE_URL=http://127.0.0.1:3000
export TOKEN=$(curl -s "$BASE_URL/api/auth/login" -H "Content-Type: application/json" \\
  -d '{"email": "customer@example.com", "password": "Paywright-demo-1"}' |
  sed 's/.*"accessToken":"\\([^"]*\\)".*/\\1/')"""

# Keywords of a schema, and the words that stand for them.
_LIMITS = {
    "minimum": "from",
    "maximum": "to",
    "minLength": "at least",
    "maxLength": "at most",
    "pattern": "like",
    "default": "default",
}

Json = dict[str, Any]


def render(document: Json) -> str:
    """The HTML page of an OpenAPI document."""
    info, components = document["info"], document["components"]
    navigation = services = ""
    for tag in document["tags"]:
        operations = [
            (f"{method.upper()} {path}", operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if tag["name"] in operation["tags"]
        ]
        links = [f"<li>{_link(title, operation['operationId'])}</li>" for title, operation in operations]
        navigation += f"<strong>{tag['name']}</strong><ul>{''.join(links)}</ul>"
        services += f"<h2>{tag['name']}</h2>{_prose(tag['description'])}"
        services += "".join(_operation(title, operation, components) for title, operation in operations)
    schemas = "".join(_schema(name, schema) for name, schema in components["schemas"].items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{info["title"]} API</title>
<style>{_STYLE}</style>
</head>
<body>
<a href="#content" class="skip">Skip to the content</a>
<nav>{navigation}{_link("Schemas", "schemas")}</nav>
<main id="content">
<h1>{info["title"]} API {info["version"]}</h1>
{_prose(info["description"])}
<p>For programs: <a href="/api/openapi.json">/api/openapi.json</a> (OpenAPI 3.1).</p>
<p>The examples run in a shell with these two variables (here for the demo customer):</p>
{_code(_SHELL)}
{services}
<h2 id="schemas">Schemas</h2>
{schemas}
</main>
</body>
</html>
"""


def _operation(title: str, operation: Json, components: Json) -> str:
    parameters = [_resolve(one, components["parameters"]) for one in operation["parameters"]]
    fields = (
        (one["name"], f"{one['in']}, required" if one.get("required") else one["in"], one)
        for one in parameters
    )
    content = operation.get("requestBody", {}).get("content", {})
    roles = operation.get("x-roles")
    return f"""
<article id="{operation["operationId"]}">
<h3><code>{title}</code></h3>
<p>{escape(operation["summary"])}</p>
{_prose(operation.get("description", ""))}
<p>{f"Roles: {', '.join(roles)}." if roles else "Public: no access token needed."}</p>
{_fields(fields)}
{"".join(f"<p>Body: {_kind(media['schema'])}</p>" for media in content.values())}
{_table(_responses(operation, components))}
{"".join(map(_code, _commands(title, operation, parameters, content)))}
</article>"""


def _resolve(part: Json, components: Json) -> Json:
    resolved: Json = components[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
    return resolved


def _fields(fields: Iterable[tuple[str, str, Json]]) -> str:
    """A table of parameters or of the fields of a schema: name, note, type and description."""
    return _table(
        (f"<code>{name}</code>", note, _kind(one.get("schema", one)), _inline(one.get("description", "")))
        for name, note, one in fields
    )


def _responses(operation: Json, components: Json) -> Iterator[tuple[str, str, str]]:
    """A row for each success, and one for each error."""
    for status, reference in operation["responses"].items():
        response = _resolve(reference, components["responses"])
        content: Json = next(iter(response.get("content", {}).values()), {})
        if examples := content.get("examples"):
            for example in examples.values():
                code = example["value"]["error"]["code"]
                yield status, f"<code>{code}</code>", _inline(example["summary"])
        else:
            schema = content.get("schema", {"type": "null"})
            data = schema.get("properties", {}).get("data", schema)
            yield status, _kind(data), _inline(response["description"])


def _commands(title: str, operation: Json, parameters: list[Json], content: Json) -> Iterator[str]:
    """A shell command for each example of the body."""
    method, path = title.split(" ")
    query = []
    for parameter in parameters:
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
        elif parameter["in"] == "query" and parameter["required"]:
            query.append(f"{parameter['name']}={parameter['example']}")
    lines = [f'curl -X {method} "$BASE_URL{path}{"?" if query else ""}{"&".join(query)}"']
    if "security" not in operation:
        lines.append('-H "Authorization: Bearer $TOKEN"')
    for media, body in content.items():
        lines += [f"-F {name}=@{name}.png" for name in body.get("encoding", ())]
        for name, example in body.get("examples", {}).items():
            text = json.dumps(example["value"], ensure_ascii=False).replace("'", r"'\''")
            body_lines = [f'-H "Content-Type: {media}"', f"-d '{text}'"]
            yield f"# {name}\n" + " \\\n  ".join([*lines, *body_lines])
    if "application/json" not in content:
        yield " \\\n  ".join(lines)


def _schema(name: str, schema: Json) -> str:
    required = schema.get("required", ())
    properties = schema.get("properties", {}).items()
    fields = ((key, "required" if key in required else "", field) for key, field in properties)
    return f"""
<article id="schema-{name}">
<h3><code>{name}</code></h3>
{_prose(schema.get("description", ""))}
{_fields(fields) if "properties" in schema else f"<p>{_kind(schema)}</p>"}
</article>"""


def _kind(schema: Json) -> str:
    """The type of a schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _link(name, f"schema-{name}")
    if kinds := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(map(_kind, kinds))
    if "const" in schema or "enum" in schema:
        values = schema.get("enum") or [schema["const"]]
        return " ".join(f"<code>{escape(str(value))}</code>" for value in values)
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    words = [schema.get("type", "anything")]
    words += [f"({schema['format']})"] if "format" in schema else []
    words += [f"{word} {schema[key]}" for key, word in _LIMITS.items() if key in schema]
    return escape(" ".join(words))


def _table(rows: Iterable[Iterable[str]]) -> str:
    lines = (f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{''.join(lines)}</table>"


def _link(text: str, id: str) -> str:
    return f'<a href="#{id}">{text}</a>'


def _code(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def _prose(text: str) -> str:
    """HTML of the Markdown that the document uses: paragraphs, lists and `code`."""
    blocks = []
    for block in filter(None, re.split(r"\n\s*\n", text.strip())):
        paragraph, *items = re.split(r"^\* ", block, flags=re.MULTILINE)
        listed = "".join(f"<li>{_inline(item)}</li>" for item in items)
        blocks.append(f"<ul>{listed}</ul>" if items else f"<p>{_inline(paragraph)}</p>")
    return "".join(blocks)


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text.strip(), quote=False))
