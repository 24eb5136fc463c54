"""The parameters of a tool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from weft.core.errors import BadInput


class Misfit(BadInput):
    """Arguments do not fit a tool's parameters. `problems`: the path of each wrong part, and what is wrong with it."""

    def __init__(self, problems: list[tuple[str, str]], wanted: str = "") -> None:
        self.problems = problems
        self.wanted = wanted
        super().__init__(problems, wanted)


class Parameters(Protocol):
    """What a tool takes. `schema`: its JSON schema, an object; `description`: of the tool, if its function has one."""

    @property
    def schema(self) -> dict[str, Any]: ...

    @property
    def description(self) -> str: ...

    def read(self, given: Mapping[str, Any] | str) -> dict[str, Any]:
        """Arguments as a model wrote them, as those of the function. Raises Misfit."""


class Described:
    """As a JSON schema says."""

    description = ""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = dict(schema)

    def read(self, given: Mapping[str, Any] | str) -> dict[str, Any]:
        raise NotImplementedError


class Hinted:
    """As the hints of a function say."""

    def __init__(self, fn: Callable[..., Any], hidden: str | None, scope: Mapping[str, Any] | None) -> None:
        self.fn = fn

    @property
    def schema(self) -> dict[str, Any]:
        raise NotImplementedError

    @property
    def description(self) -> str:
        raise NotImplementedError

    def read(self, given: Mapping[str, Any] | str) -> dict[str, Any]:
        raise NotImplementedError


def hints_of(fn: Callable[..., Any], scope: Mapping[str, Any] | None) -> dict[str, Any]:
    """The annotations of a function's parameters, evaluated where that is possible by now."""
    return dict(getattr(fn, "__annotations__", {}))
