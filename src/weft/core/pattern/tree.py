"""Patterns over texts that slashes divide: paths, and names such as `ns/name`.

Inside, every such text begins with a slash and the root is the empty text, so that cutting at slashes gives
`/a/b`, `/a` and `` for `/a/b`: those are the places where a pattern that matches it may be filed.
"""

from __future__ import annotations

import re

from weft.core.pattern.text import fold, glob, literal, nfc


def ancestors(text: str) -> list[str]:
    """The text itself and what it lies under, longest first, down to the root."""
    keys = []
    while text:
        keys.append(text)
        text = text[: text.rfind("/")]
    keys.append("")
    return keys


class TreeSubject:
    """What a request is about, in both forms, and where patterns that match it may be filed."""

    __slots__ = ("_wide", "everywhere", "folded", "keys", "text")

    def __init__(self, text: str) -> None:
        self.text = nfc(text)
        self.keys = ancestors(self.text)
        self.everywhere = False
        self.folded: str = ""
        self._wide: list[str] | None = None

    @property
    def wide_keys(self) -> list[str]:
        """Where denies and asks may be filed."""
        if self._wide is None:
            self.folded = fold(self.text)
            self._wide = self.keys if self.folded == self.text else ancestors(self.folded)
        return self._wide


class TreePattern:
    """A glob over components: the literal ones before its first wildcard say where it is filed.

    `below`: matches all that lies below, too. `wide_below`: so when it denies.
    """

    __slots__ = ("_exact", "_wide", "below", "key", "parts", "wide_below", "wide_key")

    def __init__(self, parts: list[str], *, subtree: bool) -> None:
        self.below = False
        while parts and parts[-1] == "**":
            parts = parts[:-1]
            self.below = True
        known = []
        for part in parts:
            plain = literal(part)
            if plain is None:
                break
            known.append("/" + plain)
        self.parts = parts[len(known) :]
        self.key = nfc("".join(known))
        self.wide_key = fold(self.key)
        self.wide_below = subtree or self.below
        self.below = self.below or (subtree and (not parts or literal(parts[-1]) is not None))
        self._exact: re.Pattern[str] | None = None
        self._wide: tuple[re.Pattern[str], re.Pattern[str]] | None = None

    def compile(self) -> None:
        """Raise BadInput if it is no glob."""
        if self.parts and self._wide is None:
            self._exact = glob(self.parts, nfc, self.below)
            self._wide = glob(self.parts, nfc, self.wide_below), glob(self.parts, fold, self.wide_below)

    def allows(self, subject: TreeSubject) -> bool:
        """Whether an allow with this pattern speaks of it."""
        text, key = subject.text, self.key
        if not self.parts:
            return text == key or (self.below and text.startswith(key) and text[len(key)] == "/")
        if not text.startswith(key) or text[len(key) : len(key) + 1] != "/":
            return False
        self.compile()
        return self._exact is not None and self._exact.fullmatch(text, len(key) + 1) is not None

    def catches(self, subject: TreeSubject) -> bool:
        """Whether a deny or ask with this pattern speaks of it: in any form, and below it."""
        subject.wide_keys  # noqa: B018  (computes the folded form)
        text, key = subject.folded, self.wide_key
        if not self.parts:
            return text == key or (self.wide_below and text.startswith(key) and text[len(key)] == "/")
        self.compile()
        if self._wide is None:
            return False
        exact, folded = self._wide
        return (text.startswith(key + "/") and folded.fullmatch(text, len(key) + 1) is not None) or (
            subject.text.startswith(self.key + "/") and exact.fullmatch(subject.text, len(self.key) + 1) is not None
        )
