"""msgspec Structs among the parameters of a tool: pydantic, which makes the schemas, is told what they are.

A Struct is shown to it as the dataclass of the same fields; what was read as that dataclass becomes the Struct.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import lru_cache
from typing import Annotated, Any, Literal, get_type_hints

import msgspec

_HOOK = "__get_pydantic_core_schema__"
_lock = threading.RLock()
_depth = 0


@contextmanager
def understood() -> Generator[None]:
    """While a schema is made, pydantic understands Structs (its way to ask is an attribute of the class)."""
    global _depth
    with _lock:
        _depth += 1
        setattr(msgspec.Struct, _HOOK, classmethod(_core_schema))
        try:
            yield
        finally:
            _depth -= 1
            if not _depth:
                delattr(msgspec.Struct, _HOOK)


def _core_schema(cls: type[msgspec.Struct], source: Any, handler: Any) -> Any:
    from pydantic_core import core_schema

    twin = _twin(cls)
    names = [field.name for field in dataclasses.fields(twin) if field.name in cls.__struct_fields__]

    def read(value: Any, inner: Callable[[Any], Any]) -> Any:
        if isinstance(value, cls):
            return value
        found = inner(value)
        try:
            return cls(**{name: getattr(found, name) for name in names})
        except (TypeError, ValueError) as error:  # of its own __post_init__
            raise ValueError(str(error)) from None

    return core_schema.no_info_wrap_validator_function(read, handler.generate_schema(twin))


@lru_cache(maxsize=1024)
def _twin(cls: type[msgspec.Struct]) -> Any:
    """The dataclass that looks the same."""
    from pydantic import ConfigDict, Field

    hints = get_type_hints(cls, include_extras=True)
    fields: list[tuple[str, Any, Any]] = []
    config = cls.__struct_config__
    if config.tag is not None:
        fields.append((str(config.tag_field), Literal[config.tag], Field(default=config.tag)))
    for field in msgspec.structs.fields(cls):
        hint = _limited(hints[field.name])
        if field.encode_name != field.name:
            hint = Annotated[hint, Field(alias=field.encode_name)]
        fields.append((field.name, hint, _default(field)))
    made: Any = dataclasses.make_dataclass(cls.__name__, fields, kw_only=True)
    made.__module__, made.__qualname__ = cls.__module__, cls.__qualname__
    made.__doc__ = None
    made.__pydantic_config__ = ConfigDict(extra="forbid" if config.forbid_unknown_fields else "ignore")
    return made


def _default(field: Any) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    if field.default_factory is not msgspec.NODEFAULT:
        return dataclasses.field(default_factory=field.default_factory)
    return dataclasses.MISSING


def _limited(hint: Any) -> Any:
    """With the limits of `msgspec.Meta` in pydantic's words."""
    from pydantic import Field

    limits = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, msgspec.Meta)]
    if not limits:
        return hint
    names = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length", "title", "description")
    given = {name: getattr(limit, name) for limit in limits for name in names if getattr(limit, name) is not None}
    return Annotated[hint.__origin__, Field(**given)]
