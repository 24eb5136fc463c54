"""The narrowest policy that a run needed, from what was decided about it and its children."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from weft.cli.decisions import Dossier
from weft.core.authority import Authority, suggest
from weft.core.capability import ACTIONS, Request
from weft.runtime.policy import Policy


class Suggestion(NamedTuple):
    """A base, and specs besides. `ask`: what a person allowed; `refused`: what was denied, and is in none of the
    others; `watched`: whether it is known what all steps did."""

    base: str
    allow: list[str]
    ask: list[str]
    refused: list[str]
    watched: bool

    def words(self) -> list[str]:
        """For a command line."""
        options = [("--allow", self.allow), ("--ask", self.ask)]
        lines = [f"--policy {self.base}", *(f"{name} {shlex.quote(s)}" for name, specs in options for s in specs)]
        refused = [f"# it was refused: {spec}" for spec in self.refused]
        return [*(line + " \\" for line in lines[:-1]), lines[-1], *refused]

    def toml(self) -> list[str]:
        """For weft.toml."""
        lines = ["[policy]", f"base = {_text(self.base)}"]
        for name, specs in (("allow", self.allow), ("ask", self.ask)):
            if specs:
                lines += [f"{name} = [", *(f"  {_text(spec)}," for spec in specs), "]"]
        return [*lines, *(f"# it was refused: {spec}" for spec in self.refused)]


def narrowest(family: Sequence[Dossier], base: str, with_refused: bool = False) -> Suggestion:
    """The policy for a run that does what this one did, with all below it."""
    allowed: dict[Request, None] = {}
    asked: dict[Request, None] = {}
    refused: dict[Request, None] = {}
    for one in family:
        for each in one.summary():
            request = Request(each.action, each.resource)
            if each.action not in ACTIONS:
                continue
            if each.verdict == "deny":
                refused[request] = None
            elif each.verdict == "ask" or (each.by is not None and each.by >= len(one.given)):
                asked[request] = None  # a person said so, and is to be asked again
            else:
                allowed[request] = None
    if with_refused:
        allowed |= refused
    folder = family[0].workspace
    refused = {request: None for request in refused if request not in allowed and request not in asked}
    return Suggestion(
        base=base,
        allow=_specs((request for request in allowed if request not in asked), base, folder),
        ask=_specs(asked, "none", folder),
        refused=suggest(refused, folder),
        watched=all(one.watched for one in family),
    )


def _specs(requests: Iterable[Request], base: str, folder: str) -> list[str]:
    """What must be said of these besides the base."""
    known = Authority("", Policy(base=base, workspace=folder).capabilities(0.0))  # type: ignore[arg-type]
    return suggest([each for each in requests if known.decide(each, now=0.0).verdict != "allow"], folder)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # which TOML reads as the same text
