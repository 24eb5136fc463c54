"""`weft policy`: what a run may do and did, the narrowest policy that it needed, what a policy would say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli.failures import FAILED, complain, reported
from weft.cli.look import ask, find_run
from weft.cli.words import AsJson, Base, RunId, StorePlace

if TYPE_CHECKING:
    from weft.cli.decisions import Dossier, Judged
    from weft.core.authority import Decision
    from weft.core.capability import Capability, Request
    from weft.store.base import Store

WIDE = 48
"""Characters of a capability up to which what follows is in a column."""

policies = typer.Typer(help="What runs may do, what they did, and what they would need.", no_args_is_help=True)


# --- explain ------------------------------------------------------------------------------------------------------


@policies.command()
@reported
def explain(
    run: RunId,
    tree: Annotated[bool, typer.Option("--tree", help="Its children too.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many requests of each process.")] = 200,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Show the rights that a run holds, and what was decided by them: refusals first, with what would allow them."""
    from weft.cli.decisions import depths, dossiers, family
    from weft.cli.render import out

    async def look(opened: Store) -> tuple[list[Dossier], float]:
        row = await find_run(opened, run)
        return await (family(opened, row) if tree else dossiers(opened, [row])), opened.clock()

    found, now = ask(store, look)
    if json:
        out([_plain(one, now) for one in found])
        return
    depth = depths(found)
    for number, one in enumerate(found):
        print("\n" * (number > 0) + "\n".join("  " * depth[one.row.id] + line for line in _explained(one, now, limit)))


def _explained(one: Dossier, now: float, limit: int) -> list[str]:
    summary = one.summary()
    lines = [f"run {one.id}  {one.row.workflow}  in {one.workspace}"]
    if one.image is None:
        return [*lines, "it began with a Weft that kept no rights"]
    lines.append("holds")
    rows = [_right(one, number, now, summary) for number in range(len(one.held))]
    widths = [max((len(row[at]) for row in rows if len(row[at]) <= WIDE), default=0) for at in range(2)]
    lines += [f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows] or ["  nothing"]
    for verdict, heading in (("deny", "was refused"), ("ask", "was allowed once, by a person"), ("allow", "did")):
        some = [each for each in summary if each.verdict == verdict]
        lines += [heading] if some else []
        for each in some[:limit]:
            lines += _request(one, each)
        lines += [f"  … {len(some) - limit:,} more (--limit N)"] if len(some) > limit else []
    if not one.watched:
        lines.append("files, connections and programs of its steps were not looked at (--policy all)")
    return lines


def _right(one: Dossier, number: int, now: float, summary: list[Judged]) -> tuple[str, str, str]:
    """Number, text, and the rest of what there is to say of a capability."""
    capability = one.held[number]
    words = [f"by {capability.issuer}"]
    if count := sum(each.times for each in summary if each.by == number):
        words.append(f"decided {count:,}×")
    if capability.uses is not None:
        words.append(f"{max(0, capability.uses - one.used[number])} of {capability.uses} uses left")
    if capability.lineage:
        words.append("from {}#{}".format(*capability.lineage[-1]))
    if ended := one.ended(number, now):
        words.append(ended)
    return f"#{number}", one.text(capability), ", ".join(words)


def _request(one: Dossier, each: Judged) -> list[str]:
    times = f"  {each.times:,}×" if each.times > 1 else ""
    by = "" if each.by is None else f"  by #{each.by}"
    if each.verdict != "deny":
        return [f"  {each.action} {each.resource}{by}{times}"]
    spec = one.spec_for(each)
    return [f"  {each.action} {each.resource}{times}", f"      {f'add: {_option(spec)}' if spec else one.why(each)}"]


def _plain(one: Dossier, now: float) -> dict[str, Any]:
    summary = one.summary()
    rights = [
        {
            "number": number,
            "spec": one.text(capability),
            "effect": capability.effect,
            "issuer": capability.issuer,
            "lineage": [f"{process}#{n}" for process, n in capability.lineage],
            "expires": capability.expires,
            "uses": capability.uses,
            "uses_left": None if capability.uses is None else max(0, capability.uses - one.used[number]),
            "ended": one.ended(number, now) or None,
            "decided": sum(each.times for each in summary if each.by == number),
        }
        for number, capability in enumerate(one.held)
    ]
    requests = [
        {
            "action": each.action,
            "resource": each.resource,
            "verdict": each.verdict,
            "by": None if each.by is None else f"{one.id}#{each.by}",
            "times": each.times,
            "add": one.spec_for(each) if each.verdict == "deny" else None,
        }
        for each in summary
    ]
    head = {"run": one.id, "workflow": one.row.workflow, "parent": one.row.parent, "workspace": one.workspace}
    return {**head, "watched": one.watched, "rights": rights, "requests": requests}


