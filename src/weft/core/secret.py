"""Secrets: values that a step may use and that no journal ever holds.

A `Secret` is a name: it is stored, sent and shown by that name, and `reveal()` reads the environment when
called. The `Redactor` stands before the journal and replaces every known secret's value wherever it is.

    token = weft.secret("GITHUB_TOKEN")
    @weft.step
    def fetch(url: str) -> str: ... token.reveal() ...
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.msgpack import Ext

from weft.core.boundary import boundary
from weft.core.crossing import further
from weft.core.errors import Nondeterminism, SecretUnset, WeftError

LOOKS_SECRET = re.compile(
    r"API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|SIGNING_?KEY|ENCRYPTION_?KEY|AUTH_?KEY|TOKEN(?!IZ)|SECRET|CREDENTIAL"
    r"|PASSWORD|PASSWD|PASSPHRASE|PASSCODE|_PWD$",
    re.IGNORECASE,
)
"""Names of environment variables whose values are taken for secrets without being declared."""
SHORTEST_FOUND = 8
"""Characters that such a value must have at least: "true" and "1" are no secrets."""
SHORTEST_DECLARED = 4
"""Characters that a declared secret must have to be searched for: a shorter one is everywhere."""
REGEX_UP_TO = 2048
"""Bytes up to which one regular expression beats a search per secret."""

_declared: dict[str, str] = {}  # environment variable -> name
_revealed: dict[str, str] = {}  # value -> name; stays known though the environment changes
_version = 0  # grows with each of the two, so that redactors notice


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret by name. Equal, storable and printable by name only; make it with `secret()`."""

    name: str
    env: str

    def reveal(self) -> str:
        """The value now in the environment, from then on known to every redactor. In a step it needs the right
        `secret:NAME`, and a workflow's body never sees it. Raises Nondeterminism, Denied, SecretUnset."""
        if boundary() is not None:
            raise Nondeterminism(
                f"the secret {self.name!r} was to be revealed in a workflow's body: pass the handle to a step, and "
                f"reveal it there"
            )
        further("secret.open", self.name, f'declare it: @weft.step(needs="secret:{self.name}")')
        return self._value()

    def _value(self) -> str:
        global _version
        value = os.environ.get(self.env)
        if not value:
            raise SecretUnset(f"The secret {self.name!r} is not set: export {self.env}=... before the run.")
        if value not in _revealed:
            _revealed[value] = self.name
            _version += 1
        return value

    def __str__(self) -> str:
        return f"[secret:{self.name}]"


def secret(name: str, env: str | None = None) -> Secret:
    """A handle on the secret in the environment variable `env` (default: `name`)."""
    global _version
    handle = Secret(name, env or name)
    if _declared.get(handle.env) != name:
        _declared[handle.env] = name
        _version += 1
    return handle


