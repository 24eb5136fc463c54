"""Capabilities: rights to effects on resources, held by a process, only ever narrowed when handed on.

    allow read,write:./docs expires=1h          deny read:./.env          ask shell:git push **

The design is Agent libOS's (arXiv 2606.03895): typed patterns, deny dominates, lineage, depth of delegation, expiry,
counted uses; here small. A visible tool, an image, a checkpoint or a generated tool grants nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from weft.core.errors import BadInput
from weft.core.pattern import EVERYTHING, Kind, stored
from weft.core.pattern.shell import raw_words, unquoted
from weft.core.pattern.text import LONGEST, escape

Verdict = Literal["allow", "ask", "deny"]

ACTIONS: dict[str, Kind] = {
    "file.read": "file", "file.write": "file", "file.delete": "file", "net.connect": "net", "shell.run": "shell",
    "sandbox.run": "shell",
    **dict.fromkeys((
        "model.generate", "tool.call", "step.run", "memory.read", "memory.write", "human.ask", "clock.read",
        "chance.draw", "process.spawn", "process.send", "process.signal", "process.exec", "event.publish",
        "image.load", "image.commit", "checkpoint.create", "checkpoint.restore", "secret.open", "rpc.call",
    ), "name"),
}  # fmt: skip
"""Every action (`noun.verb`), and what kind of resource it is done to."""

SHORT: dict[str, tuple[str, ...]] = {
    "read": ("file.read",), "write": ("file.write",), "delete": ("file.delete",), "net": ("net.connect",),
    "shell": ("shell.run",), "sandbox": ("sandbox.run",), "model": ("model.generate",),
    "tool": ("tool.call",), "step": ("step.run",), "ask": ("human.ask",), "spawn": ("process.spawn",),
    "send": ("process.send",), "signal": ("process.signal",), "secret": ("secret.open",), "rpc": ("rpc.call",),
    "file": ("file.read", "file.write", "file.delete"), "memory": ("memory.read", "memory.write"),
    "all": tuple(ACTIONS),
}  # fmt: skip
"""Short forms of actions and of groups of them."""

GRAMMAR = """[allow|ask|deny] ACTION[,ACTION...]:PATTERN [uses=N] [expires=1h] [depth=N] [note="..."]"""


class Request(NamedTuple):
    """One question to an authority: may `action` be done to `resource` (in the normal form of its kind)?"""

    action: str
    resource: str


class Capability(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A right, or the refusal of one, to do `actions` to whatever matches all of `patterns` (in their stored form).

    `issuer`: who granted it; one that a human approved begins with `human:` and goes before an ask. `lineage`: the
    (process, number) of each capability it was handed on from, first first. `depth`: how many times it may be handed
    on. `expires`: seconds since the epoch. `uses`: how many effects it allows (None: any number).
    """

    actions: tuple[str, ...]
    patterns: tuple[str, ...]
    effect: Verdict = "allow"
    issuer: str = "user"
    lineage: tuple[tuple[str, int], ...] = ()
    depth: int = 8
    expires: float | None = None
    uses: int | None = None
    note: str = ""

    @property
    def approval(self) -> bool:
        """Whether a human allowed exactly this, which goes before an ask."""
        return self.effect == "allow" and self.issuer.startswith("human:")


# --- reading ----------------------------------------------------------------------------------------

_HEAD = re.compile(r"\s*(?:(allow|ask|deny)\s+)?([^:\s\"']*)\s*(:?)\s*(.*)", re.DOTALL)
_ACTION = re.compile(r"[a-z.]+")
_QUOTED = re.compile(r"""'[^']*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_OPTION = re.compile(r"""([a-z]+)=('[^']*'|"(?:[^"\\]|\\.)*"|\S*)""", re.DOTALL)
_TAIL = re.compile(r"""(?:^|(?<=\s))([a-z]+)=('[^']*'|"(?:[^"\\]|\\.)*"|[^\s'"]*)\s*\Z""", re.DOTALL)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhdw]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_UNCLEAR = re.compile(r"""[\s'"]|^&|^[a-z]+=""")
_LONGEST = 4 * LONGEST
_OPTIONS = ("uses", "expires", "depth", "note")


