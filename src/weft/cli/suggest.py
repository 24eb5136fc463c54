"""The narrowest policy that a run needed, from what was decided about it and its children."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from weft.cli.decisions import Dossier
from weft.core.authority import Authority, suggest
from weft.core.capability import ACTIONS, Request, pattern_text, short_names
from weft.core.clearance import Rule
from weft.runtime.policy import Policy


class Suggestion(NamedTuple):
    """A base, and specs besides. `ask`: what a person allowed; `refused`: what was denied, and is in none of the
    others; `label`, `clear`: as the run had them; `watched`: whether it is known what all steps did."""

    base: str
    allow: list[str]
    ask: list[str]
    refused: list[str]
    label: list[str]
    clear: list[str]
    watched: bool

    def words(self) -> list[str]:
        """For a command line."""
        options = [("--allow", self.allow), ("--ask", self.ask)]
        lines = [f"--policy {self.base}", *(f"{name} {shlex.quote(s)}" for name, specs in options for s in specs)]
        notes = [f"# it was refused: {spec}" for spec in self.refused]
        notes += [f"# keep in [policy]: {name} = {_text(specs)}" for name, specs in self._labels() if specs]
        return [*(line + " \\" for line in lines[:-1]), lines[-1], *notes]

    def _labels(self) -> list[tuple[str, list[str]]]:
        return [("label", self.label), ("clear", self.clear)]

    def toml(self) -> list[str]:
        """For weft.toml."""
        lines = ["[policy]", f"base = {_text(self.base)}"]
        for name, specs in (("allow", self.allow), ("ask", self.ask), *self._labels()):
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
            if each.verdict == "deny" and not each.label:
                refused[request] = None
            elif each.verdict == "deny":
                continue  # it held the right
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
        label=[_rule(one, folder) for one in (family[0].image.labels if family[0].image is not None else ())],
        clear=[_rule(one, folder) for one in (family[0].image.clear if family[0].image is not None else ())],
        watched=all(one.watched for one in family),
    )


def _specs(requests: Iterable[Request], base: str, folder: str) -> list[str]:
    """What must be said of these besides the base."""
    known = Authority("", Policy(base=base, workspace=folder).capabilities(0.0))  # type: ignore[arg-type]
    return suggest([each for each in requests if known.decide(each, now=0.0).verdict != "allow"], folder)


def _rule(one: Rule, folder: str) -> str:
    """A line of `label` or `clear`, as it is written."""
    kinds = {ACTIONS[action] for action in one.actions}
    patterns = " & ".join(pattern_text(next(iter(kinds)), each, folder) for each in one.patterns)
    return f"{'ask ' if one.ask else ''}{one.label} {short_names(one.actions)}:{patterns if len(kinds) == 1 else '**'}"


def _text(text: str | list[str]) -> str:
    return json.dumps(text, ensure_ascii=False)  # which TOML reads as the same text
