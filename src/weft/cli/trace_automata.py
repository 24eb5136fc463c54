"""`weft trace learn`, `surprise` and `automaton`: what is usual, and where a run left it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from weft.cli.failures import reported
from weft.cli.words import AsJson, StorePlace

if TYPE_CHECKING:
    from weft.store.base import Store
    from weft.trace.automata import Automaton, Call, Departure, Habits, Sign

Model = Annotated[Path, typer.Option("--model", help="Where what was learnt is kept.")]
USUAL = Path(".weft/usual")
SHOWN = 4
"""Symbols that are told of what was expected."""
SELDOM = 0.02
"""Signs are told that at most such a share of usual runs gives as much evidence of."""
SAID = {
    "exchanged": "{} and {} would be more usual in each other's place",
    "repeated": "{} to {} are the same again and again",
    "misplaced": "{} and its like stand elsewhere than usual",
    "unknown": "{} was never called before",
    "ended": "it ends where runs do not end",
}


@reported
def learn(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|RUN|WORKFLOW...",
            help="JSON lines (.jsonl), each a run: a list of symbols, or of calls with name, arguments, result and "
            "failed; runs of Weft; or the name of a workflow, all its runs.",
        ),
    ],
    model: Model = USUAL,
    new: Annotated[bool, typer.Option("--new", help="Forget what was learnt before.")] = False,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Learn what is usual from runs, and go on from what was learnt before."""
    from weft.cli.render import out
    from weft.trace.automata import Habits

    habits = _kept(model) if model.exists() and not new else Habits()
    learner = habits.learner
    before = learner.seen
    for _, run, over in _runs(source, store):
        if over:
            habits.feed(run)
    learner.revise()
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_bytes(habits.dump())
    told = {"runs": learner.seen - before, "all": learner.seen, "states": len(learner.states)}
    told |= {"symbols": len(learner.alphabet), "undone": learner.undone}
    if json:
        out(told)
    else:
        print(
            f"learnt from {told['runs']:,} runs, {told['all']:,} in all: {told['states']:,} states, "
            f"{told['symbols']:,} symbols; {told['undone']:,} merges undone; kept in {model}"
        )


@reported
def surprise(
    source: Annotated[list[str], typer.Argument(metavar="FILE|RUN|WORKFLOW...", help="As of `weft trace learn`.")],
    model: Model = USUAL,
    rare: Annotated[
        float, typer.Option(min=0, max=1, help="Tell events that at most this share of usual ones surprises like.")
    ] = 0.002,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """How unusual runs are, event by event, what was expected where one left what is known, and signs of what is
    wrong."""
    import msgspec

    from weft.cli.render import out
    from weft.trace.automata import symbols_of_calls

    habits = _kept(model)
    found = []
    usual = habits.learner.model()
    for name, calls, over in _runs(source, store):
        run = symbols_of_calls(calls)
        score, left = usual.score(run), usual.departures(run, rare)
        signs = [(sign, habits.tails.rare(sign)) for sign in habits.signs(calls) if over or sign.kind != "ended"]
        if not over:  # that it ends here is not said
            left = [one for one in left if one.at < len(run)]
        found.append((name, score, usual.rarity_of_run(score), usual.surprise(run), left, signs))
    if json:
        out(
            [
                {"run": name, "score": score, "rare": share, "bits": bits,
                 "departures": [msgspec.structs.asdict(one) for one in left],
                 "signs": [{**msgspec.structs.asdict(sign), "rare": seldom} for sign, seldom in signs]}
                for name, score, share, bits, left, signs in found
            ]
        )  # fmt: skip
        return
    for name, score, share, _, left, signs in found:
        print(f"{name}  {score:.1f} bits; {share:.0%} of usual runs score as much")
        for one in left:
            print(f"  {_words(one)}")
        for sign, seldom in signs:
            if seldom <= SELDOM and sign.kind in SAID:
                print(f"  {SAID[sign.kind].format(*_numbers(sign))}; {seldom:.0%} of usual runs look so")


@reported
def automaton(
    model: Model = USUAL,
    form: Annotated[
        Literal["text", "dot", "pnml"], typer.Option("--as", help="text; dot for Graphviz, pnml for process mining.")
    ] = "text",
    least: Annotated[float, typer.Option(min=0, max=1, help="Leave less likely edges out of dot.")] = 0.0,
) -> None:
    """Show what was learnt, or write it for another tool."""
    from weft.trace.automata import to_dot, to_pnml

    usual = _kept(model).learner.model()
    print({"text": _summary, "dot": lambda one: to_dot(one, least), "pnml": to_pnml}[form](usual), end="")


def _summary(usual: Automaton) -> str:
    edges = sum(len(vertex.edges) for vertex in usual.vertices)
    runs = usual.vertices[0].passed if usual.vertices else 0
    first = ", ".join(f"{symbol} {share:.0%}" for symbol, share in usual.expected([])[:SHOWN])
    return (
        f"states    {len(usual.vertices):,} with {edges:,} edges\nsymbols   {len(usual.alphabet):,}\n"
        f"contexts  {usual.contexts.size:,}\nbegins    {first or 'nothing was learnt'}; the first state was passed "
        f"{runs:,} times\n"
    )


def _words(one: Departure) -> str:
    expected = ", ".join(f"{symbol} {share:.0%}" for symbol, share in one.expected[:SHOWN])
    return f"#{one.at + 1} {one.symbol}: {one.bits:.1f} bits; expected {expected}"


def _numbers(sign: Sign) -> list[str]:
    return [f"#{at + 1}" for at in sign.at]


def _kept(model: Path) -> Habits:
    from weft.core.errors import BadInput
    from weft.trace.automata import Habits

    try:
        return Habits.load(model.read_bytes())
    except OSError as error:
        raise BadInput(f"can't read {model}: {error.strerror}; `weft trace learn` makes it") from None


def _runs(source: list[str], store: str | None) -> Iterator[tuple[str, list[Call], bool]]:
    """Each run: a name for it, its calls, and whether it is over. The oldest first."""
    for one in source:
        if one.endswith(".jsonl"):
            yield from _of_file(Path(one))
        else:
            yield from _of_store(one, store)


def _of_file(path: Path) -> Iterator[tuple[str, list[Call], bool]]:
    import msgspec

    from weft.core.errors import BadInput
    from weft.trace.automata import Call

    decoder = msgspec.json.Decoder(list[str | Call])
    number = 0
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    calls = [Call(one) if isinstance(one, str) else one for one in decoder.decode(line)]
                    yield f"{path}:{number}", calls, True
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise BadInput(f"{path}, line {number}: not a list of symbols or of calls: {error}") from None


def _of_store(name: str, store: str | None) -> list[tuple[str, list[Call], bool]]:
    from weft.cli.look import ask, find_run
    from weft.store.base import FINISHED
    from weft.trace.automata import calls_of_run

    async def look(opened: Store) -> list[tuple[str, list[Call], bool]]:
        rows = [row for _, row in reversed(await opened.listed(workflow=name, limit=1_000_000))]
        rows = rows or [await find_run(opened, name)]
        return [(row.id, await calls_of_run(opened, row.id), row.state in FINISHED) for row in rows]

    return ask(store, look)
