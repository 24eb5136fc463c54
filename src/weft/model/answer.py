"""What a generation may be asked to look like: the JSON schema of a type, and the way back from text to a value."""

from __future__ import annotations

from typing import Any

import msgspec

from weft.core.errors import BadInput, ModelError

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


def parse(text: str, shape: Shape, model: str, finish: str) -> Any:
    """The value that `text` stands for. Raises ModelError if it does not fit: say, it was cut short."""
    try:
        if isinstance(shape, dict):
            return msgspec.json.decode(text)
        if hasattr(shape, "model_validate_json"):
            return shape.model_validate_json(text)
        return msgspec.json.decode(text, type=shape)
    except ValueError as error:  # both libraries' errors are ValueErrors
        fix = "raise max_tokens" if finish == "length" else "try a larger model or a simpler schema"
        raise ModelError(f"{model} answered {text[:80]!r}, which does not fit the schema ({error}); {fix}") from error
