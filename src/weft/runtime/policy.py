"""Which rights a run begins with: a base, and what is allowed, asked for and denied besides.

    [policy]                      # in weft.toml
    base = "workspace"
    allow = ["write:./out", "net:api.github.com:443"]
    ask = ["shell:git push **"]
    deny = ["read:./.env"]
    budget = { tokens = 100_000, money = 0.5 }
    label = ["secret file:./secrets"]               # what is brought in carries which label
    clear = ["secret model:local/**"]               # and what may take which: see `weft.core.clearance`

Where several places say something (the file, `$WEFT_ALLOW` and its like, the command line, `with weft.grant(...)`), all
of it counts; the base, and each limit of the budget, is the last one named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import msgspec

from weft.core.approvals import Approvals
from weft.core.budget import KINDS, Budget
from weft.core.capability import SHORT, Capability, Verdict, nearest, parse
from weft.core.clearance import Rule, rule
from weft.core.errors import BadInput
from weft.core.pattern import stored
from weft.core.pattern.text import escape
from weft.core.settings_file import settings_file

Base = Literal["none", "program", "workspace", "all"]
BASES: tuple[Base, ...] = get_args(Base)

PROGRAM = (
    "clock.read,chance.draw,step.run,tool.call,process.spawn,process.send,process.signal,process.exec,event.publish,"
    "human.ask,memory.read,memory.write,secret.open,image.load,checkpoint.create:**"
)
"""What a program does with itself: it touches nothing outside the store."""
WORKSPACE = ("read:./", "model:local/**")
FILES = SHORT["file"]


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`base`: "none"; "program" (steps, time, chance, children, letters, memory: nothing outside); "workspace", the
    default (that, reading the workspace, and the local models); "all". `allow`, `ask`, `deny`: capabilities such as
    "read:./docs" or "net:*.example.com:443 expires=1h uses=3". `label`, `clear`: such as "secret file:./secrets" and
    "secret model:local/**". `workspace`: a folder; default: the current one. `budget`: what each run may spend at most,
    whatever its workflow says. `approvals`: how people are asked about what is in `ask`."""

    base: Base | None = None
    allow: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    clear: tuple[str, ...] = ()
    workspace: str | None = None
    budget: Budget | None = None
    approvals: Approvals | None = None

    def __post_init__(self) -> None:
        if self.base is not None and self.base not in BASES:
            raise BadInput(f"policy base {self.base!r}: there are {', '.join(BASES)}")
        self.besides(0.0, os.sep)
        self.rules()

    def __or__(self, other: Policy) -> Policy:
        """Both; where they differ in the base, the workspace or a limit, the other's."""
        limits = {**_limits(self.budget), **_limits(other.budget)}
        return Policy(
            base=other.base or self.base,
            allow=_both(self.allow, other.allow),
            ask=_both(self.ask, other.ask),
            deny=_both(self.deny, other.deny),
            label=_both(self.label, other.label),
            clear=_both(self.clear, other.clear),
            workspace=other.workspace or self.workspace,
            budget=Budget(**limits) if limits else None,
            approvals=other.approvals or self.approvals,
        )

    @property
    def folder(self) -> str:
        """The workspace, absolute."""
        return os.path.realpath(self.workspace or os.curdir)

    def rules(self) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
        """What carries which label, and what is cleared for which. Raises BadInput."""
        folder = self.folder
        labels = tuple(rule(spec, folder, clears=False) for spec in self.label)
        return labels, tuple(rule(spec, folder, clears=True) for spec in self.clear)

    def capabilities(self, now: float, private: Sequence[str] = ()) -> tuple[Capability, ...]:
        """What a run holds. `private`: folders and files that no program touches (those of the store itself)."""
        folder = self.folder
        base = self.base or "workspace"
        based = {"none": (), "program": (PROGRAM,), "workspace": (PROGRAM, *WORKSPACE), "all": ("all",)}[base]
        kept = () if base == "all" else private
        return (
            *(parse(spec, workspace=folder, issuer=base, now=now) for spec in based),
            *(
                Capability(actions=FILES, patterns=(stored("file", escape(path), folder),), effect="deny", issuer=base)
                for path in kept
            ),
            *self.besides(now, folder),
        )

    def besides(self, now: float, folder: str) -> tuple[Capability, ...]:
        """What is allowed, asked for and denied besides the base. Raises BadInput for a spec that is wrong."""
        lists: tuple[tuple[Verdict, tuple[str, ...]], ...] = (
            ("allow", self.allow), ("ask", self.ask), ("deny", self.deny)
        )  # fmt: skip
        return tuple(_parsed(effect, spec, folder, "policy", now) for effect, specs in lists for spec in specs)


