"""Patterns over texts that slashes divide: paths, and names such as `ns/name`.

Inside, every such text begins with a slash and the root is the empty text, so that cutting at slashes gives
`/a/b`, `/a` and `` for `/a/b`: those are places where a pattern that matches it may be filed. A glob is filed under
what one of its components begins (`<test_`) or ends with (`>.md`), if there is such a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from weft.core.pattern.text import ends, fold, glob, literal, nfc

Cut = tuple[str, int]
"""A place to file globs: under the first (`<`) or last (`>`) so many characters of a component."""


def ancestors(text: str) -> list[str]:
    """The text itself and what it lies under, longest first, down to the root."""
    keys = []
    while text:
        keys.append(text)
        text = text[: text.rfind("/")]
    keys.append("")
    return keys


def _cut(parts: Sequence[str], cuts: Iterable[Cut]) -> list[str]:
    keys = []
    for sign, length in cuts:
        for part in parts:
            if len(part) >= length:
                keys.append(f"<{part[:length]}" if sign == "<" else f">{part[-length:]}")
    return keys


class TreeSubject:
    """What a request is about, in both forms, and where patterns that match it may be filed."""

    __slots__ = ("_folded", "_wide", "everywhere", "keys", "text")

    def __init__(self, text: str) -> None:
        self.text = nfc(text)
        self.keys = ancestors(self.text)
        self.everywhere = False
        self._folded: str | None = None
        self._wide: list[str] | None = None

    @property
    def folded(self) -> str:
        """The form that denies compare."""
        if self._folded is None:
            self._folded = fold(self.text)
        return self._folded

    @property
    def wide_keys(self) -> list[str]:
        """Where denies and asks may be filed."""
        if self._wide is None:
            self._wide = self.keys if self.folded == self.text else ancestors(self.folded)
        return self._wide

    def cut(self, cuts: Iterable[Cut]) -> list[str]:
        """Where globs may be filed that allow."""
        return _cut(self.text.split("/"), cuts)

    def wide_cut(self, cuts: Iterable[Cut]) -> list[str]:
        """Where globs may be filed that deny or ask: a character nobody sees may hide where a component begins, and
        a fullwidth slash that it does."""
        parts = self.folded.split("/")
        return _cut(parts if self.text.isascii() else parts + self.text.lower().split("/"), cuts)


class TreePattern:
    """A glob over components: `prefix` are the literal ones before its first wildcard.

    `below`: matches all that lies below, too. `wide_below`: so when it denies.
    """

    __slots__ = (
        "_exact", "_wide", "below", "key", "key_cut", "parts", "prefix", "wide_below", "wide_key", "wide_key_cut",
        "wide_prefix",
    )  # fmt: skip

    def __init__(self, parts: list[str], *, subtree: bool) -> None:
        self.below = False
        if subtree and parts and parts[-1] == ".":  # the folder itself
            parts, subtree = parts[:-1], False
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
        self.prefix = nfc("".join(known))
        self.wide_prefix = fold(self.prefix)
        self.wide_below = subtree or self.below
        self.below = self.below or (subtree and (not parts or literal(parts[-1]) is not None))
        self._exact: re.Pattern[str] | None = None
        self._wide: tuple[re.Pattern[str], re.Pattern[str]] | None = None
        self._place()

    def _place(self) -> None:
        """Choose where it is filed."""
        self.key, self.wide_key = self.prefix, self.wide_prefix
        self.key_cut: Cut | None = None
        self.wide_key_cut: Cut | None = None
        found = [(sign, end) for part in self.parts for sign, end in zip("<>", ends(part), strict=True) if end]
        if not found:
            return
        sign, end = max(found, key=lambda each: len(each[1]))
        exact = nfc(end)
        self.key, self.key_cut = sign + exact, (sign, len(exact))
        if end.isascii():  # of others the folded form depends on what comes next
            self.wide_key, self.wide_key_cut = sign + end.lower(), (sign, len(end))

    def compile(self) -> None:
        """Raise BadInput if it is no glob."""
        if self.parts and self._wide is None:
            self._exact = glob(self.parts, nfc, self.below)
            self._wide = glob(self.parts, nfc, self.wide_below), glob(self.parts, fold, self.wide_below)

    def allows(self, subject: TreeSubject) -> bool:
        """Whether an allow with this pattern speaks of it."""
        text, prefix = subject.text, self.prefix
        if not self.parts:
            return text == prefix or (self.below and text.startswith(prefix) and text[len(prefix)] == "/")
        if not text.startswith(prefix) or text[len(prefix) : len(prefix) + 1] != "/":
            return False
        if self._exact is None:
            self.compile()
        return self._exact is not None and self._exact.fullmatch(text, len(prefix) + 1) is not None

    def catches(self, subject: TreeSubject) -> bool:
        """Whether a deny or ask with this pattern speaks of it: in any form, and below it."""
        text, prefix = subject.folded, self.wide_prefix
        if not self.parts:
            return text == prefix or (self.wide_below and text.startswith(prefix) and text[len(prefix)] == "/")
        self.compile()
        if self._wide is None:
            return False
        exact, folded = self._wide
        if text.startswith(prefix + "/") and folded.fullmatch(text, len(prefix) + 1):
            return True
        prefix = self.prefix
        return subject.text.startswith(prefix + "/") and exact.fullmatch(subject.text, len(prefix) + 1) is not None

    def overlaps(self, other: TreePattern) -> bool:
        """Whether some text may match both; False only if surely none does."""
        upper, lower = (self, other) if len(self.prefix) <= len(other.prefix) else (other, self)
        if upper.prefix == lower.prefix:
            return True
        return lower.prefix.startswith(upper.prefix + "/") and (upper.below or bool(upper.parts))

    def covers(self, other: TreePattern) -> bool:
        """Whether all that matches the other surely matches this."""
        inside = other.prefix == self.prefix or other.prefix.startswith(self.prefix + "/")
        return self.below and not self.parts and inside
