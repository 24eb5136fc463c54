"""`weft run`, `resume` and `fork`: a run is executed here, until it ends."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli.failures import INTERRUPTED, complain, reported
from weft.cli.look import ask, find_run, present
from weft.cli.words import (
    Allow,
    AsJson,
    Ask,
    Base,
    Deny,
    Durability,
    Everything,
    File,
    Inputs,
    Key,
    Probes,
    RunId,
    Spend,
    StorePlace,
    Target,
)

if TYPE_CHECKING:
    from weft.core.workflow import Workflow
    from weft.runtime.handle import Run
    from weft.runtime.runtime import Runtime
    from weft.store.base import ProcessRow, Store


@reported
def run(
    target: Target,
    input: Inputs = None,
    model: Annotated[str | None, typer.Option(help="Short for --input model=NAME.")] = None,
    key: Key = None,
    base: Base = None,
    everything: Everything = False,
    allow: Allow = None,
    asks: Ask = None,
    deny: Deny = None,
    budget: Spend = None,
    untrusted: Annotated[
        bool, typer.Option("--untrusted", help="FILE is a program that nobody vouches for: run it in the sandbox.")
    ] = False,
    tool: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="With --untrusted: what it may call, as in files:read_file; repeat."),
    ] = None,
    probe: Probes = None,
    store: StorePlace = None,
    durability: Durability = "full",
    json: AsJson = False,
) -> None:
    """Run a workflow, show its progress, and print its result.

    It may read this folder and touch nothing else outside, unless --allow, --policy, the table [policy] of weft.toml or
    WEFT_ALLOW say more.
    """
    from weft.cli.host import finish, host
    from weft.cli.load import arguments, find
    from weft.cli.rights import policy_of, whole_policy
    from weft.core.errors import BadInput
    from weft.core.traceparent import told_by

    policy = whole_policy(policy_of(base, everything, allow, asks, deny, budget))
    workflow: Workflow[..., Any]
    if untrusted:
        from weft.cli.untrusted import shown, untrusted_of

        if model is not None:
            raise BadInput("--model: a program that nobody vouches for gets its inputs by --input")
        workflow, args, kwargs = untrusted_of(target, tool or [], input or [])
    else:
        if tool:
            raise BadInput("--tool goes with --untrusted: a workflow of yours calls what it likes")
        workflow = find(target)
        args, kwargs = arguments(workflow, _with_model(workflow, list(input or ()), model))

    caller = told_by(os.environ.get("TRACEPARENT"))

    async def start(runtime: Runtime) -> Run[Any]:
        return await runtime.start(workflow.options(key=key, caller=caller), *args, **kwargs)

    end = host(store, durability, start, policy, probe or ())
    finish(shown(end, json) if untrusted else end, json)


def _with_model(workflow: Workflow[..., Any], words: list[str], model: str | None) -> list[str]:
    """The words of --input, and what --model is short for."""
    from weft.core.errors import BadInput

    if model is None:
        return words
    if "model" not in workflow.names:
        raise BadInput(f"{workflow.name}{workflow.signature} takes no model; leave out --model")
    return [*words, f'{{"model": {_quoted(model)}}}']


@reported
def resume(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="A run's id or part of it.")] = None,
    all: Annotated[bool, typer.Option("--all", help="Every unfinished run that nobody executes.")] = False,
    file: File = None,
    force: Annotated[bool, typer.Option(help="Even if it keeps killing its process.")] = False,
    probe: Probes = None,
    store: StorePlace = None,
    durability: Durability = "full",
    json: AsJson = False,
) -> None:
    """Continue a run after a crash or an interruption: finished effects are not made again.

    It keeps the rights and the budget that it began with.
    """
    from weft.cli.host import declare, finish, host
    from weft.core.errors import BadInput

    if (run is None) == (not all):
        raise BadInput("name a run, or say --all")
    if all:
        _resume_all(store, durability, json, probe or ())
        return
    assert run is not None
    row = present(store, run)
    declare(row, file)

    async def again(runtime: Runtime) -> Run[Any]:
        return await runtime.resume(row.id, force=force)

    finish(host(store, durability, again, probes=probe or ()), json)


@reported
def fork(
    run: RunId,
    at: Annotated[int, typer.Option(help="Number of the effect to make anew (see `weft show`).")],
    input: Inputs = None,
    value: Annotated[str | None, typer.Option(help="JSON: take this as that effect's outcome instead.")] = None,
    file: File = None,
    allow: Allow = None,
    asks: Ask = None,
    deny: Deny = None,
    budget: Spend = None,
    probe: Probes = None,
    store: StorePlace = None,
    durability: Durability = "full",
    json: AsJson = False,
) -> None:
    """Time travel: a new run that shares a run's history up to one effect, with the code as it is now.

    It holds what that run held when it began and nobody revoked, but for rights that may be used only so often, and
    what --allow adds.
    """
    from weft.cli.host import declare, finish, from_json, host
    from weft.cli.load import arguments
    from weft.cli.rights import policy_of
    from weft.core.workflow import find_workflow

    policy = policy_of(allow=allow, ask=asks, deny=deny, budget=budget)
    row = ask(store, lambda s: find_run(s, run))
    declare(row, file)
    given = arguments(find_workflow(row.workflow), input) if input else None
    replaced = ... if value is None else from_json(value, "--value")

    async def go(runtime: Runtime) -> Run[Any]:
        return await runtime.fork(row.id, at=at, input=given, value=replaced, policy=policy)

    finish(host(store, durability, go, probes=probe or ()), json)


def _resume_all(place: str | None, durability: str, json: bool, probes: Sequence[str]) -> None:
    import asyncio

    from weft.cli.host import with_runtime
    from weft.cli.load import load
    from weft.cli.render import counted, out
    from weft.core.errors import BadInput
    from weft.store.base import FINISHED, QUEUED, RUNNING, WAITING

    async def unfinished(opened: Store) -> list[ProcessRow]:
        return await opened.rows(states=(RUNNING, WAITING, QUEUED), limit=1_000_000)

    for source in sorted({row.source for row in ask(place, unfinished)}):
        try:
            load(source)
        except BadInput as error:
            complain(str(error))

    async def go(runtime: Runtime) -> list[dict[str, Any]]:
        runs = await runtime.resume_all()
        ends = [await runtime.end_of(run.id) for run in runs]
        return [{"run": row.id, "state": row.state} for row in ends if row.state in FINISHED]

    try:
        ended = asyncio.run(with_runtime(place, durability, go, probes=probes))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if json:
        out(ended)
    else:
        for end in ended:
            print(f"run {end['run']}: {end['state']}")
        print(f"{counted(len(ended), 'run')} resumed")


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)
