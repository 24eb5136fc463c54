"""The parameters of a tool: their JSON schema, and arguments that a model wrote read as those of the function.

pydantic makes the schema from the function's hints, so that it says what pydantic says (dataclasses, TypedDicts,
models, enums, unions, `Annotated[int, Field(ge=0)]` ...); the docstring adds what it says of each parameter. What a
model gets wrong in writing, and what can mean one thing only, is mended: JSON in a fence, twice over, or as the text of
a list.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from weft.core.errors import BadInput
from weft.core.fit import misfit
from weft.runtime.guard import exempt
from weft.tool.docstring import Words, words_of

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

MOST = 20
"""Problems that are told of one call."""
_NAMES = re.compile(r"[^\W\d]\w*")
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.S)


class Misfit(BadInput):
    """Arguments do not fit a tool's parameters. `problems`: the path of each wrong part, and what is wrong with it."""

    def __init__(self, problems: list[tuple[str, str]], takes: str = "") -> None:
        self.problems = problems
        self.takes = takes
        super().__init__(problems, takes)

    def __str__(self) -> str:
        lines = [f"- {path}: {what}" if path else f"- {what}" for path, what in self.problems[:MOST]]
        if len(self.problems) > MOST:
            lines.append(f"- and {len(self.problems) - MOST} more")
        return "the arguments do not fit:\n" + "\n".join(lines) + (f"\nIt takes {self.takes}." if self.takes else "")


class Parameters(Protocol):
    """What a tool takes. `schema`: its JSON schema, an object; `description`: of the tool, if its function has one."""

    @property
    def schema(self) -> dict[str, Any]: ...

    @property
    def description(self) -> str: ...

    def read(self, given: Mapping[str, Any] | str) -> dict[str, Any]:
        """Arguments as a model wrote them, as those of the function. Raises Misfit."""


class Described:
    """As a JSON schema says, for a function that takes whatever that describes. Schema words that `weft.core.fit` does
    not know are left to whoever gets the arguments."""

    def __init__(self, schema: Mapping[str, Any], fn: Callable[..., Any]) -> None:
        if schema.get("type", "object") != "object":
            raise BadInput(f"the schema of a tool describes an object, not {schema.get('type')!r}")
        self.schema = {"type": "object", "properties": {}, **schema}
        self.fn = fn

    @cached_property
    def description(self) -> str:
        return words_of(self.fn).text

    def read(self, given: Mapping[str, Any] | str) -> dict[str, Any]:
        """See `Parameters.read`."""
        arguments = as_object(given, self.schema)
        while (problem := misfit(arguments, self.schema, "arguments")) is not None:
            path = problem.partition(" ")[0].removeprefix("arguments").lstrip(".")
            mended = _mended(arguments, {path})
            if mended is None:
                raise Misfit([("", problem)], _taken(self.schema))
            arguments = mended
        return arguments


