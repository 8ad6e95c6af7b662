"""The schemas of the OpenAPI document: each request and response model once, with an example."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from api.http.fields import OneOfBodies, Query, RequestBody

Schema = dict[str, Any]

_PREFIX = "#/components/schemas/"

_EXAMPLE_BY_TYPE = {"string": "text", "boolean": False, "object": {}, "null": None}


class _WithoutTitles(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        """Omits titles, which would only repeat the names of the fields."""
        return False


class Schemas:
    """The schemas of a set of models. A schema refers to the models inside it by `$ref`."""

    def __init__(self, models: Iterable[type[BaseModel]]) -> None:
        self._models = list(dict.fromkeys(models))
        refs, definitions = models_json_schema(
            [
                (model, "validation" if issubclass(model, RequestBody | OneOfBodies) else "serialization")
                for model in self._models
            ],
            ref_template=_PREFIX + "{model}",
            schema_generator=_WithoutTitles,
        )
        self._refs = {model: ref for (model, _mode), ref in refs.items()}
        self._definitions: dict[str, Schema] = definitions.get("$defs", {})
        for model in self._models:
            if issubclass(model, RequestBody | OneOfBodies) and not issubclass(model, Query):
                self._remove_defaults(self.of(model))

    def _remove_defaults(self, body: Schema) -> None:
        """Removes the defaults of a body's fields: generated clients would make these fields required."""
        for shape in body.get("oneOf", [body]):
            for field in self._resolve(shape)["properties"].values():
                field.pop("default", None)

    def components(self) -> dict[str, Schema]:
        """Returns `components/schemas`: all but the queries, whose fields are parameters."""
        queries = {self._name(model) for model in self._models if issubclass(model, Query)}
        return {name: schema for name, schema in sorted(self._definitions.items()) if name not in queries}

    def ref(self, model: type[BaseModel]) -> Schema:
        """Returns a reference to the model's schema."""
        return {"$ref": _PREFIX + self._name(model)}

    def of(self, model: type[BaseModel]) -> Schema:
        """Returns the model's schema."""
        return self._definitions[self._name(model)]

    def example(self, schema: Schema) -> Any:
        """Returns an example value, made of the examples of the fields."""
        schema = self._resolve(schema)
        for key in ("examples", "const", "default", "enum"):
            if key in schema:
                return schema[key][0] if key in ("examples", "enum") else schema[key]
        if "properties" in schema:
            required = schema.get("required", [])
            fields = schema["properties"].items()
            return {name: self.example(field) for name, field in fields if name in required}
        if kinds := schema.get("anyOf") or schema.get("oneOf"):
            return self.example(kinds[0])
        if schema["type"] == "array":
            return [self.example(schema["items"])]
        return _EXAMPLE_BY_TYPE[schema["type"]]

    def _resolve(self, schema: Schema) -> Schema:
        # Examples beside a reference replace those of the schema that it names.
        if "$ref" not in schema or "examples" in schema:
            return schema
        return self._resolve(self._definitions[schema["$ref"].removeprefix(_PREFIX)])

    def _name(self, model: type[BaseModel]) -> str:
        ref: str = self._refs[model]["$ref"]
        return ref.removeprefix(_PREFIX)