def _parsed(effect: Verdict, spec: str, folder: str, issuer: str, now: float) -> Capability:
    """`spec` as it stands in the list of what to allow, ask for or deny."""
    verb = spec.split(None, 1)[0] if spec.strip() else ""
    if verb in ("allow", "ask", "deny"):
        if verb != effect:
            raise BadInput(f"{spec!r} says {verb}, but stands among what to {effect}")
        spec = spec.split(None, 1)[-1]
    found = parse(spec if effect == "allow" else f"{effect} {spec}", workspace=folder, issuer=issuer, now=now)
    assert found.effect == effect
    return found


def ambient() -> Policy:
    """What the settings file and the environment say. Raises BadInput that names the place."""
    file = settings_file()
    found = Policy()
    table = file.values.get("policy") if file is not None else None
    if table is not None:
        assert file is not None
        found |= _of_table(table, f"{file.name}: [policy]")
    for name in ("policy", "allow", "ask", "deny", "label", "clear", "budget"):
        variable = f"WEFT_{name.upper()}"
        if words := os.environ.get(variable, "").strip():
            found |= said(name, variable, [words] if name == "policy" else filter(None, re.split(r"[;\n]", words)))
    return found


def said(name: str, where: str, words: Iterable[str]) -> Policy:
    """The policy of one option: `policy` (a base), `allow`, `ask`, `deny` (capabilities) or `budget` (`tokens=1000,
    money=0.5`). Raises BadInput that names `where` it was said."""
    found = Policy()
    for word in words:
        try:
            match name:
                case "policy":
                    found |= Policy(base=word)  # type: ignore[arg-type]
                case "budget":
                    found |= Policy(budget=budget_of(dict(_pair(part) for part in word.split(",") if part.strip())))
                case _:
                    found |= Policy(**{name: (word.strip(),)})  # type: ignore[arg-type]
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from None
    return found


def _pair(part: str) -> tuple[str, float]:
    kind, _, amount = part.partition("=")
    try:
        return kind.strip(), float(amount)
    except ValueError:
        raise BadInput(f"{part.strip()!r} is no limit; write KIND=NUMBER, such as tokens=1000,money=0.5") from None


def budget_of(limits: dict[str, float]) -> Budget:
    """Raises BadInput for a kind that there isn't."""
    for kind in limits:
        if kind not in KINDS:
            near = nearest(kind, KINDS)
            hint = f"did you mean {near!r}?" if near else f"there are {', '.join(KINDS)}"
            raise BadInput(f"there is no budget of {kind!r}; {hint}")
    return Budget(**limits)


def _of_table(table: Any, where: str) -> Policy:
    try:
        found = msgspec.convert(table, Policy)
        if found.budget is not None:
            budget_of(table["budget"])  # a limit of a kind that there isn't would be passed over
        return found
    except (msgspec.ValidationError, BadInput) as error:
        raise BadInput(
            f"{where}: {error}; it has base, workspace, budget and approvals (tables), and lists: allow, ask, deny, "
            "label, clear"
        ) from None


def _limits(budget: Budget | None) -> dict[str, float]:
    return {} if budget is None else budget.limits()


def _both(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