class Hinted:
    """As the hints and the docstring of a function say. `hidden`: a parameter that no caller gives."""

    def __init__(self, fn: Callable[..., Any], hidden: str | None, scope: Mapping[str, Any]) -> None:
        self.fn = fn
        self.hidden = hidden
        self.scope = scope
        self.called = str(getattr(fn, "__qualname__", type(fn).__qualname__))
        for one in inspect.signature(fn).parameters.values():
            if one.kind in (one.VAR_POSITIONAL, one.POSITIONAL_ONLY):
                raise BadInput(
                    f"@tool: models give arguments by name, and {one.name} of {self.called}() has none: "
                    f"make it a parameter with a name, such as a list"
                )
            if one.name in ("self", "cls") and one.annotation is one.empty:
                raise BadInput(
                    f"@tool: {self.called}() is a method that belongs to no object yet: make a tool of it with "
                    f"tool(the_object.{self.called.rpartition('.')[2]})"
                )

    @cached_property
    def words(self) -> Words:
        with exempt():
            return words_of(self.fn)

    @property
    def description(self) -> str:
        return self.words.text

    @cached_property
    def schema(self) -> dict[str, Any]:
        from weft.tool.structs import understood

        with exempt(), understood():
            found = self._adapter.json_schema(mode="validation")
        return {"type": "object", "properties": {}, **found}

    @cached_property
    def _adapter(self) -> TypeAdapter[dict[str, Any]]:
        """Reads arguments by name, in the form of the function that takes just these."""
        from pydantic import PydanticUserError, TypeAdapter

        from weft.tool.structs import understood

        def read(**arguments: Any) -> dict[str, Any]:
            return arguments

        taken: Any = read
        hints = hints_of(self.fn, self.scope)
        parameters = []
        for one in inspect.signature(self.fn).parameters.values():
            if one.name != self.hidden:
                kind = one.KEYWORD_ONLY if one.kind is one.POSITIONAL_OR_KEYWORD else one.kind
                hint = self._said(one.name, hints.get(one.name, Any))
                parameters.append(one.replace(kind=kind, annotation=hint))
        taken.__signature__ = inspect.Signature(parameters)
        taken.__annotations__ = {one.name: one.annotation for one in parameters}
        taken.__module__, taken.__qualname__ = self.fn.__module__, self.called
        try:
            with exempt(), understood():
                return TypeAdapter(taken)
        except (PydanticUserError, NameError, TypeError) as error:
            raise BadInput(f"@tool: the parameters of {self.called}() have no JSON schema: {error}") from None

    def _said(self, name: str, hint: Any) -> Any:
        """The hint with what the docstring says; what the hint says itself counts more."""
        if isinstance(hint, str):
            raise BadInput(
                f"@tool: {self.called}({name}: {hint}) is annotated with what can't be found: define it "
                f"before the tool, or at the top of its file"
            )
        said = self.words.parameters.get(name)
        if not said:
            return hint
        from pydantic import Field

        more = getattr(hint, "__metadata__", ())
        plain = hint.__origin__ if more else hint
        return Annotated[(plain, Field(description=said), *more)]

    @cached_property
    def _defaults(self) -> dict[str, Any]:
        found = inspect.signature(self.fn).parameters.values()
        return {one.name: one.default for one in found if one.default is not one.empty}

    def read(self, given: Mapping[str, Any] | str) -> dict[str, Any]:
        """See `Parameters.read`. Arguments that are left out are left to the function's defaults."""
        from pydantic import ValidationError

        arguments = as_object(given, self.schema)
        try:
            found = self._read(arguments)
        except ValidationError as error:
            mended = _mended(arguments, {str(one["loc"][0]) for one in error.errors() if one["loc"]})
            if mended is None:
                raise Misfit(_problems(error), _taken(self.schema)) from None
            try:
                found = self._read(mended)
            except ValidationError:
                raise Misfit(_problems(error), _taken(self.schema)) from None
        return {name: value for name, value in found.items() if value is not self._defaults.get(name, _NONE)}

    def _read(self, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            data = json.dumps(arguments)
        except (TypeError, ValueError):  # a program gave it what is no JSON
            from pydantic_core import ArgsKwargs

            return self._adapter.validate_python(ArgsKwargs((), arguments))
        return self._adapter.validate_json(data)


_NONE = object()


def hints_of(fn: Callable[..., Any], scope: Mapping[str, Any]) -> dict[str, Any]:
    """The annotations of a function's parameters. `scope`: names that they may mean besides those of its module. One
    that can't be evaluated (yet) stays a text."""
    space = getattr(inspect.unwrap(fn), "__globals__", {})
    found: dict[str, Any] = {}
    for name, one in inspect.signature(fn).parameters.items():
        hint = one.annotation
        if isinstance(hint, str):
            try:
                hint = eval(hint, space, dict(scope))
            except Exception:
                hint = one.annotation
        if hint is not one.empty:
            found[name] = hint
    return found


def meant(fn: Callable[..., Any], scope: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those names of `scope` that occur in the annotations of a function."""
    if not scope:
        return {}
    texts = (one.annotation for one in inspect.signature(fn).parameters.values())
    names = {name for text in texts if isinstance(text, str) for name in _NAMES.findall(text)}
    return {name: scope[name] for name in names if name in scope}


# --- what a model wrote -------------------------------------------------------------------------------------------


def as_object(given: Mapping[str, Any] | str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as an object. Raises Misfit for a text that is none."""
    if not isinstance(given, str):
        return dict(given)
    text = fenced[1] if (fenced := _FENCE.fullmatch(given)) else given
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
        if isinstance(found, str):
            found = json.loads(found)
    except (ValueError, RecursionError) as error:
        what = f"{error.msg} at line {error.lineno} column {error.colno}" if isinstance(error, _Broken) else str(error)
        near = f", near {text[max(0, error.pos - 20) : error.pos + 20]!r}" if isinstance(error, _Broken) else ""
        raise Misfit([("", f"what was sent is no JSON: {what}{near}")], _taken(schema)) from None
    if not isinstance(found, dict):
        raise Misfit([("", f"what was sent is {_shown(found)}, not an object")], _taken(schema))
    return found


_Broken = json.JSONDecodeError


def _mended(arguments: Mapping[str, Any], wrong: set[str]) -> dict[str, Any] | None:
    """With what is wrong and is the text of a list or an object read as such; None if there is none."""
    changed = {}
    for name in wrong:
        text = arguments.get(name)
        if isinstance(text, str) and text.strip()[:1] in ("[", "{"):
            try:
                changed[name] = json.loads(text)
            except (ValueError, RecursionError):
                continue
    return {**arguments, **changed} if changed else None


def _problems(error: ValidationError) -> list[tuple[str, str]]:
    found = []
    for one in error.errors(include_url=False, include_context=False):
        told = one["msg"]
        if one["type"].startswith("missing"):
            told = "is missing"
        elif one["type"] == "unexpected_keyword_argument":
            told = "there is no such parameter"
        else:
            told += f", not {_shown(one['input'])}"
        found.append((_path(one["loc"]), told))
    return found


def _taken(schema: Mapping[str, Any]) -> str:
    """The names of the parameters; a mark says which may be left out."""
    needed = schema.get("required", ())
    return ", ".join(name if name in needed else f"{name}?" for name in schema.get("properties", ())) or "no arguments"


def _path(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 80 else text[:79] + "…"
