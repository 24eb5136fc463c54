"""The JSON schema of a type: what an answer, of a model or of a person, is asked to look like."""

from __future__ import annotations

from typing import Any

import msgspec

from weft.core.errors import BadInput

Shape = dict[str, Any] | type | Any
"""A JSON schema, or a type: msgspec struct, dataclass, TypedDict, Enum, Literal, pydantic model, list[...], int..."""


def schema_of(shape: Shape) -> dict[str, Any]:
    """The JSON schema that answers of this shape fit. Raises BadInput for a type that has none."""
    if isinstance(shape, dict):
        return shape
    if hasattr(shape, "model_json_schema"):
        schema: dict[str, Any] = shape.model_json_schema()
        return schema
    try:
        return _inlined(msgspec.json.schema(shape))
    except (TypeError, RuntimeError) as error:
        raise BadInput(
            f"schema={shape!r} has no JSON schema ({error}); give a dataclass, Enum, Literal or dict"
        ) from None


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Without a `$ref` at the root, which some servers do not follow."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    definitions = schema.get("$defs", {})
    root = {**definitions[reference.rsplit("/", 1)[1]]}
    if len(definitions) > 1:
        root["$defs"] = definitions
    return root
