"""What of a request a provider can't express: listed in words, once each, in the order in which it was met."""

from __future__ import annotations

from collections.abc import Mapping

from weft.core.content import Part, ToolResult


class Lost:
    """`lost("image in a tool result")` notes that the dialect takes no such thing."""

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self._said: dict[str, None] = {}

    def __call__(self, what: str) -> None:
        self.say(f"takes no {what}")

    def say(self, what: str) -> None:
        """The same in words of one's own: what the dialect does."""
        self._said[f"{self.dialect} {what}"] = None

    def mark(self, part: Part, where: str) -> None:
        """This part's cache mark, if it has one, has no place."""
        if part.cache:
            self(f"cache mark on {where}")

    def name(self, result: ToolResult, names: Mapping[str, str]) -> None:
        """A result's name that its call does not tell has no place."""
        if result.name not in ("", names.get(result.id)):
            self("name of a tool in its result")

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self._said)
