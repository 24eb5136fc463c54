"""Which model a spec means. A spec is a text, so that it can stand in a journal, in a setting and on a command line:

smollm2-135m?slots=2&context=4096     the embedded engine, by the catalogue; or PATH.gguf
openai:gpt-5                          a provider by name: openai, openai-responses, anthropic, gemini, ollama
http://localhost:8000/v1#NAME         any OpenAI-compatible server
anthropic+https://proxy.example#NAME  a server that speaks another dialect
script:NAME                           scripted replies, for tests (`weft.model.scripted`)
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from urllib.parse import parse_qsl

import msgspec

from weft.core.crossing import authorised
from weft.core.errors import BadInput
from weft.core.pattern import url_resource
from weft.model.catalogue import find
from weft.model.dialect import DIALECTS, Dialect, dialect
from weft.model.engine import Host, LlamaServer, shared_host, shared_server
from weft.model.fetch import fetch

SLOTS = 4
CONTEXT = 2048


class Local(msgspec.Struct, frozen=True):
    """A model in the embedded engine."""

    name: str
    slots: int
    context: int

    @property
    def file(self) -> bool:
        """Whether it is a file of the user's, and none of the catalogue."""
        return self.name.endswith(".gguf")

    @property
    def place(self) -> str:
        """Where it is, for capabilities and prices."""
        return "local"

    @property
    def resource(self) -> str:
        """How a capability calls it."""
        return f"local/{Path(self.name).name}"

    def path(self) -> Path:
        """Its file, fetched if need be."""
        return Path(authorised("file.read", self.name)) if self.file else fetch(self.name)

    def host(self) -> Host:
        """The engine that has it, started. Fetches the model. Raises EngineUnfit where the library is another one."""
        return shared_host(self.path(), name=Path(self.name).name, slots=self.slots, context=self.context)

    def server(self) -> LlamaServer:
        """The wheel's own server, started or not, for where the engine does not fit. Fetches the model."""
        return shared_server(self.name, self.path(), self.slots, self.context)


class Remote(msgspec.Struct, frozen=True):
    """A model on a server."""

    speaks: str
    """The name of the dialect."""
    url: str
    """The base URL; empty for the provider's own."""
    name: str
    place: str
    """How a capability calls the server: the provider, or its host, with the port if it is not the usual one."""

    @property
    def resource(self) -> str:
        return f"{self.place}/{self.name}"

    @property
    def dialect(self) -> Dialect:
        return dialect(self.speaks)

    def base(self) -> str:
        """The base URL: said, or from the environment, or the provider's own."""
        spoken = self.dialect
        base = self.url or os.environ.get(spoken.base_variable, "") or spoken.base
        return base if "://" in base else f"http://{base}"  # OLLAMA_HOST is written without

    def key(self) -> str:
        """The key from the environment, or an empty text."""
        return os.environ.get(self.dialect.key, "")


class Script(msgspec.Struct, frozen=True):
    """Scripted replies of this interpreter."""

    name: str

    @property
    def place(self) -> str:
        return "script"

    @property
    def resource(self) -> str:
        return f"script/{self.name}"


Where = Local | Remote | Script


def where(spec: str) -> Where:
    """Where the model of a spec is. Raises BadInput for a spec that means none."""
    provider, colon, rest = spec.partition(":")
    if colon and provider == "script":
        return Script(_named(spec, rest))
    if colon and provider in DIALECTS:
        return Remote(provider, "", _named(spec, rest), provider)
    speaks, plus, address = spec.partition("+")
    if plus and speaks in DIALECTS and address.startswith(("http://", "https://")):
        return _server(spec, speaks, address)
    if spec.startswith(("http://", "https://")):
        return _server(spec, "openai", spec)
    return _local(spec)


def _named(spec: str, name: str) -> str:
    if not name:
        raise BadInput(f"the model {spec!r} has no name; write PROVIDER:NAME")
    return name


@functools.lru_cache(maxsize=256)
def _server(spec: str, speaks: str, address: str) -> Remote:
    url, _, name = address.partition("#")
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise BadInput(
            f"a model's address holds a user or a password, and a spec stands in journals: leave it out, give a key "
            f"by ${dialect(speaks).key}"
        )
    if not name:
        raise BadInput(f"the model {spec!r} names no model on that server; write http://HOST/v1#NAME")
    host = url_resource(url).removesuffix(":443" if url.startswith("https") else ":80")
    return Remote(speaks, url, name, host)


def _local(spec: str) -> Local:
    name, _, settings = spec.partition("?")
    if not name.endswith(".gguf"):
        find(name)
    try:
        numbers = {key: int(value) for key, value in parse_qsl(settings, strict_parsing=bool(settings))}
        if numbers.keys() - {"slots", "context"} or any(number < 1 for number in numbers.values()):
            raise ValueError
    except ValueError:
        raise BadInput(f"the model {spec!r} is not understood; write NAME?slots=N&context=N, both >= 1") from None
    return Local(name, numbers.get("slots", SLOTS), numbers.get("context", CONTEXT))
