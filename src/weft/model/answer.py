"""What a generation may be asked to look like, and the way back from text to a value."""

from __future__ import annotations

from typing import Any

import msgspec

from weft.core.errors import AnswerMisfit
from weft.core.schema import Shape, schema_of

__all__ = ["Shape", "parse", "schema_of"]


def parse(text: str, shape: Shape, model: str, finish: str) -> Any:
    """The value that `text` stands for. Raises AnswerMisfit if it does not fit: say, it was cut short."""
    try:
        if isinstance(shape, dict):
            return msgspec.json.decode(text)
        if hasattr(shape, "model_validate_json"):
            return shape.model_validate_json(text)
        return msgspec.json.decode(text, type=shape)
    except ValueError as error:  # both libraries' errors are ValueErrors
        fix = "raise max_tokens" if finish == "length" else "try a larger model or a simpler schema"
        raise AnswerMisfit(f"{model} answered {text[:80]!r}, which does not fit the schema ({error}); {fix}") from error