def parse(spec: str, *, workspace: Path | str, issuer: str = "user", now: float) -> Capability:
    """The capability that a text describes; paths are resolved against `workspace`, times against `now` (seconds
    since the epoch). Several patterns that must all match are joined by ` & `.

    Raises BadInput, which shows the grammar and the nearest action, if the text describes none.
    """
    if len(spec) > _LONGEST:
        raise BadInput(f"a capability of {len(spec)} characters: at most {_LONGEST} are allowed ({spec[:40]!r}...)")
    head = _HEAD.fullmatch(spec)
    assert head is not None  # its parts may all be empty
    verb, names, colon, rest = head.groups()
    effect: Verdict = "deny" if verb == "deny" else "ask" if verb == "ask" else "allow"
    actions = actions_of(names.split(","), spec)
    kinds = {ACTIONS[action] for action in actions}
    rest, options = _options(rest, spec, quick="shell" in kinds)
    if not rest and len(kinds) == 1:
        raise BadInput(f"{spec!r} says no resource after {names}{colon}. {_help(next(iter(kinds)))}")
    if not colon and rest:
        raise BadInput(f"{spec!r} has no ':' between action and pattern. Grammar: {GRAMMAR}")
    patterns = _patterns(rest, spec, kinds, workspace)
    if effect != "allow" and "uses" in options:
        raise BadInput(f"{spec!r}: uses= counts what is allowed; a capability that says {effect} has none")
    return Capability(
        actions=actions,
        patterns=patterns,
        effect=effect,
        issuer=issuer,
        expires=_time(options["expires"], now, spec) if "expires" in options else None,
        uses=_count(options, "uses", 1, spec),
        depth=8 if (depth := _count(options, "depth", 0, spec)) is None else depth,
        note=options.get("note", ""),
    )


def actions_of(names: Sequence[str], spec: str) -> tuple[str, ...]:
    """The actions that full and short names stand for, in the order of ACTIONS. Raises BadInput for others."""
    found: set[str] = set()
    for name in names:
        if name in ACTIONS:
            found.add(name)
        elif name in SHORT:
            found.update(SHORT[name])
        else:
            near = nearest(name, [*SHORT, *ACTIONS])
            hint = f"; did you mean {near!r}?" if near else "."
            raise BadInput(
                f"{spec!r}: there is no action {name!r}{hint} Actions: {', '.join(SHORT)}, "
                f"{', '.join(a for a in ACTIONS if (a,) not in SHORT.values())}. Grammar: {GRAMMAR}"
            )
    return tuple(action for action in ACTIONS if action in found)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like the one given, if any is."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, known, n=1, cutoff=0.5)), None)


def _help(kind: Kind) -> str:
    return {
        "file": "Examples: read:./docs (it and all below), write:./out/*.csv",
        "net": "Examples: net:api.github.com:443, net:*.example.com, net:10.0.0.0/8:8000-8100",
        "shell": "Examples: shell:git status, shell:git log **, shell:pytest *",
        "name": "Examples: model:gpt-*, tool:search, memory.read:notes/**, step:* (any)",
    }[kind]


def _options(text: str, spec: str, quick: bool) -> tuple[str, dict[str, str]]:
    """Cut the options off the end. In a command (`quick`), an unknown `key=value` is an argument."""
    options: dict[str, str] = {}
    while found := _TAIL.search(text):
        key, value = found.groups()
        if key not in _OPTIONS:
            if quick:
                break
            near = nearest(key, _OPTIONS)
            raise BadInput(
                f"{spec!r}: there is no option {key!r}{f'; did you mean {near!r}?' if near else '.'} Options: "
                f"{', '.join(_OPTIONS)}; if it is part of the pattern, put the pattern in quotes"
            )
        if key in options:
            raise BadInput(f"{spec!r} gives {key}= twice")
        options[key] = unquoted(value)
        text = text[: found.start()]
    return text.strip(), options


