"""Model providers on loopback, which know nothing of Weft: five APIs, written by hand from their public references.

    with Providers(Turn(text=["Hel", "lo"])) as server:
        server.faults.append((Chopped(1), Crlf()))     # of the next request
        ... ask server.base("anthropic") with the key server.key
        assert server.requests[0].json["model"] == "any"

OpenAI Chat Completions and Responses, Anthropic Messages, Gemini and Ollama are at one port and told apart by their
paths. Each checks what it gets by its own rules and refuses it as the provider does, says the turns of a neutral
script, streamed or not, and fails on demand. `python -m tests.servers.providers` is the same in its own process, and
`InProcess` starts that.
"""

from __future__ import annotations

from tests.servers.providers.fault import (
    Broken,
    Chopped,
    Comments,
    Crlf,
    Fails,
    Fault,
    Flood,
    Foreign,
    Garbage,
    Joined,
    MidCharacter,
    Refuse,
    Silent,
    SlowHeaders,
    Unended,
)
from tests.servers.providers.process import InProcess
from tests.servers.providers.rules import Received
from tests.servers.providers.script import Call, Tokens, Turn
from tests.servers.providers.server import KEY, NAMES, Providers

__all__ = [
    "KEY", "NAMES", "Broken", "Call", "Chopped", "Comments", "Crlf", "Fails", "Fault", "Flood", "Foreign", "Garbage",
    "InProcess", "Joined", "MidCharacter", "Providers", "Received", "Refuse", "Silent", "SlowHeaders", "Tokens", "Turn",
    "Unended",
]  # fmt: skip
