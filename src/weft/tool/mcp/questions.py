"""What a server asks in the middle of a call, and who answers: a function of the program, or a person by `weft.ask`.

Since revision 2026-07-28 a call that needs an answer ends with the question, and is made again with the answer: nothing
waits meanwhile, so the answer may take days, and come after a crash. Before that, the server waits in the middle of the
call: there only a function (`Server(answer=...)`) can answer, and a server without one is told that nobody did.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, cast

import msgspec

from weft.core.errors import BadInput
from weft.tool.mcp.server import Server

Answer = Mapping[str, Any] | bool | None
"""What was filled in, by field; True for a question without fields that is answered with yes; None: no answer."""


class Question(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a server asks. `schema`: the fields to fill in, a JSON schema of an object whose properties are texts,
    numbers, booleans or choices; `url`: a page that a person should visit instead. `tool`: whose call it is, "" if
    that is not known. `message` is the server's own, to be trusted as little as the server."""

    server: str
    tool: str = ""
    message: str
    schema: dict[str, Any] = {}
    url: str = ""


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """A call that ended with questions. `state` goes back to the server as it came."""

    questions: dict[str, Question]
    given: dict[str, Any] = {}
    """Answers that needed nobody, as the protocol writes them."""
    state: str | None = None


def replied(question: Question, answer: Answer) -> dict[str, Any]:
    """An answer as the protocol writes it. Raises BadInput for one that does not fit."""
    if answer is None or answer is False:
        return {"action": "decline"}
    if question.url or not question.schema.get("properties"):
        return {"action": "accept", **({} if question.url else {"content": {}})}
    if not isinstance(answer, Mapping):
        raise BadInput(f"an answer to {question.message!r} is a dict with its fields, or None; not {answer!r}")
    missing = [name for name in question.schema.get("required", []) if name not in answer]
    if missing:
        raise BadInput(f"the answer to {question.message!r} lacks {', '.join(missing)}")
    return {"action": "accept", "content": dict(answer)}


async def by_function(server: Server, question: Question) -> dict[str, Any]:
    """The answer that the program's function gives, if it has one."""
    if server.answer is None:
        return {"action": "cancel"}
    answer: Any = server.answer(question)
    if inspect.isawaitable(answer):
        answer = await answer
    return replied(question, answer)


async def by_person(question: Question) -> dict[str, Any]:
    """The answer of a person, for which a workflow waits."""
    from weft.runtime.effects import ask

    text = f"The MCP server {question.server!r} asks, to go on with {question.tool!r}: {question.message}"
    if question.url:
        text += f"\nIt wants you to visit {question.url} first: answer true when that is done, false to decline."
        return replied(question, await ask(text, bool))
    if not question.schema.get("properties"):
        return replied(question, await ask(text, bool))
    return replied(question, cast(Answer, await ask(text + "\nAnswer null to decline.", form_of(question.schema))))


def form_of(schema: Mapping[str, Any]) -> Any:
    """A type for what the fields take, or None: a dict by name."""
    wanted = set(schema.get("required", []))
    fields: dict[str, Any] = {name: _kind(field) for name, field in schema.get("properties", {}).items()}
    needed = TypedDict("needed", {name: kind for name, kind in fields.items() if name in wanted})  # type: ignore[misc]
    form = TypedDict(  # type: ignore[misc]
        "Answer",
        {name: kind for name, kind in fields.items() if name not in wanted},
        total=False,
    )
    both: Any = type("Answer", (needed, form), {}) if wanted else form
    return both | None


def _kind(field: Any) -> Any:
    if not isinstance(field, Mapping):
        return str
    if choices := _choices(field):
        return Literal[tuple(choices)]
    if field.get("type") == "array":
        return list[_kind(field.get("items", {}))]  # type: ignore[misc]
    return {"integer": int, "number": float, "boolean": bool}.get(str(field.get("type")), str)


def _choices(field: Mapping[str, Any]) -> list[str]:
    if isinstance(field.get("enum"), list):
        return [each for each in field["enum"] if isinstance(each, str)]
    options = field.get("oneOf") or field.get("anyOf") or []
    return [each["const"] for each in options if isinstance(each, Mapping) and isinstance(each.get("const"), str)]