def _patterns(text: str, spec: str, kinds: set[Kind], workspace: Path | str) -> tuple[str, ...]:
    """The stored patterns: one, or several joined by ` & `."""
    if len(kinds) > 1:
        if text in ("", "*", EVERYTHING):
            return (EVERYTHING,)
        raise BadInput(
            f"{spec!r}: actions on different kinds of resources take only the pattern **; "
            f"write one capability for each kind"
        )
    kind = next(iter(kinds))
    try:
        return tuple(stored(kind, each, workspace) for each in _conjuncts(text, kind))
    except BadInput as error:
        raise BadInput(f"{spec!r}: {error}. {_help(kind)}") from None


def _conjuncts(text: str, kind: Kind) -> list[str]:
    if kind == "shell":
        groups: list[list[str]] = [[]]
        for word in raw_words(text):
            if word == "&":
                groups.append([])
            else:
                groups[-1].append(word)
        return [" ".join(group) for group in groups]
    found = []
    while True:
        quoted = _QUOTED.match(text)
        if quoted and re.match(r"\s+&\s|\s*\Z", text[quoted.end() :]):
            word, rest = unquoted(quoted[0]), text[quoted.end() :].strip()
            found.append(word)
            if not rest:
                return found
            text = rest[1:].strip()
            continue
        first, mark, text = text.partition(" & ")
        found.append(first.strip())
        text = text.strip()
        if not mark:
            return found


def _count(options: dict[str, str], key: str, least: int, spec: str) -> int | None:
    if key not in options:
        return None
    text = options[key]
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) < least:
        raise BadInput(f"{spec!r}: {key}={text} must be a whole number, at least {least}")
    return int(text)


def _time(text: str, now: float, spec: str) -> float:
    """Seconds since the epoch of `90s`, `30m`, `1h`, `7d`, `2w` from now, of a date and time, or of `@seconds`."""
    try:
        if span := _SPAN.fullmatch(text):
            return now + float(span[1]) * _SECONDS[span[2]]
        if text[:1] == "@":
            return float(text[1:])
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.astimezone()).timestamp()
    except (ValueError, OverflowError):
        raise BadInput(
            f"{spec!r}: expires={text} must be a span such as 90s, 30m, 1h, 7d, or a time such as 2027-01-31T18:00Z"
        ) from None


# --- writing ----------------------------------------------------------------------------------------


def render(capability: Capability, workspace: Path | str) -> str:
    """The text that `parse` reads back as the same capability (but for its issuer and lineage), paths below
    `workspace` relative to it."""
    names = short_names(capability.actions)
    kinds = {ACTIONS[action] for action in capability.actions}
    text = "" if capability.effect == "allow" else f"{capability.effect} "
    text += names
    if len(kinds) == 1:
        kind = next(iter(kinds))
        text += ":" + " & ".join(pattern_text(kind, pattern, workspace) for pattern in capability.patterns)
    elif names != "all":
        text += ":**"
    if capability.uses is not None:
        text += f" uses={capability.uses}"
    if capability.expires is not None:
        text += f" expires={_when(capability.expires)}"
    if capability.depth != 8:
        text += f" depth={capability.depth}"
    return text + (f" note={_double(capability.note)}" if capability.note else "")


def short_names(actions: Iterable[str]) -> str:
    """The shortest list of names that stands for these actions."""
    left, names = set(actions), []
    for name in ("all", "file", "memory", *SHORT):
        if left.issuperset(SHORT[name]):
            names.append(name)
            left.difference_update(SHORT[name])
    return ",".join([*names, *(action for action in ACTIONS if action in left)])


def pattern_text(kind: Kind, pattern: str, workspace: Path | str) -> str:
    """A stored pattern as a user writes it."""
    if kind == "shell":
        return pattern
    if kind == "file":
        root = escape(os.path.realpath(workspace)).rstrip("/")
        if pattern == EVERYTHING:
            pattern = "/"
        elif pattern == root:
            pattern = "./"
        elif pattern.startswith(root + "/"):
            pattern = "." + pattern[len(root) :]
    return _double(pattern) if _UNCLEAR.search(pattern) else pattern


def _double(text: str) -> str:
    return '"' + re.sub(r'["\\]', r"\\\g<0>", text) + '"'


def _when(seconds: float) -> str:
    try:
        text = datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
        if datetime.fromisoformat(text).timestamp() == seconds:
            return text
    except (ValueError, OverflowError, OSError):
        pass
    return f"@{seconds!r}"
