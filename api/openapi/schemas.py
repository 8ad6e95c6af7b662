"""The schemas of the document: of every shape and answer, each once, and an example of each."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from api.http.requests import OneOfBodies, Query, RequestBody

Schema = dict[str, Any]

_PREFIX = "#/components/schemas/"

_PLAIN = {"string": "text", "boolean": False, "object": {}, "null": None}


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        """A title that repeats the name of the field tells nothing."""
        return False


def _without_defaults(schema: Schema) -> None:
    """Lets what may be left out of a body be left out: generators make a field with a default required."""
    for field in schema["properties"].values():
        field.pop("default", None)


class Schemas:
    """Every model of the document."""

    def __init__(self, models: Iterable[type[BaseModel]]) -> None:
        self._models = list(dict.fromkeys(models))
        refs, defined = models_json_schema(
            [
                (model, "validation" if issubclass(model, RequestBody | OneOfBodies) else "serialization")
                for model in self._models
            ],
            ref_template=_PREFIX + "{model}",
            schema_generator=_Untitled,
        )
        self._refs = {model: ref for (model, _mode), ref in refs.items()}
        self._defined: dict[str, Schema] = defined.get("$defs", {})
        for model in self._models:
            if issubclass(model, RequestBody) and not issubclass(model, Query):
                _without_defaults(self.of(model))
            if issubclass(model, OneOfBodies):
                for kind in self.of(model)["oneOf"]:
                    _without_defaults(self._defined[kind["$ref"].removeprefix(_PREFIX)])

    def components(self) -> dict[str, Schema]:
        """All but the queries, whose fields are parameters."""
        queries = {self._name(model) for model in self._models if issubclass(model, Query)}
        return {name: schema for name, schema in sorted(self._defined.items()) if name not in queries}

    def ref(self, model: type[BaseModel]) -> Schema:
        """Where the model is defined."""
        return {"$ref": _PREFIX + self._name(model)}

    def of(self, model: type[BaseModel]) -> Schema:
        """The model's schema itself."""
        return self._defined[self._name(model)]

    def example(self, schema: Schema) -> Any:  # noqa: PLR0911 - one a kind of schema
        """One value of this schema, put together from the examples that the fields give."""
        if "examples" in schema:
            return schema["examples"][0]
        if "$ref" in schema:
            return self.example(self._defined[schema["$ref"].removeprefix(_PREFIX)])
        if "const" in schema:
            return schema["const"]
        if "default" in schema:
            return schema["default"]
        if "enum" in schema:
            return schema["enum"][0]
        if "properties" in schema:
            required = schema.get("required", [])
            fields = schema["properties"].items()
            return {name: self.example(field) for name, field in fields if name in required}
        if kinds := schema.get("anyOf") or schema.get("oneOf"):
            return self.example(kinds[0])
        if schema.get("type") == "array":
            return [self.example(schema["items"])]
        return _PLAIN[schema["type"]]

    def _name(self, model: type[BaseModel]) -> str:
        ref: str = self._refs[model]["$ref"]
        return ref.removeprefix(_PREFIX)