class Redactor:
    """Replaces the values of secrets by `[secret:NAME]`.

    Knows the declared ones and the environment variables whose names look secret; reads the environment when
    made, at `refresh()`, and when one is declared or revealed. A value is also found JSON-escaped, URL-quoted
    and stripped of white space."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.environ = os.environ if environ is None else environ
        self.refresh()

    def refresh(self) -> None:
        """Read the environment again (well under a millisecond)."""
        self.version = _version
        names = dict(_revealed)
        for env, name in _declared.items():
            if env in self.environ:
                names.setdefault(self.environ[env], name)
        names = {value: name for value, name in names.items() if len(value) >= SHORTEST_DECLARED}
        for env, value in self.environ.items():
            if len(value) >= SHORTEST_FOUND and LOOKS_SECRET.search(env):
                names.setdefault(value, env)
        self._know({form: name for value, name in names.items() for form in forms(value)})

    def _know(self, names: dict[bytes, str]) -> None:
        def label(name: str) -> bytes:
            tries = (f"[secret:{name}]".encode("utf-8", "replace"), b"[secret]", b"[redacted]", b"***")
            return next((text for text in tries if not any(form in text for form in names)), b"")

        self.labels = {form: label(names[form]) for form in sorted(names, key=len, reverse=True)}
        pattern = re.compile(b"|".join(map(re.escape, self.labels)))
        self._search: Callable[[bytes], re.Match[bytes] | None] | None = pattern.search if names else None
        self._sub = pattern.sub

    def redact(self, data: bytes) -> bytes | None:
        """One value's codec bytes (or any other bytes) without secrets; None if there were none, as usual."""
        self._look()
        return self._redacted(data) if self._holds(data) else None

    def redact_raw(self, data: bytes) -> bytes:
        """Bytes that are no value of the codec, without secrets."""
        self._look()
        return self._clean(data) if self._holds(data) else data

    @property
    def known(self) -> list[bytes]:
        """All that is looked for, the longest first."""
        self._look()
        return list(self.labels)

    def _look(self) -> None:
        if self.version != _version:
            self.refresh()

    def redact_text(self, text: str) -> str:
        """The text without secrets."""
        self._look()
        if self._search is None:
            return text
        data = text.encode("utf-8", "surrogatepass")
        return self._clean(data).decode("utf-8", "replace") if self._holds(data) else text

    def _holds(self, data: bytes) -> bool:
        search = self._search
        if search is None:
            return False
        if len(data) <= REGEX_UP_TO:
            return search(data) is not None
        return any(form in data for form in self.labels)

    def _clean(self, data: bytes) -> bytes:
        for _ in range(8):  # what stood on both sides of a secret may form another
            data = self._sub(lambda found: self.labels[found[0]], data)
            if not self._holds(data):
                return data
        return self._label(data)

    def _label(self, data: bytes) -> bytes:
        return next(label for form, label in self.labels.items() if form in data)

    # --- inside msgpack ---------------------------------------------------------------------------------

    def _redacted(self, data: bytes) -> bytes:
        try:
            value = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._clean(data)
        for walk in (self._walk, self._prune):
            result = _encode(walk(value))
            if not self._holds(result):
                break
        return result

    def _walk(self, value: Any) -> Any:
        """Replace inside texts and bytes."""
        if isinstance(value, bytes):
            return self._clean(value) if self._holds(value) else value
        if isinstance(value, str):
            data = value.encode()
            return self._clean(data).decode("utf-8", "replace") if self._holds(data) else value
        return self._parts(value, self._walk)

    def _prune(self, value: Any) -> Any:
        """Replace the smallest part that still spells a secret, as a list of its byte values does."""
        value = self._parts(self._walk(value), self._prune)
        data = _encode(value)
        return self._label(data).decode("utf-8", "replace") if self._holds(data) else value

    def _parts(self, value: Any, walk: Callable[[Any], Any]) -> Any:
        if isinstance(value, list):
            return [walk(item) for item in value]
        if isinstance(value, dict):
            return {walk(key): walk(item) for key, item in value.items()}
        if not isinstance(value, Ext) or not self._holds(bytes(value.data)):
            return value
        body = bytes(value.data)
        try:
            changed = Ext(value.code, _encode(walk(_decode(body))))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            changed = Ext(value.code, self._clean(body))
        # A Decimal, say, that was the secret is none any more: leave its label instead.
        return changed if _readable(changed) else self._label(body).decode("utf-8", "replace")


def forms(value: str) -> set[bytes]:
    """How a secret may turn up in what a program stores."""
    texts = {value, value.strip(), json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    texts.add(quote(value, safe="", errors="surrogateescape"))
    data = {text.encode("utf-8", errors) for text in texts for errors in ("surrogateescape", "surrogatepass")}
    return {form for form in data if len(form) >= SHORTEST_DECLARED}


_decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder().decode
_encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode


def _readable(part: Ext) -> bool:
    from weft.core.codec import decode

    try:
        decode(_encode(part))
    except WeftError:
        return False
    return True
