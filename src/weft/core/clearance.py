"""What a policy says about labels: what is brought in carries which (`label`), and what may take which (`clear`).

    label = ["secret file:./secrets", "confidential tenant=acme net:db.internal:5432", "public shell:git **"]
    clear = ["secret model:local/**", "ask confidential net:*.corp.example:443"]

A place has one label, whatever is done there: what was read from it may be written back, and what may hold something
gives it back with the label that it may hold. A program that is run may read whatever it likes: what it says carries
all that the policy labels, unless a line speaks of that very command.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from weft.core.capability import ACTIONS, Capability, Request, nearest, parse, pattern_text, short_names
from weft.core.errors import BadInput
from weft.core.label import LEVELS, PUBLIC, TOP, Label, join
from weft.core.pattern import Matcher, Subject, compiled, exact, subject

OUTSIDE = frozenset(
    {
        *("file.write", "file.delete", "net.connect", "shell.run", "model.generate", "human.ask", "tool.call"),
        *("rpc.call", "image.commit"),
    }
)
"""Actions that take something out of the store, and are cleared for what is public unless a policy says more."""
_PLACES = (("file.read", "file.write", "file.delete"), ("memory.read", "memory.write"))
"""Actions on places that keep what they are given."""
_KEPT = frozenset(action for place in _PLACES for action in place)
_ONLY_OUT = _KEPT - {"file.read", "memory.read"}
"""Of these, those that bring nothing in."""

_SPEC = re.compile(r"\s*(ask\s+)?(?:([a-z]+)(?=\s|$)\s*)?(?:tenants?=(\S*)\s+)?(.*)", re.DOTALL)
GRAMMAR = "[ask] public|internal|confidential|secret [tenant=a,b] ACTION:PATTERN"


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. `ask`: what it clears goes there only if a person releases it, each time."""

    label: Label
    actions: tuple[str, ...]
    patterns: tuple[str, ...]
    ask: bool = False


def rule(spec: str, workspace: Path | str, *, clears: bool) -> Rule:
    """The rule that a line means. `clears`: it is one of `clear`. Raises BadInput, which shows the grammar."""
    found = _SPEC.fullmatch(spec)
    assert found is not None  # its parts may all be empty
    ask, level, tenants, rest = found.groups()
    if level is None and tenants is None:
        raise BadInput(f"{spec!r} says no label. Grammar: {GRAMMAR}")
    if level is not None and level not in LEVELS:
        near = nearest(level, LEVELS)
        raise BadInput(f"{spec!r}: {level!r} is no sensitivity{f'; did you mean {near!r}?' if near else '.'} {GRAMMAR}")
    if ask and not clears:
        raise BadInput(f"{spec!r}: ask says that a person releases what goes out; here it is said what comes in")
    label = Label(level or "public", tuple(tenants.split(",")) if tenants else ())
    if not label.tenants and tenants is not None:
        raise BadInput(f"{spec!r} names no tenant after tenant=. Grammar: {GRAMMAR}")
    about = parse(rest, workspace=workspace, now=0.0)
    if about != Capability(actions=about.actions, patterns=about.patterns):
        raise BadInput(f"{spec!r}: a label has no effect, uses, expires, depth or note. Grammar: {GRAMMAR}")
    return Rule(PUBLIC if label == PUBLIC else label, _whole(about.actions), about.patterns, bool(ask))


def _whole(actions: Iterable[str]) -> tuple[str, ...]:
    """With all that is done to the same places."""
    found = set(actions)
    for place in _PLACES:
        if not found.isdisjoint(place):
            found.update(place)
    return tuple(action for action in ACTIONS if action in found)


def line(label: Label, asked: Request, workspace: Path | str) -> str:
    """The line of `clear` that lets what carries `label` go to exactly what is asked for."""
    kind = ACTIONS[asked.action]
    pattern = pattern_text(kind, exact(kind, asked.resource), workspace)
    return f"{label} {short_names([asked.action])}:{pattern}"


class Rules:
    """Those of one policy, compiled. Safe in any thread."""

    def __init__(self, labels: Sequence[Rule], clear: Sequence[Rule]) -> None:
        self._labels = {action: _compiled(action, labels) for action in ACTIONS}
        self._clear = {action: _compiled(action, clear) for action in ACTIONS}
        kept = [one.label for one in clear if not _KEPT.isdisjoint(one.actions)]
        self.everything = join([*(one.label for one in labels), *kept])
        """What a program may have read that nobody watches."""

    def speaks_of(self, action: str) -> bool:
        """Whether any rule is about this action."""
        return bool(self._labels[action] or self._clear[action] or action == "shell.run")

    def source(self, asked: Request, *, unseen: bool = False) -> Label:
        """What is brought in from there carries this. `unseen`: by code that nobody watches."""
        if asked.action in _ONLY_OUT:
            return PUBLIC
        what = subject(ACTIONS[asked.action], asked.resource)
        rules = self._labels[asked.action]
        spoken_of = what is not None and any(_fits(matchers, what) for _, matchers in rules)
        if (unseen or asked.action == "shell.run") and not spoken_of:
            return self.everything
        if what is None:
            return PUBLIC
        found = join(one.label for one, matchers in rules if all(each.catches(what) for each in matchers))
        if asked.action in _KEPT:
            kept = self._clear[asked.action]
            found |= join(one.label for one, matchers in kept if all(each.catches(what) for each in matchers))
        return found

    def clearance(self, asked: Request, *, unseen: bool = False) -> Label:
        """What may go there."""
        what = subject(ACTIONS[asked.action], asked.resource)
        usual = PUBLIC if unseen or asked.action in OUTSIDE else TOP
        if what is None:
            return usual
        cleared = [one.label for one, each in self._clear[asked.action] if not one.ask and _fits(each, what)]
        own = join(one.label for one, matchers in self._labels[asked.action] if _fits(matchers, what))
        return (join(cleared) if cleared else usual) | own

    def askable(self, asked: Request) -> Label:
        """What may go there if a person releases it."""
        what = subject(ACTIONS[asked.action], asked.resource)
        if what is None:
            return PUBLIC
        return join(one.label for one, matchers in self._clear[asked.action] if one.ask and _fits(matchers, what))


_Compiled = list[tuple[Rule, tuple[Matcher, ...]]]


def _compiled(action: str, rules: Sequence[Rule]) -> _Compiled:
    kind = ACTIONS[action]
    return [(one, tuple(compiled(kind, pattern) for pattern in one.patterns)) for one in rules if action in one.actions]


def _fits(matchers: Sequence[Matcher], what: Subject) -> bool:
    return all(matcher.allows(what) for matcher in matchers)


def sink(asked: Request) -> str:
    """A request as one text: what a release names."""
    return f"{asked.action}:{asked.resource}"


def of_sink(text: str) -> Request:
    """The request that such a text means. Raises BadInput."""
    action, colon, resource = text.partition(":")
    if not colon or not resource or action not in ACTIONS:
        raise BadInput(f"{text!r} is no sink; the refusal names it, such as {shlex.quote('net.connect:host:443')}")
    return Request(action, resource)


EMPTY = Rules((), ())
