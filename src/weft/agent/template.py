"""Instructions from a text with places for what is known only later: a date, notes in shared memory, a file, examples.

    Template("Today is $day.\\n\\n$notes", day=lambda: f"{weft.now():%A}", notes=read_notes)

A value is a text, or a function that makes one in the workflow, and may wait for effects. They are made once for each
conversation, so that its prompts keep their beginning.
"""

from __future__ import annotations

import inspect
import string
from collections.abc import Awaitable, Callable
from pathlib import Path

from weft.core.errors import BadInput

Value = str | Callable[[], str | Awaitable[str]]


class Template:
    """Given as an agent's `instructions`. `$name` and `${name}` are places, `$$` is a dollar sign; a `Path` is a file,
    read now. Raises BadInput for a place without a value, a value without a place, and a file that can't be read."""

    def __init__(self, text: str | Path, /, **values: Value) -> None:
        self.text = _read(text) if isinstance(text, Path) else text
        self.values = values
        form = string.Template(self.text)
        if not form.is_valid():
            raise BadInput("the template has a $ that begins no place: write $$ for a dollar sign")
        places = form.get_identifiers()
        if missing := [one for one in places if one not in values]:
            raise BadInput(
                f"the template has a place ${missing[0]}, and no value for it: Template(..., {missing[0]}=...)"
            )
        if idle := [one for one in values if one not in places]:
            raise BadInput(f"the template has no place ${idle[0]}; it has {', '.join(places) or 'none'}")

    async def __call__(self) -> str:
        """The text, filled."""
        filled = {}
        for name, value in self.values.items():
            made = value() if callable(value) else value
            filled[name] = await made if inspect.isawaitable(made) else made
        return string.Template(self.text).substitute(filled)

    def __repr__(self) -> str:
        return f"<template of {len(self.text)} characters, with {', '.join(self.values) or 'no places'}>"


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the template {path} can't be read: {error}") from None
