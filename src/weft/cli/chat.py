"""`weft chat`: talk to an agent at the terminal, or line by line from a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli.failures import INTERRUPTED, reported
from weft.cli.words import Allow, Ask, Base, Deny, Durability, Everything, Spend, StorePlace

if TYPE_CHECKING:
    from weft.agent.agent import Agent
    from weft.runtime.handle import Run
    from weft.runtime.runtime import Runtime

AGENT = "FILE[:AGENT]"


@reported
def chat(
    target: Annotated[str | None, typer.Argument(metavar=AGENT, help="A file with an agent, or nothing.")] = None,
    model: Annotated[str | None, typer.Option(help="A model's spec, if not the agent's own.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with an earlier chat.")] = None,
    base: Base = None,
    everything: Everything = False,
    allow: Allow = None,
    asks: Ask = None,
    deny: Deny = None,
    budget: Spend = None,
    store: StorePlace = None,
    durability: Durability = "full",
) -> None:
    """Talk to an agent. Each turn is journaled, so a chat that was left, or killed, goes on with --resume.

    What is said while it works is heard at once. Ctrl-C stops it; twice leaves. /history, /cost, /undo, /quit.
    """
    import asyncio

    from weft.agent.chat import chat as workflow
    from weft.cli.host import with_runtime
    from weft.cli.look import present
    from weft.cli.rights import policy_of, whole_policy
    from weft.cli.talk import Talk
    from weft.core.codec import decode_args
    from weft.core.errors import BadInput
    from weft.model.spec import where

    if resume is not None and (target is not None or model is not None):
        raise BadInput("--resume goes on with that chat's own agent and model: name no other")
    if model is not None:  # who names it on the command line allows it
        allow = [*(allow or ()), f"model:{where(model).resource}"]
    policy = whole_policy(policy_of(base, everything, allow, asks, deny, budget))
    row = None if resume is None else present(store, resume)
    if row is not None and row.workflow != workflow.name:
        raise BadInput(f"run {row.id} is no chat, but {row.workflow}; go on with it by: weft resume {row.id}")
    if row is not None:
        args, kwargs = decode_args(row.input)
        words = [*args, *kwargs.values()]
    elif target is not None:
        words = [_agent(target).name, model or "", target]
    else:
        from weft.model.catalogue import DEFAULT

        words = ["", model or DEFAULT, ""]
    if row is not None and words[-1]:
        _agent(words[-1])

    async def start(runtime: Runtime) -> Run[Any]:
        return await (runtime.resume(row.id) if row is not None else runtime.start(workflow, *words))

    async def go(runtime: Runtime) -> bool:
        return await Talk(runtime).through(start)

    if asyncio.run(with_runtime(store, durability, go, policy)):
        raise typer.Exit(INTERRUPTED)


def _agent(target: str) -> Agent[Any]:
    """The one that a file declares."""
    from weft.agent.agent import Agent
    from weft.cli.load import load
    from weft.core.errors import BadInput

    file, separator, name = target.rpartition(":")
    module = load(file if separator else name)
    agents = {key: one for key, one in vars(module).items() if isinstance(one, Agent)}
    if separator and name in agents:
        return agents[name]
    if separator or len(agents) != 1:
        known = f"it has {', '.join(sorted(agents))}" if agents else "it has none"
        raise BadInput(f"which agent of {file or name}? {known}; say {AGENT}")
    return next(iter(agents.values()))
