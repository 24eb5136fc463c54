"""What a step says that it needs: `"write:{path}"`, filled in with the arguments of a call; or a function of them.

The filled-in text is a resource, never a pattern: a path with a star in it is a path with a star in it.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from string import Formatter
from typing import Any

import msgspec

from weft.core.capability import Request, actions_of
from weft.core.crossing import Entry
from weft.core.errors import BadInput
from weft.core.resource import entry_path, request, requests

_formatter = Formatter()


class Need(msgspec.Struct, frozen=True):
    """An action, and a template of the resource."""

    action: str
    template: str
    argument: str | None = None
    """The one whose value is all of the resource."""

    def resource(self, arguments: Mapping[str, Any]) -> str:
        """The template with `arguments` in it; a list is an argv."""
        parts = []
        for text, field, _, _ in _formatter.parse(self.template):
            parts.append(text)
            if field is not None:
                parts.append(_text(_formatter.get_field(field, (), arguments)[0]))
        return "".join(parts)

    def asked(self, arguments: Mapping[str, Any], workspace: str) -> list[Request]:
        """What is to be decided before a call with these arguments. Raises BadInput."""
        if self.argument is not None:
            said = arguments[self.argument]
            whole = list(map(str, said)) if isinstance(said, list | tuple) else str(said)
            return [request(self.action, whole, workspace)]
        return [request(self.action, self.resource(arguments), workspace)]


class Computed(Need, frozen=True):
    """Needs that a function tells: it takes the step's arguments by name and gives (action, what it is done to)."""

    tell: Callable[..., Iterable[tuple[str, Any]]] = lambda **_: ()

    def asked(self, arguments: Mapping[str, Any], workspace: str) -> list[Request]:
        """What is to be decided before a call with these arguments. Raises BadInput."""
        found: list[Request] = []
        for action, said in self.tell(**arguments):
            if isinstance(said, Entry):
                found += [Request(one, entry_path(said, workspace)) for one in actions_of([action], action)]
            else:
                found += requests(action, said, workspace)
        return found


Needs = str | Sequence[str | Need] | Callable[..., Iterable[tuple[str, Any]]]
"""As a step's declaration gives them."""


def needs_of(given: Needs, fn: Callable[..., Any]) -> tuple[Need, ...]:
    """The needs of a step, checked against its arguments. Raises BadInput."""
    if callable(given):
        return (Computed("", "", tell=given),)
    found: list[Need] = []
    for spec in (given,) if isinstance(given, str) else given:
        if isinstance(spec, Need):
            found.append(spec)
            continue
        names, colon, template = spec.partition(":")
        if not colon or not template:
            raise BadInput(f'@step(needs={spec!r}): write an action and a resource, such as "write:{{path}}"')
        try:
            fields = [
                field.partition(".")[0].partition("[")[0] for _, field, _, _ in _formatter.parse(template) if field
            ]
        except ValueError as error:
            raise BadInput(f"@step(needs={spec!r}): {error}") from None
        unknown = set(fields) - set(inspect.signature(fn).parameters)
        if unknown:
            raise BadInput(
                f"@step(needs={spec!r}): {fn.__qualname__} has no argument {', '.join(sorted(unknown))}; it has "
                f"{', '.join(inspect.signature(fn).parameters) or 'none'}"
            )
        whole = template[1:-1] if fields == [template[1:-1]] and template == f"{{{template[1:-1]}}}" else None
        found += [Need(action, template, whole) for action in actions_of(names.split(","), spec)]
    return tuple(found)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return shlex.join(map(str, value))
    return str(value)
