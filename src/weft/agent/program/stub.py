"""Tools as a program sees them: declarations of async functions, which its text is checked against.

    async def search(query: str, limit: int = ...) -> list[Hit]: ...

Both sides come from JSON schemas: the parameters' from the tool's spec, so that tools of MCP servers have them too, the
result's from the function's hint. What a model is shown as JSON, a program gets as that data; all else it gets as text.
"""

from __future__ import annotations

import builtins
import inspect
import keyword
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from weft.agent.program.plain import Form
from weft.core.content import Blob, File, Text, Uri
from weft.runtime.guard import exempt
from weft.tool.declare import Tool

LONGEST = 1_000_000
"""Characters of a result that a program is given."""
HEADER = "from typing import Any, Literal, NotRequired, TypedDict\n"
_SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_WORDS = (str, Any, object, inspect.Signature.empty, Text)
_PARTS = (bytes, bytearray, memoryview, Blob, Uri, File)


class Declared(NamedTuple):
    """One tool: the name that programs call it by, the tool (which shows them long results whole), the names of its
    parameters in order, the form of its results, and its declaration."""

    name: str
    tool: Tool[..., Any]
    parameters: tuple[str, ...]
    form: Form
    text: str


class Declarations:
    """Of all tools that a program is granted. `text`: what a model is shown of them, and a checker reads."""

    def __init__(self, tools: Iterable[Tool[..., Any]]) -> None:
        self.classes = Classes()
        self.tools: dict[str, Declared] = {}
        for tool in tools:
            name = _name(tool.shown, self.tools)
            self.tools[name] = self._declared(name, tool.options(limit=max(LONGEST, tool.limit)))
        self.text = "\n".join([*self.classes.texts, *(one.text for one in self.tools.values())])

    def _declared(self, name: str, tool: Tool[..., Any]) -> Declared:
        schema = tool.spec.schema
        hint = _result(tool)
        data = not _is_words(hint)
        returned = self._type_of(hint, name) if data else _words(hint)
        form: Form = "data" if data else "words" if returned == "str" else "parts"
        parameters, more = _parameters(schema, self.classes, name)
        described = _described(tool.spec.description, schema.get("properties", {}))
        text = f"async def {name}({', '.join(parameters)}) -> {returned}:\n{described}    ...\n"
        return Declared(name, tool, tuple(more), form, text)

    def _type_of(self, hint: Any, name: str) -> str:
        from pydantic import TypeAdapter

        from weft.tool.structs import understood

        try:
            with exempt(), understood():
                schema = TypeAdapter(hint).json_schema(mode="serialization", by_alias=False)
        except Exception:  # no schema says what it looks like
            return "Any"
        return self.classes.type_of(schema, f"{_title(name)}Result", schema.get("$defs", {}))


