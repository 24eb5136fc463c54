"""The rights that a command's words give a run, and the words that a refused run lacked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from weft.cli.failures import reported
from weft.cli.words import AsJson, RunId, StorePlace

if TYPE_CHECKING:
    from weft.cli.decisions import Dossier
    from weft.runtime.policy import Policy
    from weft.runtime.runtime import Runtime
    from weft.store.base import Store

MOST = 1000
"""Processes of a failed run that are asked what they were refused."""


def policy_of(
    base: str | None = None,
    everything: bool = False,
    allow: list[str] | None = None,
    ask: list[str] | None = None,
    deny: list[str] | None = None,
    budget: list[str] | None = None,
) -> Policy:
    """What these words say. Raises BadInput that names the word."""
    from weft.core.errors import BadInput
    from weft.runtime.policy import Policy, said

    if everything and base not in (None, "all"):
        raise BadInput(f"-A is --policy all; leave out --policy {base}")
    found = Policy()
    words = {"policy": ["all"] if everything else [base] if base else [], "allow": allow, "ask": ask, "deny": deny}
    for name, given in {**words, "budget": budget}.items():
        found |= said(name, f"--{name}", given or ())
    return found


def whole_policy(words: Policy) -> Policy:
    """Those of the settings file and the environment, and these over them."""
    from weft.runtime.policy import ambient

    return ambient() | words


# --- what was refused ---------------------------------------------------------------------------------------------


async def refusals(runtime: Runtime, run: str) -> list[str]:
    """What to print under a failed run: each thing that it or a child was refused, and what to add."""
    from weft.cli.decisions import family

    await runtime.journal.barrier()
    found = await family(runtime.store, await runtime.row(run), MOST)
    lines = list(dict.fromkeys(pair for one in found for pair in refused(one)))
    specs = list(dict.fromkeys(spec for _, spec in lines if spec is not None))
    return [*(line for line, _ in lines), *in_settings(specs), *_again(found[0])]


def refused(dossier: Dossier) -> list[tuple[str, str | None]]:
    """For each thing that a process was refused: a line that says so, and the spec that would allow it."""
    found = []
    for one in dossier.summary():
        if one.verdict == "deny":
            spec = dossier.spec_for(one)
            fix = f"add: --allow {_quoted(spec)}" if spec is not None else dossier.why(one)
            found.append((f"  {one.action} {one.resource}: {fix}", spec))
    return found


def _again(dossier: Dossier) -> list[str]:
    """How to go on where the run itself was refused something last, if one more right is all that it lacks."""
    last = dossier.last_refusal()
    spec = None if last is None else dossier.spec_for(last)
    if last is None or spec is None:
        return []
    return [f"and go on from there with: weft fork {dossier.id} --at {last.effect} --allow {_quoted(spec)}"]


def in_settings(specs: list[str]) -> list[str]:
    """The same specs as lines of weft.toml."""
    if not specs:
        return []
    import json

    return ["or, in weft.toml:", "  [policy]", f"  allow = {json.dumps(specs, ensure_ascii=False)}"]


def _quoted(spec: str) -> str:
    import shlex

    return shlex.quote(spec)


# --- weft revoke --------------------------------------------------------------------------------------------------


@reported
def revoke(
    run: RunId,
    number: Annotated[int | None, typer.Argument(metavar="[N]", help="The capability's number; or say RUN#N.")] = None,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Take a capability from a run and from all that it handed it to, wherever they are executed."""
    import asyncio

    from weft.cli.decisions import dossiers
    from weft.cli.host import me, say, with_runtime
    from weft.cli.look import ask, find_run
    from weft.core.errors import BadInput

    if found := re.fullmatch(r"(.+)#(\d+)", run):
        run, number = found[1], int(found[2])
    if number is None:
        raise BadInput("which capability? say RUN#N; `weft policy explain RUN` numbers them")
    chosen: int = number

    async def look(opened: Store) -> list[Dossier]:
        return await dossiers(opened, [await find_run(opened, run.partition("@")[0])])

    phases = ask(store, look)
    named = run.partition("@")[2]
    dossier = next((one for one in phases if one.id.partition("@")[2] == named), phases[-1])
    held = dossier.held
    if not 0 <= chosen < len(held):
        raise BadInput(f"run {dossier.id} holds no capability {chosen}; `weft policy explain {dossier.id}` lists them")
    if held[chosen].effect != "allow":
        raise BadInput(
            f"{dossier.id}#{chosen} is no right, it says {held[chosen].effect}: a revocation only takes away"
        )

    async def go(runtime: Runtime) -> None:
        await runtime.rights.revoke(dossier.id, chosen, me())

    asyncio.run(with_runtime(store, "full", go))
    spec = dossier.text(held[chosen])
    say(
        {"run": dossier.id, "number": chosen, "spec": spec, "revoked": True},
        f"revoked {dossier.id}#{chosen}: {spec}",
        json,
    )
