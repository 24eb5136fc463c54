"""`weft explain`: what is unusual in a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from weft.cli.failures import reported
from weft.cli.look import ask, find_run
from weft.cli.words import AsJson, RunId, StorePlace

if TYPE_CHECKING:
    from weft.store.base import Store
    from weft.trace.explain import Explanation, Finding


@reported
def explain(
    run: RunId,
    earlier: Annotated[int, typer.Option(min=0, help="Compare with at most so many earlier runs, the newest.")] = 1000,
    embedder: Annotated[
        str,
        typer.Option(metavar="MODEL", help="Compare failures by meaning, too: wordllama, minilm; needs weft[embed]."),
    ] = "",
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """What is unusual in a run: refused, stale, paused, failed, other answers, slower, another order; and whether its
    failure was seen before. What is usual, the earlier runs of its workflow say."""
    from weft.cli.render import out

    embed = _embedding(embedder) if embedder else None

    async def look(opened: Store) -> Explanation:
        from weft.trace.explain import explain, past_of

        row = await find_run(opened, run)
        return await explain(opened, row.id, past=await past_of(opened, row, limit=earlier, embed=embed))

    found = ask(store, look)
    if json:
        import msgspec

        findings = [msgspec.structs.asdict(one) | {"links": one.links} for one in found.findings]
        out(msgspec.structs.asdict(found) | {"findings": findings})
    else:
        _say(found)


def _embedding(name: str) -> Callable[[Sequence[str]], Sequence[Sequence[float]]]:
    """A model of embeddings outside of any run. Raises BadInput for an unknown one, and MissingExtra."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    from weft.model.embed import embedder

    model = embedder(name)

    def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        with ThreadPoolExecutor(1) as beside:  # who calls is in an event loop already
            return [*beside.submit(lambda: asyncio.run(model(texts))).result()]

    return embed


def _say(found: Explanation) -> None:
    name = found.workflow.rpartition(".")[2]
    failed = f" and {found.failed:,} that failed" if found.failed else ""
    print(f"{name} {found.run} ({found.state}), compared with {found.compared:,} earlier runs that were done{failed}")
    if found.new_code:
        print("its code is new: no earlier run had this version")
    if not found.findings:
        print("nothing unusual")
    for number, one in enumerate(found.findings, 1):
        print(f"\n{number}. {one.words}")
        for more in one.more:
            print(f"   also: {more}")
        print(f"   {_evidence(one)}")


def _evidence(one: Finding) -> str:
    more = f" and {len(one.effects) - 1} more" if len(one.effects) > 1 else ""
    sure = "the journal says so" if one.sure == 1 else f"sure to {one.sure:.0%}"
    if one.kind == "before":
        sure = f"alike to {one.sure:.0%}"
    return f"{one.kind}; {sure}; effect {one.effects[0]}{more}; page {one.links[0]}"