class Classes:
    """The objects among the types, as TypedDicts. `texts`: their declarations, each before it is used."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._names: dict[str, str] = {}
        self._open: dict[str, str] = {}

    def type_of(self, schema: Any, name: str, defs: Mapping[str, Any]) -> str:
        """The type that a JSON schema describes; Any where it says more than types can."""
        if not isinstance(schema, Mapping):
            return "Any"
        if "$ref" in schema:
            return self._referred(str(schema["$ref"]).rpartition("/")[2], defs)
        if "const" in schema or "enum" in schema:
            return _literal(schema.get("enum", [schema.get("const")]))
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self._either([self.type_of(one, name, defs) for one in schema[key]])
        kind = schema.get("type")
        if isinstance(kind, list):
            return self._either([self.type_of({**schema, "type": one}, name, defs) for one in kind])
        if kind == "array":
            return f"list[{self.type_of(schema.get('items'), f'{name}Item', defs)}]"
        if kind == "object":
            return self._object(schema, name, defs)
        return _SCALARS.get(str(kind), "Any")

    def _referred(self, key: str, defs: Mapping[str, Any]) -> str:
        if key in self._open:  # it contains itself
            return self._open[key]
        self._open[key] = name = _title(key)
        try:
            return self.type_of(defs.get(key), name, defs)
        finally:
            del self._open[key]

    @staticmethod
    def _either(found: list[str]) -> str:
        return "Any" if "Any" in found or not found else " | ".join(dict.fromkeys(found))

    def _object(self, schema: Mapping[str, Any], name: str, defs: Mapping[str, Any]) -> str:
        fields = schema.get("properties")
        if not fields:
            more = schema.get("additionalProperties", True)
            return f"dict[str, {self.type_of(more, f'{name}Value', defs)}]"
        name = _title(str(schema.get("title", name)))
        needed = schema.get("required", ())
        types = {key: self.type_of(one, f"{name}{_title(key)}", defs) for key, one in fields.items()}
        types = {key: one if key in needed else f"NotRequired[{one}]" for key, one in types.items()}
        if all(_is_name(key) for key in types):
            body = "".join(f"    {key}: {one}\n" for key, one in types.items())
            return self._class(name, f"class @@(TypedDict):\n{body}")
        body = ", ".join(f"{key!r}: {one}" for key, one in types.items())
        return self._class(name, f'@@ = TypedDict("@@", {{{body}}})\n')

    def _class(self, name: str, form: str) -> str:
        """A class of this form (@@ stands for its name), under this name or one like it."""
        number, free = 1, name
        while self._names.get(free, form) != form:
            number += 1
            free = f"{name}{number}"
        if free not in self._names:
            self._names[free] = form
            self.texts.append(form.replace("@@", free))
        return free


# --- names and parameters -----------------------------------------------------------------------------------------


def _name(shown: str, taken: Iterable[str]) -> str:
    """A name for a function, after the one that models call the tool by."""
    name = re.sub(r"\W", "_", shown, flags=re.ASCII)
    if not _is_name(name) or hasattr(builtins, name):
        name = f"tool_{name}"
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _is_name(text: str) -> bool:
    return text.isascii() and text.isidentifier() and not keyword.iskeyword(text)


def _title(text: str) -> str:
    words = re.split(r"[^A-Za-z0-9]+", text)
    return "".join(word[:1].upper() + word[1:] for word in words) or "Object"


def _parameters(schema: Mapping[str, Any], classes: Classes, name: str) -> tuple[list[str], list[str]]:
    """Their declarations, and their names. One that is needed after one that is not must be given by name."""
    needed = schema.get("required", ())
    defs = schema.get("$defs", {})
    texts: list[str] = []
    names: list[str] = []
    optional = by_name = False
    for key, one in schema.get("properties", {}).items():
        if not _is_name(key):
            return ["**arguments: Any"], []
        if key in needed and optional and not by_name:
            texts.append("*")
            by_name = True
        optional = optional or key not in needed
        text = f"{key}: {classes.type_of(one, f'{_title(name)}{_title(key)}', defs)}"
        texts.append(text if key in needed else f"{text} = ...")
        if not by_name:
            names.append(key)
    if schema.get("additionalProperties"):
        texts.append("**more: Any")
    return texts, names


def _described(text: str, properties: Mapping[str, Any]) -> str:
    """The docstring."""
    lines = text.strip().splitlines()
    said = [(name, one.get("description", "")) for name, one in properties.items() if isinstance(one, Mapping)]
    if any(words for _, words in said):
        lines += ["", *(f"{name}: {' '.join(words.split())}" for name, words in said if words)]
    if not lines:
        return ""
    body = "\n".join(f"    {line}".rstrip() for line in lines).replace("\\", "\\\\").replace('"""', "'''")
    return f'    """{body.lstrip()}"""\n'


def _literal(values: Iterable[Any]) -> str:
    found = [*values]
    if all(value is None or isinstance(value, str | int | bool) for value in found):
        return f"Literal[{', '.join(map(repr, found))}]"
    return "Any"


# --- results ------------------------------------------------------------------------------------------------------


def _result(tool: Tool[..., Any]) -> Any:
    """The hint of what it returns to a model: of an agent, the type that it hands in."""
    if hasattr(tool, "offer"):  # a server's: words, whatever its function says
        return str
    workflow = getattr(tool, "workflow", None)
    if workflow is not None and hasattr(workflow, "output"):
        return workflow.output
    fn = inspect.unwrap(tool.written if workflow is None else workflow.fn)
    try:
        hint = inspect.signature(fn).return_annotation
        space = getattr(fn, "__globals__", {})
        return eval(hint, space, dict(tool.given.get("scope") or {})) if isinstance(hint, str) else hint
    except Exception:  # it names what can't be found
        return Any


def _choices(hint: Any) -> list[Any]:
    """The types that a hint allows."""
    if isinstance(hint, typing.NewType):
        return _choices(hint.__supertype__)
    if type(hint).__name__ == "TypeAliasType":
        return _choices(hint.__value__)
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _choices(hint.__origin__)
    if origin is typing.Union or isinstance(hint, types.UnionType):
        return [one for each in typing.get_args(hint) for one in _choices(each)]
    if origin is typing.Literal:
        return [type(value) for value in typing.get_args(hint)]
    return [hint]


def _is_words(hint: Any) -> bool:
    """Whether what it returns may be shown as it is, and not as JSON."""
    return any(
        one in _WORDS or one in _PARTS or isinstance(one, typing.TypeVar | str)
        or (isinstance(one, type) and issubclass(one, str)) or hasattr(one, "_repr_png_") or _holds_parts(one)
        for one in _choices(hint)
    )  # fmt: skip


def _holds_parts(hint: Any) -> bool:
    return typing.get_origin(hint) in (list, tuple) and any(
        one in (*_PARTS, Text) for each in typing.get_args(hint) for one in _choices(each)
    )


def _words(hint: Any) -> str:
    """The type of a result that is words, or words and pictures."""
    found = _choices(hint)
    if any(_holds_parts(one) for one in found):
        return "str | bytes | list[str | bytes] | None"
    drawn = any(one in _PARTS or hasattr(one, "_repr_png_") for one in found)
    return ("str | bytes" if drawn else "str") + (" | None" if type(None) in found or None in found else "")
