"""`weft trace graphs` and `weft trace template`: the numbers of graphs, over runs, and against what the text says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli.failures import reported
from weft.cli.look import ask, find_run
from weft.cli.picture import Form
from weft.cli.words import AsJson, StorePlace, Target

if TYPE_CHECKING:
    from weft.store.base import ProcessRow, Store
    from weft.trace.graph.shape import Graph
    from weft.trace.graph.template.template import Template

As = Annotated[Form, typer.Option("--as", help="text, or for another tool: dot, mermaid, svg.")]


@reported
def graphs(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, or the name of a workflow: all its runs.")],
    file: Annotated[
        str | None, typer.Option("--template", metavar="FILE[:WORKFLOW]", help="Compare them with what this says.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many runs of a workflow, the newest.")] = 200,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Measure the graphs that runs made: size, shape, critical path, cost, and how the runs differ."""
    import msgspec

    from weft.cli.load import find
    from weft.cli.picture import metrics_lines, variation_lines
    from weft.cli.render import out
    from weft.trace.graph.measure import measure
    from weft.trace.graph.template.extract import template_of
    from weft.trace.graph.vary import vary

    found = ask(store, lambda opened: _graphs(opened, run, limit))
    template = template_of(find(file)) if file is not None else None
    measured = {id: measure(graph) for id, graph in found.items()}
    varied = vary(list(found.values()), template)
    if json:
        told: dict[str, Any] = {"runs": {id: msgspec.structs.asdict(one) for id, one in measured.items()}}
        told["variation"] = msgspec.structs.asdict(varied)
        out(told if template is None else {**told, "template": _plain(template)})
        return
    for id, one in list(measured.items())[:SHOWN]:
        print(f"run       {id}")
        for name, text in metrics_lines(one):
            print(f"{name:<9} {text}")
        print()
    if len(measured) > SHOWN:
        print(f"… and {len(measured) - SHOWN:,} more runs (--json has them all)\n")
    for name, text in variation_lines(varied):
        print(f"{name:<9} {text}")
    if template is not None:
        _say(template, varied.activation)


SHOWN = 3
"""Runs whose numbers are printed one by one."""


@reported
def template(target: Target, form: As = "text", json: AsJson = False) -> None:
    """Show what a workflow could make, from its text: branches that no run took are in it, too."""
    from weft.cli.load import find
    from weft.cli.picture import drawn, plain_graph
    from weft.cli.render import out
    from weft.trace.graph.template.extract import template_of

    made = template_of(find(target))
    if json:
        out({**plain_graph(made), **_plain(made)})
    elif form != "text":
        print(drawn(made, form), end="")
    else:
        _say(made, {})


async def _graphs(store: Store, wanted: list[str], limit: int) -> dict[str, Graph]:
    from weft.trace.graph.realised import realised
    from weft.trace.reading import read_run

    found: dict[str, ProcessRow] = {}
    for name in wanted:
        runs = [row for row in await store.rows(roots=True, limit=100_000) if row.workflow == name][:limit]
        for row in runs or [await find_run(store, name)]:
            found[row.id] = row
    return {id: await realised(read_run(store, id)) for id in found}


def _plain(template: Template) -> dict[str, Any]:
    import msgspec

    return {
        "determined": template.determined,
        "plasticity": template.plasticity,
        "sites": {id: msgspec.structs.asdict(site) for id, site in template.sites.items()},
    }


def _say(template: Template, activation: dict[str, float]) -> None:
    when = {"static": "by the text", "start": "by the inputs, at the start", "running": "by outcomes, while it runs"}
    how = {
        "none": "nothing: every run makes the same",
        "select": "a run selects among what the text says",
        "generate": "a run may make what the text does not say",
    }
    control = len(template.vertices) - len(template.effects)
    print(f"template  {template.name}: {len(template.effects):,} effects, {control:,} points of control")
    print(f"known     {when[template.determined]}")
    print(f"plastic   {how[template.plasticity]}")
    for one in template.effects:
        site = template.sites[one.id]
        marks = [*(["optional"] if site.optional else []), *(["repeated"] if site.repeated else [])]
        share = f"  in {activation[one.id]:.0%} of the runs" if one.id in activation else ""
        place = one.place.rpartition("/")[2]
        print(f"  {one.label:<28} {place:<24} {', '.join(marks)}{share}".rstrip())
