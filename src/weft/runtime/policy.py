"""Which rights a run begins with: a base, and what is allowed, asked for and denied besides.

    [policy]                      # in weft.toml
    base = "workspace"
    allow = ["write:./out", "net:api.github.com:443"]
    ask = ["shell:git push **"]
    deny = ["read:./.env"]

Where several places say something (the file, `$WEFT_ALLOW` and its like, the command line, `with weft.grant(...)`), all
of it counts; the base is the last one named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

import msgspec

from weft.core.capability import Capability, parse
from weft.core.errors import BadInput
from weft.core.settings_file import settings_file

Base = Literal["none", "program", "workspace", "all"]
BASES: tuple[Base, ...] = get_args(Base)

PROGRAM = (
    "clock.read,chance.draw,step.run,tool.call,process.spawn,process.send,process.signal,process.exec,event.publish,"
    "human.ask,memory.read,memory.write,secret.open,image.load,checkpoint.create:**"
)
"""What a program does with itself: it touches nothing outside the store."""
WORKSPACE = ("read:./", "model:local/**")


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`base`: "none"; "program" (steps, time, chance, children, letters, memory: nothing outside); "workspace", the
    default (that, reading the workspace, and the local models); "all". `allow`, `ask`, `deny`: capabilities such as
    "read:./docs" or "net:*.example.com:443 expires=1h uses=3". `workspace`: a folder; default: the current one."""

    base: Base | None = None
    allow: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    workspace: str | None = None

    def __post_init__(self) -> None:
        if self.base is not None and self.base not in BASES:
            raise BadInput(f"policy base {self.base!r}: there are {', '.join(BASES)}")
        if self.base == "all" and self.allow:
            return
        for spec in (*self.allow, *self.ask, *self.deny):
            parse(spec, workspace=os.sep, now=0.0)

    def __or__(self, other: Policy) -> Policy:
        """Both; where they differ in the base or the workspace, the other's."""
        return Policy(
            base=other.base or self.base,
            allow=_both(self.allow, other.allow),
            ask=_both(self.ask, other.ask),
            deny=_both(self.deny, other.deny),
            workspace=other.workspace or self.workspace,
        )

    @property
    def folder(self) -> str:
        """The workspace, absolute."""
        return os.path.realpath(self.workspace or os.curdir)

    def capabilities(self, now: float, private: Sequence[str] = ()) -> tuple[Capability, ...]:
        """What a run holds. `private`: folders and files that no program touches (those of the store itself)."""
        folder = self.folder
        base = self.base or "workspace"

        def parsed(effect: str, specs: Sequence[str], issuer: str) -> list[Capability]:
            return [parse(f"{effect} {spec}", workspace=folder, issuer=issuer, now=now) for spec in specs]

        based = {"none": (), "program": (PROGRAM,), "workspace": (PROGRAM, *WORKSPACE), "all": ("all",)}[base]
        kept = [] if base == "all" else [f"read,write,delete:{path}" for path in private]
        return (
            *parsed("allow", based, base),
            *parsed("deny", kept, base),
            *parsed("allow", self.allow, "policy"),
            *parsed("ask", self.ask, "policy"),
            *parsed("deny", self.deny, "policy"),
        )


def ambient() -> Policy:
    """What the settings file and the environment say. Raises BadInput that names the place."""
    file = settings_file()
    found = Policy()
    table = file.values.get("policy") if file is not None else None
    if table is not None:
        assert file is not None
        found |= _of_table(table, f"{file.name}: [policy]")
    words = {name: os.environ.get(f"WEFT_{name.upper()}", "") for name in ("policy", "allow", "ask", "deny")}
    if any(words.values()):
        lists = {name: tuple(filter(None, map(str.strip, re.split(r"[;\n]", words[name])))) for name in words}
        try:
            found |= Policy(
                base=words["policy"] or None,  # type: ignore[arg-type]
                allow=lists["allow"], ask=lists["ask"], deny=lists["deny"],
            )  # fmt: skip
        except BadInput as error:
            raise BadInput(f"WEFT_POLICY, WEFT_ALLOW, WEFT_ASK or WEFT_DENY: {error}") from None
    return found


def _of_table(table: Any, where: str) -> Policy:
    try:
        return msgspec.convert(table, Policy)
    except (msgspec.ValidationError, BadInput) as error:
        raise BadInput(f"{where}: {error}; it has base, allow, ask, deny (lists of texts) and workspace") from None


def _both(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
