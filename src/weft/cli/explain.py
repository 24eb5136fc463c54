"""`weft explain`: what is unusual in a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from weft.cli.failures import reported
from weft.cli.look import ask, find_run
from weft.cli.web import PORT
from weft.cli.words import AsJson, RunId, StorePlace

if TYPE_CHECKING:
    from weft.store.base import Store
    from weft.trace.explain import Explanation


@reported
def explain(
    run: RunId,
    earlier: Annotated[int, typer.Option(min=0, help="Compare with at most so many earlier runs, the newest.")] = 1000,
    embedder: Annotated[
        str,
        typer.Option(metavar="MODEL", help="Compare failures by meaning, too: wordllama, minilm; needs weft[embed]."),
    ] = "",
    page: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            envvar="WEFT_PAGE",
            help="Where `weft web` serves this store, for the links. [default: looked for on this machine]",
        ),
    ] = None,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """What is unusual in a run: refused, stale, paused, failed, what a tool said or answered, slower, what moved first,
    another order; and whether its failure was seen before. What is usual, the earlier runs of its workflow say."""
    from weft.cli.render import out

    embed = _embedding(embedder) if embedder else None

    async def look(opened: Store) -> tuple[Explanation, str]:
        from weft.trace.explain import explain, past_of

        row = await find_run(opened, run)
        found = await explain(opened, row.id, past=await past_of(opened, row, limit=earlier, embed=embed))
        return found, opened.url

    found, url = ask(store, look)
    base = f"{page.rstrip('/')}/" if page else served(url)
    if json:
        import msgspec

        findings = [
            msgspec.structs.asdict(one) | {"sureness": one.sureness, "links": [base + link for link in one.links]}
            for one in found.findings
        ]
        out(msgspec.structs.asdict(found) | {"findings": findings})
    else:
        _say(found, base)


def served(url: str) -> str:
    """The address of the page, if `weft web` serves this store here where it does unless told otherwise."""
    import json
    from urllib.request import ProxyHandler, build_opener

    base = f"http://127.0.0.1:{PORT}/"
    try:
        with build_opener(ProxyHandler({})).open(f"{base}api/about", timeout=0.5) as answer:
            return base if json.load(answer).get("store") == url else ""
    except (OSError, ValueError, AttributeError):
        return ""


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


def _say(found: Explanation, base: str) -> None:
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
        more = f" and {len(one.effects) - 1} more" if len(one.effects) > 1 else ""
        print(f"   {one.kind}; {one.sureness}; effect {one.effects[0]}{more}; page {base}{one.links[0]}")
