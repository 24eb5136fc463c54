"""What of an exchange must not be written down: keys in headers and addresses, wherever else their values appear.

Of a request only headers that are known to be harmless keep their values; of an answer those are removed whose names
sound of secrets. The values removed are also looked for in bodies, and become as many stars, so that
chunks keep their sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

REMOVED = "(removed)"
_NOISE = frozenset(
    ("host", "connection", "content-length", "user-agent", "accept-encoding", "transfer-encoding", "keep-alive", "date",
     "server", "via")
)  # fmt: skip
"""Said by the client or the connection, and different from run to run."""
_HARMLESS = frozenset(["accept", "content-type", "anthropic-version", "anthropic-beta", "openai-beta"])
_SOUNDS = re.compile("cookie|auth|token|key|secret|session|account|organi[sz]ation|project|signature")
_FINE = re.compile("ratelimit|rate-limit|www-authenticate")
_WORDS = frozenset(
    ("key", "apikey", "token", "secret", "password", "passwd", "sig", "signature", "auth", "credential", "credentials",
     "code")
)  # fmt: skip
_LEAST = 6
"""Characters of a secret that is looked for in bodies; shorter ones are everywhere."""
_SCHEMES = frozenset(["bearer", "digest"])


def asked(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers of a request, in order of their names."""
    kept = {name: value if name in _HARMLESS else REMOVED for name, value in headers.items() if name not in _NOISE}
    return dict(sorted(kept.items()))


def answered(headers: Mapping[str, str], hidden: Iterable[bytes]) -> dict[str, str]:
    """Headers of an answer."""
    kept = {}
    for name, value in sorted(headers.items()):
        if name not in _NOISE:
            secret = _SOUNDS.search(name) and not _FINE.search(name)
            kept[name] = REMOVED if secret else starred(value.encode("latin-1", "replace"), hidden).decode("latin-1")
    return kept


def address(url: str) -> str:
    """A URL without user, password and keys; the query in order; without the port of a server on this machine."""
    split = urlsplit(url)
    pairs = [(name, REMOVED if _named(name) else value) for name, value in parse_qsl(split.query, True)]
    host = split.hostname or ""
    usual = {"http": 80, "https": 443}.get(split.scheme)
    try:
        port = split.port
    except ValueError:
        port = None
    shown = f"[{host}]" if ":" in host else host
    if port is not None and port != usual and not is_here(host):
        shown += f":{port}"
    return urlunsplit((split.scheme, shown, split.path, urlencode(sorted(pairs), safe="()"), ""))


def is_here(host: str) -> bool:
    """Whether this is the machine itself."""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _named(name: str) -> bool:
    """Whether a field of a query is named like a secret."""
    return not _WORDS.isdisjoint(re.split("[-_.]", name.lower()))


def values(url: str, headers: Mapping[str, str]) -> list[bytes]:
    """The secret values of a request, the longest first."""
    found = {word for name, value in headers.items() if name not in _NOISE | _HARMLESS for word in value.split()}
    split = urlsplit(url)
    for name, value in parse_qsl(split.query, True):
        if _named(name):
            found |= {value, quote(value, safe="")}
    if split.password:
        found |= {split.password, unquote(split.password)}
    secret = [word.encode() for word in found if len(word) >= _LEAST and word.lower() not in _SCHEMES]
    return sorted(secret, key=len, reverse=True)


def starred(data: bytes, hidden: Iterable[bytes]) -> bytes:
    """With stars for each secret."""
    for word in hidden:
        data = data.replace(word, b"*" * len(word))
    return data


def starred_chunks(chunks: Sequence[bytes], hidden: Sequence[bytes]) -> list[bytes]:
    """The same for a body that came in chunks; a secret may be in two of them."""
    whole = b"".join(chunks)
    clean = starred(whole, hidden)
    if clean == whole:
        return [*chunks]
    found, at = [], 0
    for chunk in chunks:
        found.append(clean[at : at + len(chunk)])
        at += len(chunk)
    return found
