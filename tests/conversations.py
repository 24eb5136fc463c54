"""Conversations made up by chance, sound and broken: the tests of dialects and of repair have them in common.

`conversation(chance, can)` holds only what is in `can`, so a provider that can express all of that must lose nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from random import Random

from weft.core.content import Blob, Citation, File, Text, ToolCall, ToolResult, Uri
from weft.model.dialect.seal import sealed
from weft.model.message import Message, Opaque, Part, Reasoning, Refusal

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(20))
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(20))

_BASE = {"system", "error text", "parallel", "bad json"}
CAN: dict[str, set[str]] = {
    "openai": _BASE
    | {"image", "image uri", "audio", "document", "document file", "texts", "images first", "cache", "speaker"}
    | {"thought", "refusal", "system anywhere", "neighbours", "result texts", "opaque call"},
    "openai-responses": _BASE
    | {"image", "image uri", "document", "document uri", "document file", "image file", "texts", "images first"}
    | {"cache", "sealed thought", "refusal", "citations", "system anywhere", "neighbours", "result texts"}
    | {"result image", "words anywhere", "opaque", "call seal"},
    "anthropic": _BASE
    | {"image", "image uri", "document", "document uri", "document file", "image file", "texts", "images first"}
    | {"cache", "sealed thought", "hidden thought", "citations", "neighbours", "result texts", "result image"}
    | {"words anywhere", "opaque", "error", "two tool messages", "call seal", "said cache", "system anywhere"},
    "gemini": _BASE
    | {"image", "image mime uri", "audio", "video", "nameless document", "image mime file", "texts", "images first"}
    | {"thought", "sealed thought", "hidden thought", "neighbours", "result texts", "result image", "words anywhere"}
    | {"opaque", "error", "call seal", "said image"},
    "ollama": _BASE | {"image", "thought", "neighbours", "system anywhere"},
}
EVERYTHING = set().union(*CAN.values())
_WORDS = ["one", "two", "three", "vier", "fünf", "六", "🙂", "{json}", '"quoted"', "line\nbreak", "<tag>", "data:", "x"]


def words(chance: Random) -> str:
    return " ".join(chance.choices(_WORDS, k=chance.randint(1, 6)))


def conversation(chance: Random, can: Collection[str], dialect: str = "openai") -> list[Message]:
    """A sound one."""
    return _Maker(chance, can, dialect).all()


class _Maker:
    def __init__(self, chance: Random, can: Collection[str], dialect: str) -> None:
        self.chance = chance
        self.can = can
        self.dialect = dialect
        self.calls = 0
        self.marks = 0

    def maybe(self, what: str, often: float = 0.3) -> bool:
        return what in self.can and self.chance.random() < often

    def all(self) -> list[Message]:
        messages: list[Message] = []
        if self.maybe("system", 0.6):
            messages.append(Message("system", [self.text("user") for _ in range(1 + self.maybe("texts"))]))
        for _ in range(self.chance.randint(1, 4)):
            messages += self.round()
        if self.maybe("neighbours", 0.2):
            messages.append(self.user())
        return messages

    def round(self) -> list[Message]:
        new = [self.user()]
        if self.maybe("neighbours", 0.1):
            new.append(self.user())
        for _ in range(self.chance.randint(0, 2)):
            said = self.said(calls=self.chance.randint(1, 3 if "parallel" in self.can else 1))
            results = [self.result(call) for call in said.calls]
            split = self.maybe("two tool messages", 0.2) and len(results) > 1
            new += [said, *([Message("tool", [r]) for r in results] if split else [Message("tool", results)])]
        new.append(self.said(calls=0))
        if self.maybe("system anywhere", 0.1):
            new.append(Message("system", [self.text("user")]))
        return new

    def text(self, role: str) -> Text:
        cache = ""
        if self.marks < 4 and self.maybe("said cache" if role == "assistant" else "cache", 0.1):
            self.marks += 1
            cache = self.chance.choice(["short", "long"])
        return Text(content=words(self.chance), cache=cache)  # type: ignore[arg-type]

    def user(self) -> Message:
        parts: list[Part] = [self.text("user") for _ in range(1 + self.maybe("texts"))]
        parts += [part for kind in sorted(self.can) if (part := self.media(kind)) and self.chance.random() < 0.2]
        if "images first" in self.can:
            self.chance.shuffle(parts)
        return Message("user", parts, "ann" if self.maybe("speaker") else "")

    def media(self, kind: str) -> Part | None:
        modality = "image" if kind.startswith("image") else "document"
        match kind:
            case "image":
                return Blob.of(*self.chance.choice([(PNG, "image/png"), (JPEG, "image/jpeg")]))
            case "audio":
                return Blob.of(b"RIFF" + bytes(9), "audio/wav")
            case "video":
                return Blob.of(b"moov" + bytes(9), "video/mp4")
            case "document":
                return Blob.of(b"%PDF-1.7", "application/pdf", self.chance.choice(["", "report.pdf", "no ending"]))
            case "nameless document":
                return Blob.of(b"%PDF-1.7", "application/pdf")
            case "image uri" | "document uri":
                return Uri(modality=modality, uri="https://example.org/a?b=c")  # type: ignore[arg-type]
            case "image file" | "document file":
                return File(modality=modality, file_id="file-abc123")  # type: ignore[arg-type]
            case "image mime uri":
                return Uri(modality="image", uri="https://example.org/a.png", mime_type="image/png")
            case "image mime file":
                return File(modality="image", file_id="files/abc", mime_type="image/png")
        return None

    def said(self, calls: int) -> Message:
        parts: list[Part] = self.thoughts()
        if calls == 0 or self.chance.random() < 0.5:
            parts.append(self.answer())
            if self.maybe("texts"):
                parts.append(self.answer())
        if self.maybe("said image", 0.1):
            parts.append(Blob.of(PNG, "image/png"))
        if self.maybe("opaque", 0.1):
            parts.append(Opaque(dialect=self.dialect, content=_OPAQUE[self.dialect]))
        if calls == 0 and self.maybe("refusal", 0.1):
            parts = [Refusal(content=words(self.chance))]
        parts += [self.call() for _ in range(calls)]
        if calls and self.maybe("opaque call", 0.1):
            parts.append(Opaque(dialect=self.dialect, content=_OPAQUE["openai"]))
        if calls and self.maybe("words anywhere", 0.2):
            parts.append(self.text("assistant"))
        return Message("assistant", parts)

    def thoughts(self) -> list[Part]:
        parts: list[Part] = []
        seal = sealed(self.dialect, f"{self.chance.randrange(10**7, 10**8)}")
        if self.maybe("sealed thought"):
            parts.append(Reasoning(content=words(self.chance), signature=seal, id=_IDS.get(self.dialect, "")))
        elif self.maybe("thought"):
            parts.append(Reasoning(content=words(self.chance)))
        if self.maybe("hidden thought", 0.1):
            parts.append(Reasoning(hidden=True, signature=seal))
        return parts

    def answer(self) -> Text:
        text = self.text("assistant")
        if self.maybe("citations", 0.2):
            return Text(content=text.content, citations=(_CITATIONS[self.dialect],))
        return text

    def call(self) -> ToolCall:
        self.calls += 1
        arguments = self.chance.choice([{}, {"path": words(self.chance)}, {"a": [1, 2.5, None, True], "b": {"c": "é"}}])
        seal = _CALL_SEALS.get(self.dialect, "") if self.maybe("call seal") else ""
        return ToolCall(
            id=f"call_{self.calls}",
            name=self.chance.choice(["read", "run", "find"]),
            arguments='{"path": ' if self.maybe("bad json", 0.1) else arguments,
            signature=sealed(self.dialect, seal),
        )

    def result(self, call: ToolCall) -> ToolResult:
        response: list[Text | Blob | Uri | File] = [Text(content=words(self.chance))]
        if self.maybe("result texts", 0.2):
            response = [Text(content=words(self.chance)) for _ in range(self.chance.choice([0, 2]))]
        if self.maybe("result image", 0.2):
            response.append(Blob.of(PNG, "image/png"))
        error = self.maybe("error", 0.2)
        return ToolResult(id=call.id, name=call.name, response=tuple(response), error=error)


_IDS = {"openai-responses": "rs_1"}
_CALL_SEALS = {
    "openai-responses": '{"namespace":"files"}',
    "anthropic": '{"caller":{"type":"code_execution_20260120","tool_id":"t"}}',
    "gemini": "c2VhbA==",
}
_OPAQUE: dict[str, dict[str, object]] = {
    "openai": {"type": "custom", "id": "c1", "custom": {"name": "sql", "input": "select 1"}},
    "openai-responses": {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}},
    "anthropic": {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
    "gemini": {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
    "ollama": {},
}
_CITATIONS = {
    "openai": Citation(url="https://example.org", title="Example", start=0, end=3),
    "openai-responses": Citation(url="https://example.org", title="Example", start=0, end=3),
    "anthropic": Citation(
        title="Report",
        quote="one",
        extra={"type": "page_location", "document_index": 0, "start_page_number": 1, "end_page_number": 2},
    ),
    "gemini": Citation(url="https://example.org", title="Example", start=0, end=3),
    "ollama": Citation(url="https://example.org"),
}


def broken(chance: Random) -> list[Message]:
    """One that no provider would take as it is (or, by luck, a sound one): sound messages with some of them deleted,
    doubled, moved, and with their ids and roles mixed up."""
    messages = conversation(chance, {*CAN["ollama"], "refusal", "error", "result image", "two tool messages", "texts"})
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(len(messages)) if messages else 0
        match chance.randrange(10):
            case 0 | 1 if messages:
                del messages[at]
            case 2 if messages:
                messages.insert(chance.randrange(len(messages) + 1), messages[at])
            case 3 if messages:
                messages.insert(chance.randrange(len(messages)), messages.pop(at))
            case 4 | 5 if messages:
                messages[at] = _fewer(chance, messages[at])
            case 6 if messages:
                messages[at] = _other_ids(chance, messages[at])
            case 7 if messages:
                role = chance.choice(["system", "user", "assistant", "tool"])
                messages[at] = Message(role, messages[at].parts)  # type: ignore[arg-type]
            case 8:
                role = chance.choice(["system", "user", "assistant", "tool"])
                parts = chance.choice([(), ("",), ("  \n",)])
                messages.insert(at, Message(role, parts))  # type: ignore[arg-type]
            case 9:
                messages.insert(at, Message("tool", [ToolResult.of("nowhere", words(chance), name="read")]))
    return messages


def _fewer(chance: Random, message: Message) -> Message:
    parts = [part for part in message.parts if chance.random() < 0.6]
    return Message(message.role, parts, message.name)


def _other_ids(chance: Random, message: Message) -> Message:
    def other(part: Part) -> Part:
        if isinstance(part, ToolCall | ToolResult) and chance.random() < 0.7:
            import msgspec

            return msgspec.structs.replace(part, id=chance.choice(["", "call_1", "call_2", "strange id!"]))
        return part

    return Message(message.role, [other(part) for part in message.parts], message.name)
