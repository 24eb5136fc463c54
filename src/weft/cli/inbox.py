"""`weft inbox` and `weft answer`: what runs ask of people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli.failures import reported
from weft.cli.look import ask, state_of
from weft.cli.words import AsJson, StorePlace

if TYPE_CHECKING:
    from weft.runtime.inbox import OpenQuestion
    from weft.runtime.runtime import Runtime
    from weft.store.base import Store


@reported
def inbox(
    queue: Annotated[str | None, typer.Option(help="Only questions to this queue of people.")] = None,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """List the questions and approvals that wait for an answer, the oldest first."""
    from weft.cli.render import out
    from weft.runtime.inbox import questions, short_ids

    async def look(opened: Store) -> tuple[list[OpenQuestion], float]:
        return await questions(opened), opened.clock()

    found, now = ask(store, look)
    short = short_ids([one.id for one in found])
    shown = [one for one in found if queue is None or one.queue == queue]
    if json:
        out([plain(one, short[one.id], now) for one in shown])
    elif shown:
        print("\n\n".join("\n".join(described(one, short[one.id], now)) for one in shown))
    else:
        print("nobody asks anything" + (f" of {queue}" if queue is not None else ""))


@reported
def answer(
    id: Annotated[str, typer.Argument(metavar="ID", help="A question's id, or any part of it that is unique.")],
    value: Annotated[str, typer.Argument(help="once, always or never for an approval; else JSON or plain text.")],
    who: Annotated[str | None, typer.Option(metavar="NAME", help="Who answers. [default: this user]")] = None,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Answer a question; the run that asked goes on, wherever it is executed."""
    import asyncio

    from weft.cli.host import me, say, with_runtime
    from weft.runtime.inbox import find

    question = ask(store, lambda opened: find(opened, id))
    given = question.read(value)

    async def go(runtime: Runtime) -> str:
        await runtime.answer(question.id, given, who=who or me())
        return await state_of(runtime.store, await runtime.row(question.run))

    state = asyncio.run(with_runtime(store, "full", go))
    words = f"answered; run {question.run} goes on"
    if state == "interrupted":
        words = f"answered; nobody executes run {question.run} now, continue it with: weft resume {question.run}"
    elif state == "paused":
        words = f"answered; run {question.run} is paused"
    say({"id": question.id, "run": question.run, "answer": given, "state": state}, words, json)


def described(one: OpenQuestion, short: str, now: float) -> list[str]:
    """A question as a person reads it."""
    from weft.cli.render import age

    times = f"{age(now - one.asked)} ago"
    if one.expires is not None:
        times += f", expires in {age(max(0.0, one.expires - now))}"
    queue = "" if one.queue == "default" else f", to {one.queue}"
    lines = [
        f"{short}  run {one.run}  {one.workflow}  {times}{queue}",
        *(f"  {line}" for line in one.text.splitlines()),
    ]
    if one.arguments:
        lines.append(f"  arguments: {one.arguments}")
    if one.rejected:
        lines.append(f"  the last answer was none: {one.rejected}")
    return [*lines, f"  takes {one.takes}: weft answer {short} …"]


def plain(one: OpenQuestion, short: str, now: float) -> dict[str, Any]:
    """The same for a program."""
    from weft.cli.render import moment

    return {
        "id": one.id,
        "short": short,
        "run": one.run,
        "workflow": one.workflow,
        "queue": one.queue,
        "kind": one.kind,
        "text": one.text,
        "asked": moment(one.asked),
        "age": round(now - one.asked, 3),
        "expires": moment(one.expires),
        "place": one.place,
        "schema": one.schema,
        "requests": [{"action": action, "resource": resource} for action, resource in one.requests],
        "arguments": one.arguments,
        "label": one.label,
        "sinks": [{"action": action, "resource": resource} for action, resource in one.sinks],
        "rejected": one.rejected,
    }
