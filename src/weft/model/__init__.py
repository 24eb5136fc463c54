"""Models: any provider and the embedded engine behind one interface of messages, requests, replies and events."""

from __future__ import annotations

from weft.core.content import Blob, Citation, File, Text, ToolCall, ToolResult, ToolSpec, Uri
from weft.model.catalogue import DEFAULT, catalogue
from weft.model.classify import Classifier
from weft.model.client import close_clients
from weft.model.embed import Embedder, Vectors, cosine, embedder
from weft.model.engine import close_engines as close
from weft.model.engine.threads import Thread, Woven
from weft.model.event import (
    CallDelta,
    Called,
    CallStarted,
    Counted,
    Event,
    Finished,
    PartDone,
    ReasoningDelta,
    RefusalDelta,
    Restarted,
    TextDelta,
)
from weft.model.fetch import fetch
from weft.model.generate import generate
from weft.model.message import Message, Opaque, Part, Reasoning, Refusal
from weft.model.provider import Asked, Model, local, script
from weft.model.provider import open_model as open
from weft.model.request import Reply, Request, Usage
from weft.model.route import balance, fallback
from weft.model.stream import Stream

__all__ = [
    "DEFAULT", "Asked", "Blob", "CallDelta", "CallStarted", "Called", "Citation", "Classifier", "Counted", "Embedder",
    "Event", "File", "Finished", "Message", "Model", "Opaque", "Part", "PartDone", "Reasoning", "ReasoningDelta",
    "Refusal", "RefusalDelta", "Reply", "Request", "Restarted", "Stream", "Text", "TextDelta", "Thread", "ToolCall",
    "ToolResult", "ToolSpec", "Uri", "Usage", "Vectors", "Woven", "balance", "catalogue", "close", "close_clients",
    "cosine", "embedder", "fallback", "fetch", "generate", "local", "open", "script",
]  # fmt: skip