# --- suggest ------------------------------------------------------------------------------------------------------


@policies.command()
@reported
def suggest(
    run: RunId,
    toml: Annotated[bool, typer.Option("--toml", help="As the table [policy] of weft.toml.")] = False,
    base: Annotated[str, typer.Option(help="none, program or workspace: what need not be listed.")] = "none",
    with_refused: Annotated[bool, typer.Option("--with-refused", help="Allow what it was refused, too.")] = False,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Write the narrowest policy under which a run, with its children, could have done what it did."""
    from weft.cli.decisions import family
    from weft.cli.render import out
    from weft.cli.suggest import narrowest
    from weft.core.errors import BadInput

    if base not in ("none", "program", "workspace"):
        raise BadInput(f"--base {base}: there are none, program and workspace")

    async def look(opened: Store) -> list[Dossier]:
        return await family(opened, await find_run(opened, run))

    found = narrowest(ask(store, look), base, with_refused)
    if not found.watched:
        complain(
            "the files, connections and programs of its steps were not looked at (--policy all), so they are missing "
            "here; run it with --allow all, which looks at everything, and ask again"
        )
    if json:
        out(found._asdict())
    else:
        print("\n".join(found.toml() if toml else found.words()))


# --- check --------------------------------------------------------------------------------------------------------


@policies.command()
@reported
def check(
    on: Annotated[list[str], typer.Option("--on", metavar="ACTION:RESOURCE", help="Such as write:./out/a; repeat.")],
    specs: Annotated[
        list[str] | None, typer.Argument(metavar="[SPEC]...", help="As after --allow; or with ask, deny before it.")
    ] = None,
    base: Base = None,
    json: AsJson = False,
) -> None:
    """Say what would be decided for a run that is started here, and why. Exits with 1 unless all of it is allowed."""
    from time import time

    from weft.cli.render import out
    from weft.cli.rights import policy_of, whole_policy
    from weft.core.authority import Authority

    lists: dict[str, list[str]] = {"allow": [], "ask": [], "deny": []}
    for spec in specs or ():
        verb = spec.split(None, 1)[0] if spec.strip() else ""
        lists[verb if verb in lists else "allow"].append(spec)
    policy = whole_policy(policy_of(base, allow=lists["allow"], ask=lists["ask"], deny=lists["deny"]))
    now, folder = time(), policy.folder
    authority = Authority("", policy.capabilities(now))
    answers = [(asked, authority.decide(asked, now=now)) for each in on for asked in _requests(each, folder)]
    if json:
        out([_answer(asked, verdict, authority.capabilities, folder) for asked, verdict in answers])
    else:
        for asked, verdict in answers:
            says = _answer(asked, verdict, authority.capabilities, folder)
            print(f"{says['verdict']:<5}  {asked.action} {asked.resource}: {says['why']}")
    if any(verdict.verdict != "allow" for _, verdict in answers):
        raise typer.Exit(FAILED)


def _requests(text: str, folder: str) -> list[Request]:
    from weft.core.capability import actions_of
    from weft.core.errors import BadInput
    from weft.core.resource import request

    names, colon, said = text.partition(":")
    if not colon or not said:
        raise BadInput(f"--on {text}: write an action and a resource, such as write:./out/a.txt")
    return [request(action, said, folder) for action in actions_of(names.split(","), text)]


def _answer(asked: Request, verdict: Decision, held: tuple[Capability, ...], folder: str) -> dict[str, Any]:
    from weft.core.authority import line
    from weft.core.capability import render

    if verdict.by is None:
        why, by = f"nothing allows it; add: {line(asked, folder)}", None
    else:
        by = render(held[verdict.by], folder)
        why = f"{by} (by {held[verdict.by].issuer})"
    return {**asked._asdict(), "verdict": verdict.verdict, "by": by, "why": why}


def _option(spec: str) -> str:
    import shlex

    return f"--allow {shlex.quote(spec)}"
